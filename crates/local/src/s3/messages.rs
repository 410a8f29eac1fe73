//! Texts of S3's errors. The library answers some by their code alone, of which clients say "Unknown" (boto3) or nothing.

use axum::body::Body;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, Limited};

/// The longest error that is looked into, in bytes; larger bodies are none.
const LONGEST: usize = 64 << 10;

/// The same answer; an error without a text gets that of its code.
pub(crate) async fn explained(answer: Response<Body>) -> Response<Body> {
    let is_error = answer.status().is_client_error() || answer.status().is_server_error();
    if !is_error {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    // The errors of the library and of this endpoint are short texts in memory.
    let body = match Limited::new(body, LONGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::warn!(%error, "the text of an error of S3 cannot be read");
            return Response::from_parts(head, Body::empty());
        }
    };
    let Some(explained) = std::str::from_utf8(&body).ok().and_then(explain) else {
        return Response::from_parts(head, Body::from(body));
    };
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(explained.len()));
    Response::from_parts(head, Body::from(explained))
}

/// The error with a text, if it has none.
fn explain(error: &str) -> Option<String> {
    const CODE: (&str, &str) = ("<Code>", "</Code>");
    if error.contains("<Message>") {
        return None;
    }
    let (before, rest) = error.split_once(CODE.0)?;
    let (code, after) = rest.split_once(CODE.1)?;
    let message = message(code);
    Some(format!(
        "{before}{}{code}{}<Message>{message}</Message>{after}",
        CODE.0, CODE.1
    ))
}

/// What a code means and, where somebody can do something, what that is. No text has letters that XML escapes.
fn message(code: &str) -> String {
    let known = match code {
        "AccessDenied" => "Access Denied",
        "BucketAlreadyOwnedByYou" => {
            "Your previous request to create the named bucket succeeded and you already own it: use it as it is."
        }
        "InvalidArgument" => "An argument of the request is not valid.",
        "InvalidBucketName" => {
            "The specified bucket is not valid: its name has 3 to 63 letters a-z, digits, '-' and '.'."
        }
        "InvalidDigest" => "The Content-MD5 you specified is not valid.",
        "InvalidURI" => "Could not parse the specified URI.",
        "KeyTooLongError" => "Your key is too long: a key has 1 to 1024 bytes.",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published schema."
        }
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "NotImplemented" => "The operation is not implemented by the embedded S3 endpoint.",
        "PreconditionFailed" => "At least one of the preconditions you specified did not hold.",
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. Check your key and signing method."
        }
        other => return format!("The request was refused: {other}."),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_a_text_gets_one() {
        for (error, expected) in [
            (
                "<Error><Code>AccessDenied</Code></Error>",
                Some("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
            ),
            (
                "<Error><Code>Odd</Code><Resource>/b</Resource></Error>",
                Some(
                    "<Error><Code>Odd</Code><Message>The request was refused: Odd.</Message><Resource>/b</Resource></Error>",
                ),
            ),
            (
                "<Error><Code>Odd</Code><Message>said</Message></Error>",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(explain(error).as_deref(), expected, "{error}");
        }
    }
}
