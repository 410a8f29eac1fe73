//! Signatures of the store.

use flyte_platform::{
    Chain,
    blob::{BlobError, SignRequest, Verb},
};

use crate::{domain::expiry::Expiry, error::Error};

/// What the store is asked to sign.
pub(super) fn sign_request(expiry: &Expiry, verb: Verb) -> SignRequest {
    SignRequest {
        verb,
        expires_in: expiry.length.unsigned_abs(),
        content_md5: None,
        add_content_md5_metadata: false,
    }
}

/// What a refusal of the store means to the client.
pub(super) fn sign_failure(error: BlobError) -> Error {
    match error {
        BlobError::ForeignContainer { .. } | BlobError::Reference { .. } => Error::Invalid(
            format!("failed to create a signed url. Error: {}", Chain(&error)),
        ),
        error => Error::Blob {
            context: format!("failed to create a signed url. Error: {error}"),
            source: error.into(),
        },
    }
}
