//! Locations for uploads (spec 01 §16.1).

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_core::reference;
use flyte_idl::service::{CreateUploadLocationRequest, CreateUploadLocationResponse};
use flyte_platform::blob::{BlobError, Head, Verb};

use super::signing::{sign_failure, sign_request};
use crate::{
    caller::{Action, Caller, Resource},
    context::AdminContext,
    domain::{
        expiry::{self, Limits},
        objects::{self, MAX_KEY},
    },
    error::{Error, Result},
    random::random_text,
    time,
};

pub(crate) async fn upload_location(
    context: &AdminContext,
    caller: &Caller,
    request: CreateUploadLocationRequest,
) -> Result<CreateUploadLocationResponse> {
    if request.project.is_empty() || request.domain.is_empty() {
        return Err(Error::invalid("project and domain are required parameters"));
    }
    context.allow(
        caller,
        Action::Register,
        Resource::of(&request.project, &request.domain),
    )?;
    if request.content_md5.is_empty() && request.filename_root.is_empty() {
        return Err(Error::invalid(
            "content_md5 or filename_root is a required parameter",
        ));
    }
    let config = &context.server.data_proxy.upload;
    if !request.filename.is_empty() && !request.filename_root.is_empty() {
        let location = location(context, &request, &request.filename)?;
        refuse_overwriting(context, &location, &request.content_md5).await?;
    }
    let limits = Limits {
        longest: expiry::signable(config.max_expires_in.to_signed(), &context.blobs.base()),
        now: context.clock.now(),
    };
    let expiry = expiry::of_upload(&request, limits)?;
    let filename = if request.filename.is_empty() {
        random_text(config.default_file_name_length)
    } else {
        request.filename.clone()
    };
    let native_url = location(context, &request, &filename)?;
    let mut sign = sign_request(&expiry, Verb::Put);
    if !request.content_md5.is_empty() {
        sign.content_md5 = Some(BASE64_STANDARD.encode(&request.content_md5));
        sign.add_content_md5_metadata = request.add_content_md5_metadata;
    }
    let signed = context
        .blobs
        .sign(&native_url, &sign)
        .await
        .map_err(sign_failure)?;
    Ok(CreateUploadLocationResponse {
        signed_url: signed.url,
        native_url,
        expires_at: Some(time::to_wire(expiry.at)),
        headers: signed.headers,
    })
}

/// `‹base›/‹prefix›/‹org›/‹project›/‹domain›/‹root or base32 of the md5›/‹file›`, the same for the same
/// content, so that a repeated upload meets its own object.
fn location(
    context: &AdminContext,
    request: &CreateUploadLocationRequest,
    filename: &str,
) -> Result<String> {
    let root = if request.filename_root.is_empty() {
        base32(&request.content_md5)
    } else {
        request.filename_root.clone()
    };
    let prefix = &context.server.data_proxy.upload.storage_prefix;
    let root_field = if request.filename_root.is_empty() {
        "content_md5"
    } else {
        "filename_root"
    };
    let fields = [
        ("org", request.org.as_str()),
        ("project", request.project.as_str()),
        ("domain", request.domain.as_str()),
        (root_field, root.as_str()),
        ("filename", filename),
    ];
    for (field, value) in fields {
        if !value.is_empty() && !reference::is_safe_part(value) {
            return Err(Error::Invalid(format!(
                "{field} {value:?}: '?', '#' and the path segments '.' and '..' are not allowed"
            )));
        }
    }
    let parts: Vec<&str> = std::iter::once(prefix.as_str())
        .chain(fields.map(|(_, value)| value))
        .filter(|part| !part.is_empty())
        .collect();
    let location = reference::construct(&context.blobs.base(), &parts)?;
    let length = objects::key_length(&location)?;
    if length > MAX_KEY
        && let Some((field, value)) = fields.into_iter().max_by_key(|(_, value)| value.len())
    {
        return Err(Error::Invalid(format!(
            "{field} of {} bytes makes a key of {length} bytes, and storage takes {MAX_KEY} at most",
            value.len()
        )));
    }
    Ok(location)
}

async fn refuse_overwriting(context: &AdminContext, location: &str, md5: &[u8]) -> Result<()> {
    let head = context
        .blobs
        .head(location)
        .await
        .map_err(|error| match error {
            error @ BlobError::NameTooLong(_) => Error::Invalid(error.to_string()),
            error => Error::Blob {
                context: format!("failed to look for {location}"),
                source: error.into(),
            },
        })?;
    match head {
        Some(head) if !is_content(&head, md5) => Err(Error::AlreadyExists(format!(
            "file already exists at location [{location}], specify a matching hash if you wish to rewrite"
        ))),
        _ => Ok(()),
    }
}

/// Whether an object has this MD5, by its declared one or, without that, by its entity tag.
fn is_content(head: &Head, md5: &[u8]) -> bool {
    if md5.is_empty() {
        return false;
    }
    let encoded = BASE64_STANDARD.encode(md5);
    if !head.content_md5.is_empty() {
        return head.content_md5 == encoded;
    }
    let mut hex = String::with_capacity(md5.len() * 2);
    for byte in md5 {
        // Writing to a String does not fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
    }
    [encoded, hex, base32(md5)].contains(&head.etag)
}

/// RFC 4648 base32, upper case and padded.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut block = [0_u8; 8];
        for (target, byte) in block.iter_mut().skip(3).zip(chunk) {
            *target = *byte;
        }
        let bits = u64::from_be_bytes(block);
        let digits = (chunk.len() * 8).div_ceil(5);
        for position in 0..8 {
            let digit = usize::try_from((bits >> (35 - 5 * position)) & 31).unwrap_or_default();
            let known = ALPHABET.get(digit).copied().unwrap_or(b'=');
            text.push(char::from(if position < digits { known } else { b'=' }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_prefixes_are_padded_base32() {
        let md5 = [
            0x5d, 0x41, 0x40, 0x2a, 0xbc, 0x4b, 0x2a, 0x76, 0xb9, 0x71, 0x9d, 0x91, 0x10, 0x17,
            0xc5, 0x92,
        ];
        assert_eq!(base32(&md5), "LVAUAKV4JMVHNOLRTWIRAF6FSI======");
    }
}
