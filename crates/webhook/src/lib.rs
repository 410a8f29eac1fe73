//! The secret-injecting mutating webhook.
