//! Signed URLs (spec 07 §4.4).

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::{
    path::Path,
    signer::{SignedUrlOptions, Signer},
};

/// What the bearer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The URL may be read from.
    Get,
    /// The URL may be written to.
    Put,
}

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// Read or write.
    pub verb: Verb,
    /// How long the URL is good for.
    pub expires_in: Duration,
    /// Base64 MD5 that the upload must have.
    pub content_md5: Option<String>,
    /// Whether the upload must also carry that MD5 as metadata `flyteContentMD5`.
    pub add_content_md5_metadata: bool,
}

/// A URL and the headers that its user must send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUrl {
    /// The URL.
    pub url: String,
    /// Header name to value, all part of the signature.
    pub headers: BTreeMap<String, String>,
}

pub(super) async fn sign(
    signer: &dyn Signer,
    scheme: &str,
    path: &Path,
    request: &SignRequest,
) -> object_store::Result<SignedUrl> {
    let mut headers = BTreeMap::new();
    if let (Verb::Put, Some(md5)) = (request.verb, &request.content_md5) {
        headers.insert("Content-MD5".to_owned(), md5.clone());
        if request.add_content_md5_metadata {
            let prefix = match scheme {
                "gs" => "x-goog-meta-",
                "abfs" => "x-ms-meta-",
                _ => "x-amz-meta-",
            };
            headers.insert(format!("{prefix}flyteContentMD5"), md5.clone());
        }
    }
    let method = match request.verb {
        Verb::Get => Method::GET,
        Verb::Put => Method::PUT,
    };
    // Azure's shared-access signatures cover no headers; there they are only told to the client.
    let url = if scheme == "abfs" {
        if request.verb == Verb::Put {
            headers.insert("x-ms-blob-type".to_owned(), "BlockBlob".to_owned());
        }
        signer.signed_url(method, path, request.expires_in).await?
    } else {
        let mut signed_headers = HeaderMap::new();
        for (name, value) in &headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                signed_headers.insert(name, value);
            }
        }
        let mut options = SignedUrlOptions::new();
        options.signed_headers = signed_headers;
        signer
            .signed_url_opts(method, path, request.expires_in, &options)
            .await?
    };
    Ok(SignedUrl {
        url: url.to_string(),
        headers,
    })
}
