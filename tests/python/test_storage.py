"""Stock boto3 and s3fs against the bucket."""

import base64
import datetime
import hashlib
import io
import os
import urllib.error
import urllib.request

import boto3
import pytest
import s3fs
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "my-s3-bucket"
KEYS = {"aws_access_key_id": "minio", "aws_secret_access_key": "miniostorage", "region_name": "us-east-1"}
PART = 5 * 1024 * 1024


def connect(backend, signature_version="s3v4", **changes):
    config = Config(retries={"total_max_attempts": 1}, signature_version=signature_version)
    return boto3.client("s3", endpoint_url=backend.s3, config=config, **{**KEYS, **changes})


@pytest.fixture(scope="module")
def s3(backend):
    return connect(backend)


@pytest.fixture
def folder(request, s3):
    """A prefix of the test's own; what is below it is deleted at the end."""
    prefix = f"storage/{request.node.name}/"
    yield prefix
    for key in keys(s3, prefix):
        s3.delete_object(Bucket=BUCKET, Key=key)


@pytest.fixture
def files(backend):
    return s3fs.S3FileSystem(
        key="minio", secret="miniostorage", endpoint_url=backend.s3, client_kwargs={"region_name": "us-east-1"},
        skip_instance_cache=True, use_listings_cache=False,
    )


def keys(s3, prefix, **options):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix, **options)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def refused(call):
    """Status and code that a call is refused with."""
    with pytest.raises(ClientError) as raised:
        call()
    response = raised.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def fetch(url, method="GET", body=None, headers=None):
    """Status of a plain HTTP request, and its body."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_an_object_keeps_what_was_said_about_it(s3, folder):
    body = os.urandom(1000)
    s3.put_object(
        Bucket=BUCKET, Key=f"{folder}a b", Body=body, Metadata={"k": "v"}, ContentType="text/plain", CacheControl="no-store",
        ContentDisposition="inline", ContentEncoding="identity", ContentLanguage="de",
    )
    head = s3.head_object(Bucket=BUCKET, Key=f"{folder}a b")
    assert head["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert (head["ContentLength"], head["Metadata"], head["ContentType"]) == (1000, {"k": "v"}, "text/plain")
    assert (head["CacheControl"], head["ContentDisposition"], head["ContentLanguage"]) == ("no-store", "inline", "de")
    assert s3.get_object(Bucket=BUCKET, Key=f"{folder}a b")["Body"].read() == body


@pytest.mark.parametrize(
    ("asked", "first", "last"), [("bytes=10-19", 10, 19), ("bytes=990-", 990, 999), ("bytes=-5", 995, 999), ("bytes=5-5000", 5, 999)]
)
def test_ranges_are_cut_out(s3, folder, asked, first, last):
    body = os.urandom(1000)
    s3.put_object(Bucket=BUCKET, Key=f"{folder}x", Body=body)
    answer = s3.get_object(Bucket=BUCKET, Key=f"{folder}x", Range=asked)
    assert answer["Body"].read() == body[first : last + 1]
    assert answer["ContentRange"] == f"bytes {first}-{last}/1000"


def test_a_range_behind_the_end_is_refused(s3, folder):
    s3.put_object(Bucket=BUCKET, Key=f"{folder}x", Body=b"short")
    assert refused(lambda: s3.get_object(Bucket=BUCKET, Key=f"{folder}x", Range="bytes=10-")) == (416, "InvalidRange")


@pytest.mark.parametrize(
    "key",
    ["a", "a/b", "a//b", "../up", "a/../../up", "/lead", "trail/", "ünï/ç😀", "%2e%2e/x", "sp ace+plus&amp=;'\"", "long/" + "n" * 300],
)
def test_any_key_comes_back_as_it_went(s3, folder, key):
    for name in (key, f"{key}/below"):
        s3.put_object(Bucket=BUCKET, Key=folder + name, Body=name.encode())
    assert keys(s3, folder) == sorted([folder + key, f"{folder}{key}/below"], key=str.encode)
    assert s3.get_object(Bucket=BUCKET, Key=folder + key)["Body"].read() == key.encode()


def test_lists_go_on_where_they_stopped_and_group_by_delimiter(s3, folder):
    names = [f"{folder}{group}/{index}" for group in "abc" for index in range(3)] + [f"{folder}file"]
    for name in names:
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"")
    assert keys(s3, folder, PaginationConfig={"PageSize": 2}) == names
    page = s3.list_objects_v2(Bucket=BUCKET, Prefix=folder, Delimiter="/", MaxKeys=2)
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == [f"{folder}a/", f"{folder}b/"]
    rest = s3.list_objects_v2(
        Bucket=BUCKET, Prefix=folder, Delimiter="/", ContinuationToken=page["NextContinuationToken"]
    )
    assert [entry["Prefix"] for entry in rest["CommonPrefixes"]] == [f"{folder}c/"]
    assert [entry["Key"] for entry in rest["Contents"]] == [f"{folder}file"]
    assert not rest["IsTruncated"]
    assert refused(lambda: s3.list_objects_v2(Bucket="no-such-bucket")) == (404, "NoSuchBucket")


def test_a_large_file_goes_up_in_parts_and_comes_down_whole(s3, folder):
    body = os.urandom(4 * PART + 12345)
    parts = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), BUCKET, f"{folder}large", Config=parts, ExtraArgs={"Metadata": {"k": "v"}})
    head = s3.head_object(Bucket=BUCKET, Key=f"{folder}large")
    assert head["ETag"].endswith('-5"') and head["Metadata"] == {"k": "v"}
    down = io.BytesIO()
    s3.download_fileobj(BUCKET, f"{folder}large", down, Config=parts)
    assert down.getvalue() == body


def test_an_upload_that_is_given_up_leaves_nothing(s3, folder):
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=f"{folder}never")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key=f"{folder}never", UploadId=upload, PartNumber=1, Body=b"x")
    parts = s3.list_parts(Bucket=BUCKET, Key=f"{folder}never", UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, 1)]
    s3.abort_multipart_upload(Bucket=BUCKET, Key=f"{folder}never", UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix=folder)
    assert keys(s3, folder) == []
    late = {"Bucket": BUCKET, "Key": f"{folder}never", "UploadId": upload}
    assert refused(lambda: s3.upload_part(**late, PartNumber=2, Body=b"x")) == (404, "NoSuchUpload")


def test_copies_keep_or_replace_what_is_said(s3, folder):
    s3.put_object(Bucket=BUCKET, Key=f"{folder}from", Body=b"body", Metadata={"k": "v"})
    source = {"Bucket": BUCKET, "Key": f"{folder}from"}
    s3.copy_object(Bucket=BUCKET, Key=f"{folder}kept", CopySource=source)
    s3.copy_object(Bucket=BUCKET, Key=f"{folder}new", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "w"})
    found = [s3.head_object(Bucket=BUCKET, Key=f"{folder}{name}")["Metadata"] for name in ("kept", "new")]
    assert found == [{"k": "v"}, {"n": "w"}]


def test_many_are_deleted_at_once_and_a_missing_one_is_fine(s3, folder):
    for name in "ab":
        s3.put_object(Bucket=BUCKET, Key=folder + name, Body=b"")
    listed = [{"Key": folder + name} for name in ("a", "b", "missing")]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": listed})
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == [entry["Key"] for entry in listed]
    assert keys(s3, folder) == []
    assert refused(lambda: s3.get_object(Bucket=BUCKET, Key=f"{folder}a")) == (404, "NoSuchKey")


def test_what_arrives_changed_is_refused(s3, folder):
    md5 = base64.b64encode(hashlib.md5(b"another").digest()).decode()
    put = {"Bucket": BUCKET, "Key": f"{folder}x", "Body": b"body"}
    assert refused(lambda: s3.put_object(**put, ContentMD5=md5)) == (400, "BadDigest")
    status, _ = refused(lambda: s3.put_object(**put, ChecksumSHA256=base64.b64encode(bytes(32)).decode()))
    assert status == 400
    assert keys(s3, folder) == []


def test_conditions_on_writes_and_reads_hold(s3, folder):
    put = {"Bucket": BUCKET, "Key": f"{folder}x"}
    tag = s3.put_object(**put, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(lambda: s3.put_object(**put, Body=b"2", IfNoneMatch="*"))[0] == 412
    assert refused(lambda: s3.get_object(**put, IfMatch='"other"'))[0] == 412
    assert refused(lambda: s3.get_object(**put, IfNoneMatch=tag))[0] == 304


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aws_secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"aws_access_key_id": "nobody"}, "InvalidAccessKeyId"),
    ],
)
def test_who_is_not_known_is_refused(backend, changes, code):
    client = connect(backend, **changes)
    assert refused(lambda: client.list_objects_v2(Bucket=BUCKET)) == (403, code)


def test_signed_urls_hold_for_what_was_signed(backend, folder):
    place = {"Bucket": BUCKET, "Key": f"{folder}signed"}
    signer = connect(backend, signature_version="s3v4")
    put = signer.generate_presigned_url("put_object", Params=place)
    assert fetch(put, "PUT", b"body", {"x-amz-meta-sneaked": "in"})[0] == 403
    assert fetch(put, "PUT", b"body")[0] == 200
    get = signer.generate_presigned_url("get_object", Params=place)
    assert fetch(get) == (200, b"body")
    assert fetch(get, "PUT", b"other")[0] == 403
    assert fetch(get.replace("signed", "another"))[0] == 403
    assert fetch(get.partition("?")[0])[0] == 403


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_signed_url_ends_when_its_time_is_over(backend, s3, folder, version, monkeypatch):
    place = {"Bucket": BUCKET, "Key": f"{folder}signed"}
    s3.put_object(**place, Body=b"body")
    signer = connect(backend, signature_version=version)
    assert fetch(signer.generate_presigned_url("get_object", Params=place)) == (200, b"body")
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: past.replace(tzinfo=None))
    monkeypatch.setattr("botocore.auth.time.time", past.timestamp)
    expired = signer.generate_presigned_url("get_object", Params=place, ExpiresIn=60)
    monkeypatch.undo()
    assert fetch(expired)[0] == 403


def test_s3fs_works_with_trees(files, folder, tmp_path):
    root = f"{BUCKET}/{folder}tree"
    for name in ("a", "a/b", "c/d/e"):
        with files.open(f"{root}/{name}", "wb") as target:
            target.write(name.encode())
    assert sorted(files.find(root)) == [f"{root}/a", f"{root}/a/b", f"{root}/c/d/e"]
    assert sorted(files.glob(f"{root}/*/*")) == [f"{root}/a/b", f"{root}/c/d"]
    assert sorted(entry["name"] for entry in files.ls(f"{root}/c", detail=True)) == [f"{root}/c/d"]
    assert files.info(f"{root}/c/d/e")["size"] == 5 and files.isdir(f"{root}/c/d")
    files.copy(f"{root}/c", f"{root}/copied", recursive=True)
    files.rm(f"{root}/c", recursive=True)
    assert files.cat(f"{root}/copied/d/e") == b"c/d/e" and not files.exists(f"{root}/c")
    (tmp_path / "up" / "deep").mkdir(parents=True)
    (tmp_path / "up" / "deep" / "file").write_bytes(b"up")
    files.put(str(tmp_path / "up"), f"{root}/up", recursive=True)
    files.get(f"{root}/up", str(tmp_path / "down"), recursive=True)
    assert (tmp_path / "down" / "deep" / "file").read_bytes() == b"up"
    files.rm(root, recursive=True)
    assert files.find(root) == []


def test_s3fs_streams_a_file_larger_than_its_blocks(files, folder):
    body = os.urandom(PART * 2 + 7)
    with files.open(f"{BUCKET}/{folder}stream", "wb", block_size=PART) as target:
        for at in range(0, len(body), 1 << 20):
            target.write(body[at : at + (1 << 20)])
    with files.open(f"{BUCKET}/{folder}stream", "rb", block_size=PART) as source:
        source.seek(PART - 3)
        assert source.read(6) == body[PART - 3 : PART + 3]
    assert files.cat(f"{BUCKET}/{folder}stream") == body


def test_nobody_listens_beyond_loopback(backend):
    """The port answers on loopback; the machine's other addresses do not have it."""
    port = int(backend.s3.rsplit(":", 1)[1])
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as rows:
            for row in list(rows)[1:]:
                _, local, _, state = row.split()[:4]
                address, _, hexadecimal = local.rpartition(":")
                if state == "0A" and int(hexadecimal, 16) == port:
                    listening.add(address)
    assert listening and listening <= {"0100007F", "00000000000000000000000001000000"}, listening
