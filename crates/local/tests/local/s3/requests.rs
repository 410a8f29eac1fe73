//! What only requests over HTTP have: presigned URLs, chunked bodies, answers about buckets.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::s3::{BUCKET, Store, put};
use crate::signing::{KEY, Key, authorize, path, presign};

#[tokio::test]
async fn presigned_urls_are_verified() {
    let store = Store::start().await;
    let md5 = BASE64_STANDARD.encode(Md5::digest("hello"));
    let headers = [("content-md5", md5.as_str()), ("x-amz-meta-flyte", "yes")];
    let url = store.presigned("PUT", "signed", &KEY, &headers);
    assert_eq!(
        store.send("PUT", &url, &headers, b"hello").await.0,
        200,
        "as signed"
    );
    assert_eq!(
        store
            .blobs
            .head(BUCKET, "signed")
            .unwrap()
            .attributes
            .metadata["flyte"],
        "yes"
    );
    let stranger = Key {
        access: "minio",
        secret: "wrong",
    };
    let unknown = Key {
        access: "nobody",
        secret: "miniostorage",
    };
    let old = jiff::Timestamp::now()
        .checked_sub(jiff::SignedDuration::from_hours(1))
        .unwrap();
    let place = path(BUCKET, "signed");
    let expired = presign(("GET", &store.host, &place), &KEY, (old, 60), &[]);
    let plain = store.presigned("PUT", "plain", &KEY, &[]);
    for (case, method, url, headers, body, expected, code) in [
        (
            "another body than signed",
            "PUT",
            &url,
            &headers[..],
            &b"other"[..],
            400,
            "BadDigest",
        ),
        (
            "without a signed header",
            "PUT",
            &url,
            &headers[..1],
            b"hello",
            403,
            "SignatureDoesNotMatch",
        ),
        (
            "an unsigned header",
            "PUT",
            &plain,
            &[("x-amz-meta-more", "1")],
            b"",
            403,
            "AccessDenied",
        ),
        (
            "the wrong key",
            "GET",
            &store.presigned("GET", "signed", &stranger, &[]),
            &[],
            b"",
            403,
            "SignatureDoesNotMatch",
        ),
        (
            "an unknown key",
            "GET",
            &store.presigned("GET", "signed", &unknown, &[]),
            &[],
            b"",
            403,
            "",
        ),
        (
            "another method",
            "DELETE",
            &store.presigned("GET", "signed", &KEY, &[]),
            &[],
            b"",
            403,
            "SignatureDoesNotMatch",
        ),
        ("too late", "GET", &expired, &[], b"", 403, "AccessDenied"),
        (
            "no signature",
            "GET",
            &format!("http://{}{place}", store.host),
            &[],
            b"",
            403,
            "AccessDenied",
        ),
    ] {
        let (status, text) = store.send(method, url, headers, body).await;
        assert_eq!(status, expected, "{case}: {text}");
        assert!(text.contains(code), "{case}: {text}");
    }
    assert_eq!(
        store.blobs.head(BUCKET, "signed").unwrap().size,
        5,
        "nothing was changed"
    );
    let (code, text) = store
        .send(
            "GET",
            &store.presigned("GET", "signed", &KEY, &[]),
            &[],
            b"",
        )
        .await;
    assert_eq!((code, text.as_str()), (200, "hello"));
}

#[tokio::test]
async fn chunked_bodies_carry_their_checksums_behind() {
    let store = Store::start().await;
    let place = path(BUCKET, "chunked");
    let good = BASE64_STANDARD.encode(crc32fast::hash(b"hello world").to_be_bytes());
    for (checksum, expected) in [(good.as_str(), 200), ("AAAAAA==", 400)] {
        let body =
            format!("6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n");
        let headers = authorize(
            ("PUT", &store.host, &place),
            ("", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            &[
                ("content-encoding", "aws-chunked"),
                ("x-amz-decoded-content-length", "11"),
                ("x-amz-trailer", "x-amz-checksum-crc32"),
            ],
        );
        let mut request = store
            .http
            .put(format!("http://{}{place}", store.host))
            .body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(
            answer.status().as_u16(),
            expected,
            "{checksum}: {}",
            answer.text().await.unwrap()
        );
    }
    let info = store.blobs.head(BUCKET, "chunked").unwrap();
    assert_eq!((info.size, info.attributes.content_encoding), (11, None));
    assert_eq!(info.checksums["crc32"], good);
}

#[tokio::test]
async fn xml_in_chunks_that_are_not_as_announced_is_the_clients_fault() {
    let store = Store::start().await;
    put(&store.blobs, "kept", b"x");
    let delete = "<Delete><Object><Key>kept</Key></Object></Delete>";
    let length = delete.len().to_string();
    let unsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    let signed = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let zeros = "0".repeat(64);
    for (case, payload, body) in [
        ("no chunk", unsigned, delete.to_owned()),
        (
            "a chunk that ends early",
            unsigned,
            format!("{:x}\r\n{}", delete.len(), &delete[..9]),
        ),
        (
            "a chunk with another signature",
            signed,
            format!(
                "{:x};chunk-signature={zeros}\r\n{delete}\r\n0;chunk-signature={zeros}\r\n\r\n",
                delete.len()
            ),
        ),
    ] {
        let bucket = format!("/{BUCKET}");
        let headers = authorize(
            ("POST", &store.host, &bucket),
            ("delete=", payload),
            &[
                ("content-encoding", "aws-chunked"),
                ("x-amz-decoded-content-length", &length),
            ],
        );
        let url = format!("http://{}{bucket}?delete=", store.host);
        let mut request = store.http.post(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        let (code, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!((400..500).contains(&code), "{case}: {code} {text}");
        assert!(!text.contains("InternalError"), "{case}: {text}");
    }
    assert_eq!(store.blobs.head(BUCKET, "kept").unwrap().size, 1);
}

#[tokio::test]
async fn buckets_and_lists_answer_as_s3() {
    let store = Store::start().await;
    for key in ["d/1", "d/2", "e f", "g"] {
        put(&store.blobs, key, b"x");
    }
    let get = async |path: &str, query: &str| {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let headers = authorize(("GET", &store.host, path), (query, empty), &[]);
        let mut request = store
            .http
            .get(format!("http://{}{path}?{query}", store.host));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let bucket = format!("/{BUCKET}");
    let (code, text) = get(
        &bucket,
        "delimiter=%2F&encoding-type=url&list-type=2&max-keys=2",
    )
    .await;
    assert_eq!(code, 200, "{text}");
    assert!(
        text.contains("<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"),
        "{text}"
    );
    assert!(
        text.contains("<Key>e%20f</Key>") && text.contains("<IsTruncated>true</IsTruncated>"),
        "{text}"
    );
    let token = text
        .split("<NextContinuationToken>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    let (_, text) = get(
        &bucket,
        &format!("continuation-token={token}&delimiter=%2F&list-type=2"),
    )
    .await;
    assert!(
        text.contains("<Key>g</Key>")
            && !text.contains("CommonPrefixes")
            && text.contains("<KeyCount>1</KeyCount>"),
        "{text}"
    );
    let (_, text) = get(&bucket, "marker=d%2F1&max-keys=1").await;
    assert!(
        text.contains("<Key>d/2</Key>") && text.contains("<NextMarker>d/2</NextMarker>"),
        "{text}"
    );
    let (_, text) = get("/", "").await;
    assert!(text.contains("<Name>my-s3-bucket</Name>"), "{text}");
    assert_eq!(get("/no-such-bucket", "list-type=2").await.0, 404);
}

/// Sends a signed request as it is, its length and the hash of its body as given; the code of the answer, and all of it.
async fn sent(
    store: &Store,
    (method, path, query): (&str, &str, &str),
    (body, length, hash): (&str, usize, &str),
) -> (u16, String) {
    let mut request = format!(
        "{method} {path}?{query} HTTP/1.1\r\nhost: {}\r\n",
        store.host
    );
    for (name, value) in authorize((method, &store.host, path), (query, hash), &[]) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!(
        "connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    let mut connection = TcpStream::connect(&store.host).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    if length > body.len() {
        connection.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    // The server may close what it has not read to its end; what came before that is its answer.
    drop(connection.read_to_end(&mut answer).await);
    let answer = String::from_utf8(answer).unwrap();
    let code = answer.split(' ').nth(1).unwrap_or_default();
    (code.parse().unwrap_or_default(), answer)
}

#[tokio::test]
async fn a_body_that_is_not_as_announced_is_the_clients_fault() {
    let store = Store::start().await;
    let (bucket, key) = (format!("/{BUCKET}"), path(BUCKET, "k"));
    let delete = "<Delete><Object><Key>a</Key></Object></Delete>";
    let complete = "<CompleteMultipartUpload><Part><ETag>\"e\"</ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>";
    let create = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let zeros = "0".repeat(64);
    for (request, body, as_announced) in [
        (("POST", &*bucket, "delete="), delete, 200),
        (("POST", &*key, "uploadId=none"), complete, 404),
        (("PUT", "/another-bucket", ""), create, 200),
        (
            ("PUT", &*key, "tagging="),
            "<Tagging><TagSet/></Tagging>",
            501,
        ),
        (("PUT", &*key, ""), "content", 200),
    ] {
        let (hash, length) = (hex::encode(Sha256::digest(body)), body.len());
        for (case, length, hash, code, name) in [
            ("another hash", length, &zeros, 400, "BadDigest"),
            ("too short", length + 10, &hash, 400, "IncompleteBody"),
            ("too long", length - 3, &hash, 400, "BadDigest"),
            ("as announced", length, &hash, as_announced, ""),
        ] {
            let (found, answer) = sent(&store, request, (body, length, hash)).await;
            assert_eq!(found, code, "{request:?} {case}: {answer}");
            assert!(answer.contains(name), "{request:?} {case}: {answer}");
        }
    }
    let long = " ".repeat((20 << 20) + 1);
    let sent = sent(
        &store,
        ("POST", &bucket, "delete="),
        (&long, long.len(), "UNSIGNED-PAYLOAD"),
    )
    .await;
    assert_eq!(sent.0, 400, "{}", sent.1);
    assert!(sent.1.contains("MaxMessageLengthExceeded"), "{}", sent.1);
}

#[tokio::test]
async fn every_error_says_what_is_wrong() {
    let store = Store::start().await;
    let (bucket, key) = (format!("/{BUCKET}"), path(BUCKET, "k"));
    let long = path(BUCKET, &"k".repeat(1_025));
    for (request, body, code, words) in [
        (("PUT", &*bucket, ""), "", 409, "you already own it"),
        (("PUT", "/Bad_Name", ""), "", 400, "3 to 63 letters"),
        (("PUT", "/ab.", ""), "", 400, "3 to 63 letters"),
        (("PUT", &*long, ""), "content", 400, "1024"),
        (
            ("GET", &*path(BUCKET, "none"), ""),
            "",
            404,
            "there is no object",
        ),
        (
            ("PUT", &*key, "partNumber=0&uploadId=u"),
            "x",
            400,
            "Part number",
        ),
        (("POST", &*bucket, "delete="), "<Delete", 400, "XML"),
        (("GET", &*bucket, "max-keys=-1"), "", 400, "argument"),
        (("GET", &*bucket, "acl="), "", 501, "not implemented"),
    ] {
        let hash = hex::encode(Sha256::digest(body));
        let (found, answer) = sent(&store, request, (body, body.len(), &hash)).await;
        assert_eq!(found, code, "{request:?}: {answer}");
        let (_, rest) = answer.split_once("<Message>").unwrap_or_default();
        let (message, _) = rest.split_once("</Message>").unwrap_or_default();
        assert!(message.contains(words), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn a_presigned_url_is_good_for_a_week_at_most() {
    let store = Store::start().await;
    put(&store.blobs, "k", b"x");
    for (seconds, status) in [(604_800, 200), (604_801, 400), (10_000_000, 400)] {
        let object = ("GET", &*store.host, &*path(BUCKET, "k"));
        let url = presign(object, &KEY, (jiff::Timestamp::now(), seconds), &[]);
        let answer = store.http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{seconds}");
        let text = answer.text().await.unwrap();
        assert_eq!(
            text.contains("AuthorizationQueryParametersError"),
            status == 400,
            "{text}"
        );
    }
}
