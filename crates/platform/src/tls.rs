//! The process's TLS provider.

/// Makes ring the crypto provider of this process. Idempotent; called by everything here that opens TLS and by
/// each `main`, because libraries take the process default and panic without one.
pub fn install_crypto_provider() {
    // An error means that a provider is already there, which is all we want.
    drop(rustls::crypto::ring::default_provider().install_default());
}
