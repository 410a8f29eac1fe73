//! The S3 endpoint as an HTTP service: signatures are verified before anything else is read.

use std::sync::Arc;

use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::s3::BlobFolder;
use crate::s3::endpoint::Endpoint;
use crate::s3::messages::explained;
use crate::s3::whole::{Fault, WHOLE_BYTES, Whole, noting};

/// The one key that may use an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret key; it signs and is never sent.
    pub secret_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// `<bucket>.localhost` names a bucket, which is where clients go by default whose endpoint is `localhost`; other hosts do not.
struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        Ok(match name.strip_suffix(".localhost") {
            Some(bucket) => VirtualHost::new("localhost").with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

/// Knows one key. Of any other, S3 says that it does not exist.
struct OneKey(Credentials);

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.access_key {
            Ok(SecretKey::from(self.0.secret_key.as_str()))
        } else {
            Err(S3Error::with_message(
                S3ErrorCode::InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records.",
            ))
        }
    }
}

/// S3 over a [`BlobFolder`], as a tower service. Path-style requests; signature version 4 in headers, in presigned URLs and
/// chunk by chunk, and version 2, which boto3 still takes for presigned URLs.
#[derive(Debug, Clone)]
pub struct S3Endpoint {
    service: S3Service,
}

impl S3Endpoint {
    /// An endpoint that knows one key.
    #[must_use]
    pub fn new(folder: Arc<BlobFolder>, credentials: &Credentials) -> Self {
        let mut builder = S3ServiceBuilder::new(Endpoint { folder });
        builder.set_auth(OneKey(credentials.clone()));
        builder.set_host(Hosts);
        let mut config = S3Config::default();
        config.xml_max_body_size = WHOLE_BYTES;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        Self {
            service: builder.build(),
        }
    }

    /// The answer to a request that may not be made.
    pub(crate) fn denied(why: &str) -> Response<Body> {
        let why = why
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        access_denied(&format!("<Message>{why}</Message>"))
    }
}

impl<B> tower::Service<Request<B>> for S3Endpoint
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = s3s::HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.service.clone();
        Box::pin(async move {
            if is_form(request.method(), request.headers()) {
                return Ok(S3Endpoint::denied(
                    "uploads by forms are not taken here: a page of any site could send one; use PUT",
                ));
            }
            if let Some(refused) = unsupported(request.uri().query(), request.headers()) {
                return Ok(refused);
            }
            if let Some(refused) = expiry(request.uri().query()) {
                return Ok(refused);
            }
            if let Some(name) = unsigned_header(request.uri().query(), request.headers()) {
                return Ok(unsigned(&name));
            }
            let whole = Whole::of(request.method(), request.uri(), request.headers());
            let request = request.map(|body| match &whole {
                Some(whole) => s3s::Body::http_body_unsync(whole.seen(body)),
                None => s3s::Body::http_body_unsync(body),
            });
            let (answer, begun) = noting(service.call(request)).await;
            let mut answer = answer?.map(Body::new);
            if answer.status() == StatusCode::INTERNAL_SERVER_ERROR
                && let Some(fault) = whole.and_then(|whole| whole.fault(begun))
            {
                return Ok(refused(fault));
            }
            // The library says so for GET alone.
            if answer.status() == StatusCode::OK
                && answer.headers().contains_key(header::CONTENT_RANGE)
            {
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            Ok(explained(answer).await)
        })
    }
}

/// Seven days, the longest that a presigned URL of signature version 4 is good for.
const LONGEST_EXPIRY: i64 = 604_800;

/// What is wrong with the time that a presigned URL is good for.
fn expiry(query: Option<&str>) -> Option<Response<Body>> {
    let mut query = url::form_urlencoded::parse(query?.as_bytes());
    let (_, seconds) = query.find(|(name, _)| name == "X-Amz-Expires")?;
    let message = match seconds.parse::<i64>() {
        Err(_) => "X-Amz-Expires should be a number",
        Ok(seconds) if seconds < 0 => "X-Amz-Expires must be non-negative",
        Ok(seconds) if seconds > LONGEST_EXPIRY => {
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 \
             seconds"
        }
        Ok(_) => return None,
    };
    let code = "AuthorizationQueryParametersError";
    Some(error(StatusCode::BAD_REQUEST, code, message))
}

/// A header that changes what a signed request does and is not signed. Anybody on the way could have added it, so S3 refuses
/// it. The hash of the body is exempt: it is compared with the body.
fn unsigned_header(query: Option<&str>, headers: &HeaderMap) -> Option<String> {
    let mut in_query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == "X-Amz-SignedHeaders");
    let in_header = || {
        let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (_, rest) = authorization.split_once("SignedHeaders=")?;
        rest.split(',')
            .next()
            .map(|signed| signed.trim().to_owned())
    };
    let signed = in_query
        .next()
        .map(|(_, value)| value.into_owned())
        .or_else(in_header)?;
    let signed: Vec<String> = signed.split(';').map(str::to_ascii_lowercase).collect();
    let names = headers.keys().map(http::HeaderName::as_str);
    let mut unsigned = names.filter(|name| {
        name.starts_with("x-amz-")
            && *name != "x-amz-content-sha256"
            && !signed.iter().any(|known| known == name)
    });
    unsigned.next().map(str::to_owned)
}

/// What only a form sends: a presigned POST, or fields. Requests of clients with either type are signed in a header, which
/// a form cannot have.
fn is_form(method: &Method, headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes)
        .to_ascii_lowercase();
    method == Method::POST
        && (kind.starts_with(b"multipart/form-data")
            || (kind.starts_with(b"application/x-www-form-urlencoded")
                && !headers.contains_key(header::AUTHORIZATION)))
}

/// What would be lost in silence: keys that the client encrypts by, and versions that are not kept.
fn unsupported(query: Option<&str>, headers: &HeaderMap) -> Option<Response<Body>> {
    const ENCRYPTION: &str = "server-side-encryption-customer";
    let encrypts = headers
        .keys()
        .any(|name| name.as_str().starts_with("x-amz-") && name.as_str().contains(ENCRYPTION));
    if encrypts {
        let message = "encryption with keys of the client (SSE-C) is not supported: objects are kept as they come";
        return Some(error(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            message,
        ));
    }
    let mut versions = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == "versionId");
    let known = versions.all(|(_, version)| matches!(&*version, "" | "null"));
    (!known).then(|| {
        let message = "Invalid version id specified";
        error(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    })
}

/// The answer to a body that is not what its request says.
fn refused(fault: Fault) -> Response<Body> {
    let (code, message) = match fault {
        Fault::Incomplete => (
            "IncompleteBody",
            "You did not provide the number of bytes specified by the Content-Length HTTP header.",
        ),
        Fault::Late => (
            "RequestTimeout",
            "Your socket connection to the server was not read from or written to within the timeout period.",
        ),
        Fault::TooLong => ("MaxMessageLengthExceeded", "Your request was too large."),
        Fault::Digest => (
            "BadDigest",
            "The provided x-amz-content-sha256 header does not match what was computed.",
        ),
        Fault::Chunks => (
            "InvalidRequest",
            "The body is not in the chunks that x-amz-content-sha256 announces, or a chunk's signature is not that of its bytes.",
        ),
    };
    error(StatusCode::BAD_REQUEST, code, message)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let mut answer = access_denied(&format!("<Message>{message}</Message>"));
    *answer.body_mut() = Body::from(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    ));
    *answer.status_mut() = status;
    answer
}

fn unsigned(name: &str) -> Response<Body> {
    access_denied(&format!(
        "<Message>There were headers present in the request which were not signed</Message>\
         <HeadersNotSigned>{name}</HeadersNotSigned>"
    ))
}

fn access_denied(details: &str) -> Response<Body> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>{details}</Error>"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_url_is_good_for_a_week_at_most() {
        for (seconds, refused) in [
            ("0", false),
            ("604800", false),
            ("604801", true),
            ("9999999999999999999999", true),
            ("-1", true),
            ("week", true),
            ("", true),
        ] {
            let query = format!("X-Amz-Date=1&X-Amz-Expires={seconds}");
            assert_eq!(expiry(Some(&query)).is_some(), refused, "{seconds}");
        }
        assert!(expiry(Some("prefix=X-Amz-Expires")).is_none());
        assert!(expiry(None).is_none());
    }

    #[test]
    fn every_amz_header_has_to_be_signed() {
        let presigned = "X-Amz-SignedHeaders=content-md5%3Bhost%3Bx-amz-meta-a";
        let authorization = "AWS4-HMAC-SHA256 Credential=minio/20260101/us-east-1/s3/aws4_request, \
                             SignedHeaders=host;x-amz-date, Signature=00";
        for (query, signed, headers, expected) in [
            (
                Some(presigned),
                None,
                vec!["content-md5", "x-amz-meta-a"],
                None,
            ),
            (
                Some(presigned),
                None,
                vec!["x-amz-meta-b"],
                Some("x-amz-meta-b"),
            ),
            (
                Some(presigned),
                None,
                vec!["x-amz-content-sha256", "content-type"],
                None,
            ),
            (None, Some(authorization), vec!["x-amz-date"], None),
            (
                None,
                Some(authorization),
                vec!["x-amz-acl"],
                Some("x-amz-acl"),
            ),
            (None, None, vec!["x-amz-acl"], None),
        ] {
            let mut map = HeaderMap::new();
            for name in &headers {
                map.insert(
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static("v"),
                );
            }
            if let Some(signed) = signed {
                map.insert(header::AUTHORIZATION, HeaderValue::from_static(signed));
            }
            assert_eq!(
                unsigned_header(query, &map).as_deref(),
                expected,
                "{headers:?}"
            );
        }
    }
}
