//! Lists of objects, in both versions of the operation.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::dto::{ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::ListRequest;
use crate::s3::endpoint::Endpoint;
use crate::s3::wire::{Texts, limit};

impl Endpoint {
    pub(super) async fn list(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let (max_keys, limit) = limit(input.max_keys)?;
        let list = ListRequest {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: input.marker.clone().unwrap_or_default(),
            limit,
        };
        let bucket = input.bucket.clone();
        let page = self
            .blocking(move |folder| folder.list(&bucket, &list))
            .await?;
        let texts = Texts::of(input.encoding_type.as_ref());
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: texts.optional(input.prefix.as_ref()),
            marker: texts.optional(input.marker.as_ref()),
            delimiter: texts.optional(input.delimiter.as_ref()),
            max_keys: Some(max_keys),
            is_truncated: Some(limit > 0 && page.next.is_some()),
            next_marker: texts.optional(page.next.as_ref()),
            contents: Some(texts.objects(&page)),
            common_prefixes: Some(texts.prefixes(&page)),
            encoding_type: texts.encoding(),
            ..ListObjectsOutput::default()
        }))
    }

    pub(super) async fn list_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let (max_keys, limit) = limit(input.max_keys)?;
        let after = match &input.continuation_token {
            Some(token) => BASE64_URL_SAFE_NO_PAD
                .decode(token)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| {
                    S3Error::with_message(
                        S3ErrorCode::InvalidArgument,
                        "The continuation token provided is incorrect",
                    )
                })?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let list = ListRequest {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after,
            limit,
        };
        let bucket = input.bucket.clone();
        let page = self
            .blocking(move |folder| folder.list(&bucket, &list))
            .await?;
        let texts = Texts::of(input.encoding_type.as_ref());
        let truncated = limit > 0 && page.next.is_some();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: texts.optional(input.prefix.as_ref()),
            delimiter: texts.optional(input.delimiter.as_ref()),
            start_after: texts.optional(input.start_after.as_ref()),
            max_keys: Some(max_keys),
            key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
            is_truncated: Some(truncated),
            continuation_token: input.continuation_token,
            next_continuation_token: page
                .next
                .as_ref()
                .filter(|_| truncated)
                .map(|next| BASE64_URL_SAFE_NO_PAD.encode(next)),
            contents: Some(texts.objects(&page)),
            common_prefixes: Some(texts.prefixes(&page)),
            encoding_type: texts.encoding(),
            ..ListObjectsV2Output::default()
        }))
    }
}
