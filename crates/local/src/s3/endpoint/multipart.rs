//! Objects that are uploaded in parts.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyPartResult, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Part as PartOutput, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::conditions::write_if;
use crate::s3::endpoint::Endpoint;
use crate::s3::wire::{etag, limit, metadata, own_encoding, part_number, source, time};
use crate::s3::{Attributes, BlobError, Part};

impl Endpoint {
    pub(super) async fn begin_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut input = request.input;
        let attributes = attributes_of!(input);
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let id = self
            .blocking(move |folder| folder.begin_upload(&bucket, &key, attributes))
            .await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn receive_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let number = part_number(request.input.part_number)?;
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let id = request.input.upload_id.clone();
        let body = request.input.body.take();
        let draft = self.receive(&mut request, body).await?;
        let info = self
            .blocking(move |folder| folder.commit_part(draft, (&bucket, &key), &id, number))
            .await?;
        Ok(S3Response::new(
            with_checksums!(UploadPartOutput, &info, true, {
                e_tag: Some(etag(&info)),
            }),
        ))
    }

    pub(super) async fn copy_part(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        let number = part_number(input.part_number)?;
        let (from_bucket, from_key) = source(&input.copy_source)?;
        let range = match &input.copy_source_range {
            None => None,
            Some(range) => Some(
                s3s::dto::Range::parse(range)
                    .map_err(|_| S3Error::new(S3ErrorCode::InvalidArgument))?,
            ),
        };
        let info = self
            .blocking(move |folder| {
                let (file, info) = folder.open_object(&from_bucket, &from_key)?;
                let range = range.map_or(Ok(0..info.size), |range| range.check(info.size));
                let Ok(range) = range else {
                    return Err(BlobError::Part(number));
                };
                let mut draft = folder.begin()?;
                draft.copy_from(file, range)?;
                folder.commit_part(draft, (&input.bucket, &input.key), &input.upload_id, number)
            })
            .await?;
        let result = CopyPartResult {
            e_tag: Some(etag(&info)),
            last_modified: Some(time(info.modified)),
            ..CopyPartResult::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        }))
    }

    pub(super) async fn complete_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let condition = write_if(input.if_match, input.if_none_match.as_ref())?;
        let mut parts = Vec::new();
        for part in input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default()
        {
            let number = part_number(part.part_number.unwrap_or(0))?;
            parts.push(Part {
                number,
                etag: part.e_tag.map(ETag::into_value).unwrap_or_default(),
            });
        }
        if parts.is_empty() {
            return Err(S3Error::new(S3ErrorCode::MalformedXML));
        }
        let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id);
        let info = self
            .blocking(move |folder| {
                folder.complete_upload((&bucket, &key), &id, &parts, &condition)
            })
            .await?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(etag(&info)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn abort_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput {
            bucket,
            key,
            upload_id,
            ..
        } = request.input;
        self.blocking(move |folder| folder.abort_upload((&bucket, &key), &upload_id))
            .await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(super) async fn list_uploaded_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let (max_parts, limit) = limit(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let (bucket, key, id) = (
            input.bucket.clone(),
            input.key.clone(),
            input.upload_id.clone(),
        );
        let found = self
            .blocking(move |folder| folder.parts((&bucket, &key), &id))
            .await?;
        let mut rest = found
            .into_iter()
            .filter(|(number, _)| i64::from(*number) > i64::from(after));
        let parts: Vec<PartOutput> = rest
            .by_ref()
            .take(limit)
            .map(|(number, info)| PartOutput {
                part_number: i32::try_from(number).ok(),
                e_tag: Some(etag(&info)),
                size: i64::try_from(info.size).ok(),
                last_modified: Some(time(info.modified)),
                ..PartOutput::default()
            })
            .collect();
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: Some(max_parts),
            part_number_marker: Some(after),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            is_truncated: Some(rest.next().is_some()),
            parts: Some(parts),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) async fn list_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let bucket = input.bucket.clone();
        let prefix = input.prefix.clone().unwrap_or_default();
        let found = self
            .blocking(move |folder| folder.pending_uploads(&bucket))
            .await?;
        let uploads = found
            .into_iter()
            .filter(|(_, upload)| upload.key.starts_with(&prefix));
        let uploads = uploads.map(|(id, upload)| MultipartUpload {
            key: Some(upload.key),
            upload_id: Some(id),
            initiated: Some(time(upload.begun)),
            ..MultipartUpload::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            is_truncated: Some(false),
            uploads: Some(uploads.collect()),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}
