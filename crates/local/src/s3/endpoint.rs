//! The operations of S3 over the folder: buckets and whole objects here, lists and uploads in parts in their own files.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, BucketLocationConstraint,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput,
    CopyObjectResult, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETagCondition,
    GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, StreamingBlob, UploadPartCopyInput, UploadPartCopyOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::checks::Checks;
use crate::s3::conditions::{ReadIf, Selected, condition_of_copy, delete_if, write_if};
use crate::s3::whole::operation_begins;
use crate::s3::wire::{
    body_of, broken_body, check_version, etag, metadata, own_encoding, source, time,
};
use crate::s3::{Attributes, BlobError, BlobFolder, Draft, Info, WriteIf};

#[macro_use]
mod macros;
mod listing;
mod multipart;

/// Bytes that are hashed and written, or read, at once.
const CHUNK: usize = 1 << 20;

/// The operations of S3.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) folder: Arc<BlobFolder>,
}

impl Endpoint {
    /// Runs something that blocks, on a thread for that.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&BlobFolder) -> Result<T, BlobError> + Send + 'static,
    ) -> S3Result<T> {
        operation_begins();
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        Ok(done.map_err(S3Error::internal_error)??)
    }

    /// Writes a body to a draft, checking what the request announces about it.
    async fn receive<T>(
        &self,
        request: &mut S3Request<T>,
        body: Option<StreamingBlob>,
    ) -> S3Result<Draft> {
        let mut checks = Checks::of(&request.headers, request.trailing_headers.take())?;
        let mut draft = self.blocking(BlobFolder::begin).await?;
        let Some(mut body) = body else {
            return finish(draft, checks);
        };
        let mut waiting: Vec<Bytes> = Vec::new();
        let mut size = 0;
        loop {
            let next = body
                .next()
                .await
                .transpose()
                .map_err(|error| broken_body(&*error))?;
            let over = next.is_none();
            if let Some(bytes) = next {
                size += bytes.len();
                waiting.push(bytes);
            }
            if size >= CHUNK || (over && size > 0) {
                size = 0;
                let bytes = std::mem::take(&mut waiting);
                (draft, checks) = self
                    .blocking(move |_| {
                        for bytes in bytes {
                            draft.write(&bytes)?;
                            checks.update(&bytes);
                        }
                        Ok((draft, checks))
                    })
                    .await?;
            }
            if over {
                return finish(draft, checks);
            }
        }
    }

    async fn put<T>(
        &self,
        request: &mut S3Request<T>,
        body: Option<StreamingBlob>,
        (bucket, key): (String, String),
        (attributes, condition): (Attributes, WriteIf),
    ) -> S3Result<Info> {
        let draft = self.receive(request, body).await?;
        self.blocking(move |folder| folder.commit(draft, (&bucket, &key), attributes, &condition))
            .await
    }
}

/// The one region; signatures of any are taken.
const REGION: &str = "us-east-1";

fn finish(mut draft: Draft, checks: Checks) -> S3Result<Draft> {
    let verified = checks.verify(draft.md5())?;
    draft.set_checksums(verified);
    Ok(draft)
}

#[async_trait::async_trait]
impl S3 for Endpoint {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket;
        let location = Some(format!("/{bucket}"));
        if self
            .blocking(move |folder| folder.create_bucket(&bucket))
            .await?
        {
            Ok(S3Response::new(CreateBucketOutput { location }))
        } else {
            Err(S3Error::new(S3ErrorCode::BucketAlreadyOwnedByYou))
        }
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.blocking(move |folder| folder.check_bucket(&request.input.bucket))
            .await?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(REGION.to_owned()),
            ..HeadBucketOutput::default()
        }))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.blocking(move |folder| folder.delete_bucket(&request.input.bucket))
            .await?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn list_buckets(
        &self,
        _: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.blocking(BlobFolder::buckets).await?;
        let buckets = buckets.into_iter().map(|(name, made)| Bucket {
            name: Some(name),
            creation_date: Some(time(made)),
            ..Bucket::default()
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..ListBucketsOutput::default()
        }))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.blocking(move |folder| folder.check_bucket(&request.input.bucket))
            .await?;
        // The first region has no name.
        let location_constraint = Some(BucketLocationConstraint::from(String::new()));
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint,
        }))
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let body = request.input.body.take();
        let input = &mut request.input;
        let place = (input.bucket.clone(), input.key.clone());
        let condition = write_if(input.if_match.take(), input.if_none_match.as_ref())?;
        let attributes = attributes_of!(input);
        let info = self
            .put(&mut request, body, place, (attributes, condition))
            .await?;
        Ok(S3Response::new(
            with_checksums!(PutObjectOutput, &info, true, {
                e_tag: Some(etag(&info)),
            }),
        ))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let (file, info) = self
            .blocking(move |folder| folder.open_object(&bucket, &key))
            .await?;
        let condition = ReadIf {
            matches: input.if_match.as_ref(),
            none_matches: input.if_none_match.as_ref(),
            modified_since: input.if_modified_since.as_ref(),
            unmodified_since: input.if_unmodified_since.as_ref(),
        };
        condition.check(&info)?;
        let part = Selected::of(&info, input.range.as_ref(), input.part_number)?;
        // A checksum is that of the whole object.
        let included = input.checksum_mode.is_some() && part.content_range.is_none();
        let output = described!(GetObjectOutput, &info, included, {
            content_length: i64::try_from(part.range.end - part.range.start).ok(),
            content_range: part.content_range,
            parts_count: part.count,
            body: Some(body_of(file, part.range)),
        });
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let info = self
            .blocking(move |folder| folder.head(&bucket, &key))
            .await?;
        let condition = ReadIf {
            matches: input.if_match.as_ref(),
            none_matches: input.if_none_match.as_ref(),
            modified_since: input.if_modified_since.as_ref(),
            unmodified_since: input.if_unmodified_since.as_ref(),
        };
        condition.check(&info)?;
        let part = Selected::of(&info, input.range.as_ref(), input.part_number)?;
        let included = input.checksum_mode.is_some() && part.content_range.is_none();
        let output = described!(HeadObjectOutput, &info, included, {
            content_length: i64::try_from(part.range.end - part.range.start).ok(),
            content_range: part.content_range,
            parts_count: part.count,
        });
        Ok(S3Response::new(output))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let condition = delete_if(
            input.if_match.as_ref(),
            input.if_match_size,
            input.if_match_last_modified_time.as_ref(),
        );
        self.blocking(move |folder| folder.delete_if(&input.bucket, &input.key, &condition))
            .await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        let quiet = delete.quiet == Some(true);
        let results = self
            .blocking(move |folder| {
                folder.check_bucket(&bucket)?;
                let deleted = delete.objects.into_iter().map(|object| {
                    let etag = object.e_tag.map(ETagCondition::ETag);
                    let condition = delete_if(
                        etag.as_ref(),
                        object.size,
                        object.last_modified_time.as_ref(),
                    );
                    let version = check_version(object.version_id.as_deref());
                    let result = version.and_then(|()| {
                        let deleted = folder.delete_if(&bucket, &object.key, &condition);
                        deleted.map_err(S3Error::from)
                    });
                    (object.key, result)
                });
                Ok(deleted.collect::<Vec<_>>())
            })
            .await?;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, result) in results {
            match result {
                Ok(_) => deleted.push(DeletedObject {
                    key: Some(key),
                    ..DeletedObject::default()
                }),
                Err(error) => {
                    errors.push(s3s::dto::Error {
                        key: Some(key),
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                        ..s3s::dto::Error::default()
                    });
                }
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: if quiet { None } else { Some(deleted) },
            errors: if errors.is_empty() {
                None
            } else {
                Some(errors)
            },
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let mut input = request.input;
        let (from_bucket, from_key) = source(&input.copy_source)?;
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == "REPLACE");
        if !replace && from_bucket == input.bucket && from_key == input.key {
            let message = "This copy request is illegal because it is trying to copy an object to itself without changing \
                           the object's metadata";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
        }
        let (bucket, key) = (from_bucket.clone(), from_key.clone());
        let info = self
            .blocking(move |folder| folder.head(&bucket, &key))
            .await?;
        let condition = ReadIf {
            matches: input.copy_source_if_match.as_ref(),
            none_matches: input.copy_source_if_none_match.as_ref(),
            modified_since: input.copy_source_if_modified_since.as_ref(),
            unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
        };
        match condition.check(&info) {
            Err(error) if *error.code() == S3ErrorCode::NotModified => {
                return Err(S3Error::new(S3ErrorCode::PreconditionFailed));
            }
            other => other?,
        }
        let attributes = replace.then(|| attributes_of!(input));
        let write = condition_of_copy(&request.headers)?;
        let (bucket, key) = (input.bucket, input.key);
        let copied = self
            .blocking(move |folder| {
                folder.copy(
                    (&from_bucket, &from_key),
                    (&bucket, &key),
                    attributes,
                    &write,
                )
            })
            .await?;
        let result = CopyObjectResult {
            e_tag: Some(etag(&copied)),
            last_modified: Some(time(copied.modified)),
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        }))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        self.list(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.list_v2(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.begin_upload(request).await
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.receive_part(request).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        self.copy_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.complete_upload(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.abort_upload(request).await
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.list_uploaded_parts(request).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.list_uploads(request).await
    }
}
