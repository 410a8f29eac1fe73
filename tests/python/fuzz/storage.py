"""Requests to the embedded S3 endpoint: keys, XML bodies, parts of uploads in any order, ranges, conditions, signatures."""

import base64
import hashlib
import re
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from . import values
from .lane import Generator
from .messages import Names
from .transport import Http

BUCKET = "my-s3-bucket"
PREFIX = "fuzz/"
# Requests that need nothing besides bucket, key or upload: verb, whether of a key, query.
PLAIN = (
    ("GET", False, ""), ("HEAD", False, ""), ("GET", False, "location"), ("GET", False, "uploads"),
    ("GET", False, "list-type=2"), ("GET", True, ""),
    ("HEAD", True, ""), ("DELETE", True, ""), ("GET", True, "acl"), ("GET", False, "policy"), ("GET", False, "versioning"),
    ("GET", True, "tagging"),
    ("PUT", False, "versioning"), ("GET", False, "lifecycle"), ("POST", True, "restore"),
    ("POST", True, "select&select-type=2"),
    ("GET", True, "attributes"), ("GET", True, "torrent"), ("DELETE", False, "cors"), ("OPTIONS", True, ""),
    ("PATCH", True, ""), ("FUZZ", True, ""),
)
RANGES = (
    "bytes=0-0", "bytes=0-", "bytes=-1", "bytes=5-2", "bytes=100-200", "bytes=-0", "bytes=0-18446744073709551615",
    "bytes=18446744073709551616-",
    "bytes=0-1,3-4", "bytes=", "bytes=a-b", "items=0-1", "bytes = 0 - 1", "bytes=-99999999999999999999",
    "bytes=" + "0-0," * 3000,
)
DATES = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:00 GMT", "2024-01-01T00:00:00Z", "x",
    "Mon, 32 Foo 99999 99:99:99 GMT")
NUMBERS = ("1", "2", "3", "10000", "0", "10001", "-1", "x", "", "99999999999999999999", "1.5")
# How a body is said to come in chunks (aws-chunked).
STREAMED = (
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
)
DAMAGE = (
    ["AWS4-HMAC-SHA256", "AWS4"], ["SignedHeaders=", "SignedHeaders=x-missing;"], ["Signature=", "Signature=0"],
    ["us-east-1", "x"], ["s3/aws4_request", ""],
    ["Credential=minio", "Credential="], [", ", ","], ["=", ""], ["Signature=", "Sig="],
)


def part_list(parts):
    """The body that completes an upload."""
    inner = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>" for number, tag in parts)
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</CompleteMultipartUpload>'


class Storage(Generator):
    """Objects put, read, copied, listed and deleted, whole and in parts."""

    name = "storage"

    def __init__(self, rng):
        super().__init__(rng)
        self.names, self.first, self.tokens = Names(rng, "", ""), [], []

    def prepare(self, send):
        for name in ("a", "a/b", "c d", "ü"):
            request = self.request("PUT", self.path(PREFIX + name), b"body of " + name.encode(), clean=True)
            answer = send(request)
            assert answer.status == 200, answer
            self.names.add("key", PREFIX + name)

    def path(self, key=None, bucket=BUCKET):
        if key is None:
            return f"/{bucket}/"
        return f"/{bucket}/{quote(key, safe=self.rng.choice(('/', '/', '', '/~.')))}"

    def key(self):
        kind = self.rng.random()
        if kind < 0.5:
            return self.names.any("key", PREFIX + "a")
        if kind < 0.95:
            return PREFIX + values.text(self.rng)[:3000]
        return values.text(self.rng)[:3000]

    def request(self, verb, path, body=b"", headers=(), query="", clean=False, **how):
        rng, sign = self.rng, dict(how)
        kind = 1.0 if clean else rng.random()
        if kind < 0.02:
            sign = None
        elif kind < 0.06:
            sign["damage"] = rng.choice(DAMAGE)
        elif kind < 0.07:
            sign["at"] = rng.choice((-10_000, 10_000, -(10**8), 10**9))
        elif kind < 0.08:
            sign[rng.choice(("key", "secret"))] = rng.choice(("x", "", "a/b"))
        elif kind < 0.13:
            sign.update(presigned=True, expires=rng.choice((60, 60, 604_800, 604_801, 0, -1, 10**20, "x")))
        elif kind < 0.2:
            sign["payload"] = rng.choice(("UNSIGNED-PAYLOAD", "0" * 64, "x", "", *STREAMED))
        headers = list(headers)
        if body and sign and sign.get("payload") in STREAMED and not clean:
            body, added = self.chunks(body, sign["payload"])
            headers += added
        request = Http("s3", verb, f"{path}?{query}" if query else path, headers, body, sign=sign)
        if not clean and body and rng.random() < 0.03:
            request.declared = rng.choice((len(body) + 10, max(0, len(body) - 3), 10**12))
        elif not clean and body and rng.random() < 0.05:
            request.pieces, request.chunked = 3, rng.random() < 0.5
        return request

    def next(self):
        rng = self.rng
        makers = (
            self.put, self.put, self.get, self.list, self.plain, self.copy, self.delete_many, self.upload, self.part,
            self.part, self.complete,
            self.parts, self.streamed, self.other,
        )
        return rng.choice(makers)()

    def header_text(self):
        """As a header takes it."""
        return "".join(letter for letter in values.text(self.rng)[:3000] if " " <= letter <= "~")

    def conditions(self, copy=False):
        rng, headers = self.rng, []
        prefix = "x-amz-copy-source-" if copy else ""
        for name in ("If-Match", "If-None-Match"):
            if rng.random() < 0.15:
                headers.append((prefix + name, rng.choice(("*", '"x"', self.names.any("tag", '"x"'), "", "W/\"x\"",
                    '"' + "x" * 900))))
        for name in ("If-Modified-Since", "If-Unmodified-Since"):
            if rng.random() < 0.1:
                headers.append((prefix + name, rng.choice(DATES)))
        return headers

    def body(self):
        return self.rng.randbytes(self.rng.choice((0, 1, 10, 1000, 70_000, 300_000)))

    def put(self):
        rng, body, headers = self.rng, self.body(), self.conditions()
        if rng.random() < 0.15:
            digest = base64.b64encode(hashlib.md5(body).digest()).decode()
            headers.append(("Content-MD5", rng.choice((digest, digest, "x", "AAAA", ""))))
        for kind in ("crc32", "crc32c", "sha1", "sha256", "crc64nvme", "nothing"):
            if rng.random() < 0.04:
                headers.append((f"x-amz-checksum-{kind}", rng.choice(("AAAAAA==", "x", ""))))
        for name in ("Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Expires", "x-amz-acl",
            "x-amz-storage-class", "x-amz-tagging",
                     "x-amz-meta-a", f"x-amz-meta-{'n' * rng.choice((1, 3000))}", "x-amz-server-side-encryption",
                     "x-amz-website-redirect-location"):
            if rng.random() < 0.06:
                headers.append((name, self.header_text()))
        return self.request("PUT", self.path(self.key()), body, headers)

    def get(self):
        rng, headers = self.rng, self.conditions()
        if rng.random() < 0.5:
            headers.append(("Range", rng.choice(RANGES)))
        query = rng.choice(("", "", "", "response-content-type=a%0d%0ab", "partNumber=" + rng.choice(NUMBERS), "versionId=x",
            "response-cache-control=" + quote(values.text(rng)[:500])))
        return self.request(rng.choice(("GET", "GET", "HEAD")), self.path(self.key()), b"", headers, query)

    def list(self):
        rng, query = self.rng, ["list-type=2"] if self.rng.random() < 0.7 else []
        known = {
            "prefix": (PREFIX, "", "fuzz", "..", "/", "fuzz/a"), "delimiter": ("/", "a", "", "//", "ü"),
            "max-keys": ("1", "3", "1000", *NUMBERS),
            "continuation-token": (*self.tokens, "x", ""), "start-after": (PREFIX, "x", ""), "marker": (PREFIX, "x"),
            "encoding-type": ("url", "x"),
            "fetch-owner": ("true", "x"), "key-marker": (PREFIX, "x"), "upload-id-marker": ("x", ""), "max-uploads": NUMBERS,
        }
        for name, usual in known.items():
            if rng.random() < 0.3:
                query.append(f"{name}={quote(rng.choice(usual) if rng.random() < 0.85 else values.text(rng)[:3000], safe='')}")
        if rng.random() < 0.1:
            query.append("uploads")
        return self.request("GET", self.path(), query="&".join(query))

    def plain(self):
        verb, of_key, query = self.rng.choice(PLAIN)
        bucket = BUCKET if self.rng.random() < 0.9 else quote(values.text(self.rng)[:300], safe="")
        if verb == "DELETE" and not of_key and query != "cors":
            verb = "GET"
        return self.request(verb, self.path(self.key() if of_key else None, bucket), query=query)

    def copy(self):
        rng = self.rng
        source = rng.choice((f"/{BUCKET}/{quote(self.key())}", f"{BUCKET}/{quote(self.key())}", quote(values.text(rng)[:2000]),
            f"/{BUCKET}/", f"arn:aws:s3:x:{BUCKET}"))
        headers = [("x-amz-copy-source", source), *self.conditions(copy=True)]
        if rng.random() < 0.4:
            headers.append(("x-amz-metadata-directive", rng.choice(("COPY", "REPLACE", "x"))))
        if rng.random() < 0.4:
            headers.append(("x-amz-copy-source-range", rng.choice(RANGES[:-1])))
        query = f"partNumber={rng.choice(NUMBERS)}&uploadId={quote(self.upload_id())}" if rng.random() < 0.4 else ""
        return self.request("PUT", self.path(self.key()), b"", headers, query)

    def xml(self, text):
        """An XML body, mostly mutated."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.4:
            return text.encode("utf-8", "replace")
        if kind < 0.6:
            return values.mutate_bytes(rng, text.encode("utf-8", "replace"))
        depth = rng.choice((10, 1000, 20_000))
        return rng.choice((
            b"", b"<", b"<a/>", b"\xff\xfe<\0a\0", text.encode("utf-8", "replace") * 2, b"<a>" * depth,
            b"<a>" * depth + b"</a>" * depth,
            b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>' + text.replace("<Key>",
            "<Key>&b;").encode("utf-8", "replace"),
            b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + text.encode("utf-8", "replace"),
            text.replace("</", "<").encode("utf-8", "replace"),
            (text + "<a b='" + "x" * 100_000 + "'/>").encode("utf-8", "replace"),
            text.replace(">", " a='&#0;'>").encode("utf-8", "replace"),
        ))

    def delete_many(self):
        rng = self.rng
        count = rng.choice((0, 1, 3, 1000, 1001))
        keys = [self.names.any("key",
            PREFIX + "x") if rng.random() < 0.1 else f"{PREFIX}gone{index}" for index in range(count)]
        inner = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
        body = self.xml(f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>{rng.choice(("true", "false", "x"))}</Quiet>{inner}</Delete>')
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        return self.request("POST", self.path(), body, [("Content-MD5", digest if rng.random() < 0.9 else "x")], "delete")

    def upload(self):
        return self.request("POST", self.path(self.key()), query="uploads")

    def upload_id(self):
        known = self.names.any("upload")
        return known[0] if known and self.rng.random() < 0.85 else self.rng.choice(("x", "", "..", "../../x", "a/b", "\0",
            "0" * 300))

    def of_upload(self):
        """Key and query of an upload; mostly those that belong together."""
        known = self.names.any("upload")
        if known and self.rng.random() < 0.85:
            return known[1], quote(known[0], safe="")
        return self.key(), quote(self.upload_id(), safe="")

    def part(self):
        key, upload = self.of_upload()
        number = self.rng.choice(NUMBERS[:4] if self.rng.random() < 0.8 else NUMBERS)
        body = self.body()
        self.names.add("part", (number, hashlib.md5(body).hexdigest()))
        return self.request("PUT", self.path(key), body, query=f"partNumber={number}&uploadId={upload}")

    def complete(self):
        rng = self.rng
        key, upload = self.of_upload()
        parts = [self.names.any("part", ("1", "x")) for _ in range(rng.choice((0, 1, 1, 2, 3, 2000)))]
        if rng.random() < 0.6:
            parts.sort()
        parts = [(number if rng.random() < 0.95 else rng.choice(NUMBERS),
            f'"{tag}"' if rng.random() < 0.9 else rng.choice(("x", "", tag))) for number, tag in parts]
        return self.request("POST", self.path(key), self.xml(part_list(parts)), self.conditions(), f"uploadId={upload}")

    def parts(self):
        key, upload = self.of_upload()
        query = f"uploadId={upload}"
        if self.rng.random() < 0.5:
            query += f"&max-parts={self.rng.choice(NUMBERS)}&part-number-marker={self.rng.choice(NUMBERS)}"
        return self.request("GET" if self.rng.random() < 0.8 else "DELETE", self.path(key), query=query)

    def chunks(self, data, payload):
        """The body that sends `data` in chunks, and the headers that say so."""
        rng = self.rng
        extension = b";chunk-signature=" + b"0" * 64 if "HMAC" in payload else b""
        step, body = rng.choice((1000, 8192, 65_536)), b""
        for begin in range(0, len(data), step):
            piece = data[begin : begin + step]
            body += b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)
        body += b"0" + extension + b"\r\n"
        trailer = "TRAILER" in payload
        body += rng.choice((b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n", b"\r\n",
            b"x-amz-checksum-crc32\r\n\r\n")) if trailer else b"\r\n"
        if rng.random() < 0.4:
            body = rng.choice((values.mutate_bytes(rng, body), b"ffffffffffffffff" + body, b"-1\r\n" + body,
                b"0\r\n\r\n" + body, body[:-3]))
        length = rng.choice((str(len(data)), str(len(data)), "0", "-1", "x", "99999999999999999999", str(2**62)))
        headers = [("x-amz-decoded-content-length", length), ("Content-Encoding", "aws-chunked")]
        if trailer:
            headers.append(("x-amz-trailer", rng.choice(("x-amz-checksum-crc32", "x", ""))))
        return body, headers

    def streamed(self):
        """A body in chunks of their own, as SDKs sign them (aws-chunked), right or not."""
        rng, payload = self.rng, self.rng.choice(STREAMED)
        body, headers = self.chunks(self.body(), payload)
        request = self.request("PUT", self.path(self.key()), body, headers, clean=True, payload=payload)
        request.pieces = rng.choice((1, 1, 5))
        return request

    def other(self):
        """Whatever HTTP allows, and paths that are none."""
        rng = self.rng
        path = values.target(rng, [BUCKET, *(values.text(rng)[:2000] for _ in range(rng.randrange(1, 4)))], 0.4)
        headers = rng.choice(([], [("Host", "x.localhost")], [("Host", f"{BUCKET}.s3.amazonaws.com")],
            [("Content-Type", "multipart/form-data; boundary=x")],
                              [("Origin", "http://example.com")], [("x-amz-" + "y" * 300, "z")], [("Expect", "100-continue")],
                              [("x-long", "y" * 70_000)]))
        query = rng.choice(("", "", "a=b&" * 3000, "X-Amz-Signature=x", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=x",
            "%", "&&&", "=", "uploads&uploads"))
        return self.request(rng.choice(("GET", "PUT", "POST", "DELETE", "HEAD")), path, rng.choice((b"", b"x")), headers,
            query)

    def learn(self, request, answer):
        if answer.status not in (200, 206):
            return
        path, _, query = request.target.partition("?")
        if tag := answer.headers.get("etag"):
            self.names.add("tag", tag)
        if request.method == "PUT" and not query and path.startswith(f"/{BUCKET}/"):
            self.names.add("key", unquote(path[len(BUCKET) + 2 :]))
        elif query == "uploads" and (found := re.search(rb"<UploadId>([^<]*)</UploadId>", answer.content)):
            self.names.add("upload", (found.group(1).decode(), unquote(path[len(BUCKET) + 2 :])))
        elif found := re.search(rb"<NextContinuationToken>([^<]*)</NextContinuationToken>", answer.content):
            self.tokens = [*self.tokens[-20:], found.group(1).decode()]
