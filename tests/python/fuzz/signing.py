"""Signatures of S3 (AWS Signature Version 4), right ones and wrong ones.

A request says how it is signed by a dict; its signature is made when it is sent, because it is of that time:

| key | meaning |
|---|---|
| `presigned` | in the query instead of in a header |
| `payload` | what `x-amz-content-sha256` says: `hash`, or a text |
| `secret`, `key` | of whom, if not of the one who is let in |
| `at` | seconds from now |
| `expires` | of a presigned request |
| `damage` | what is put instead of a part of the signature's text: `[old, new]` |
"""

import datetime
import hashlib
import hmac
from urllib.parse import quote, unquote_to_bytes

KEY, SECRET, REGION = "minio", "miniostorage", "us-east-1"


def _digest(key, text):
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).digest()


def _encoded(text, safe=""):
    return quote(unquote_to_bytes(text.replace("+", "%2B")), safe=safe + "-_.~")


def _query(pairs):
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def sign(request, headers):
    """Target and headers with a signature."""
    how = request.sign
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=how.get("at", 0))
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    key, secret = how.get("key", KEY), how.get("secret", SECRET)
    scope = f"{day}/{REGION}/s3/aws4_request"
    path, _, query = request.target.partition("?")
    pairs = []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        pairs.append((_encoded(name), _encoded(value)))
    payload = how.get("payload", "hash")
    if payload == "hash":
        payload = hashlib.sha256(request.body).hexdigest()
    if how.get("presigned"):
        payload = "UNSIGNED-PAYLOAD"
        added = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{key}/{scope}", "X-Amz-Date": stamp,
            "X-Amz-Expires": str(how.get("expires", 60)), "X-Amz-SignedHeaders": "host",
        }
        pairs += [(name, _encoded(value)) for name, value in added.items()]
        signed = [(name, value) for name, value in headers if name.lower() == "host"]
    else:
        headers = [*headers, ("x-amz-date", stamp), ("x-amz-content-sha256", payload)]
        signed = [(name, value) for name, value in headers if name.lower() not in ("connection", "user-agent")]
    merged = {}
    for name, value in signed:
        merged.setdefault(name.lower(), []).append(" ".join(value.split()))
    names = ";".join(sorted(merged))
    lines = "".join(f"{name}:{','.join(merged[name])}\n" for name in sorted(merged))
    canonical = "\n".join([request.method, _encoded(path, "/"), _query(pairs), lines, names, payload])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()])
    derived = f"AWS4{secret}".encode()
    for part in (day, REGION, "s3", "aws4_request"):
        derived = _digest(derived, part)
    signature = _digest(derived, text).hex()
    old, new = how.get("damage", ("", ""))
    if how.get("presigned"):
        written = _query(pairs) + f"&X-Amz-Signature={signature}"
        return f"{path}?{written.replace(old, new, 1) if old else written}", headers
    written = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return request.target, [*headers, ("Authorization", written.replace(old, new, 1) if old else written)]
