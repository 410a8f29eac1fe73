"""Requests to the API's port over HTTP: the routes of every RPC, in each codec, and everything else a port may be sent."""

import functools
import gzip
import json
import re
from urllib.parse import quote

from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from . import values
from .admin import LAUNCH_EVERY, LAUNCHES, LAUNCHING, METHODS, Calls, terminate
from .lane import Generator
from .messages import message_class
from .transport import Http

OTHER_PATHS = (
    "/", "/healthcheck", "/healthz", "/readyz", "/metrics", "/version", "/me", "/login", "/logout", "/callback", "/console",
    "/console/",
    "/config", "/api", "/api/v1", "/api/v1/", "/api/v2/x", "/openapi", "/api/v1/openapi",
    "/.well-known/oauth-authorization-server",
    "/config/v1/flyte_client", "/oauth2/token", "/oauth2/authorize", "/favicon.ico", "/robots.txt",
    "/flyteidl.service.AdminService/GetTask",
    "/grpc.health.v1.Health/Check", "*", "http://localhost/healthcheck", "//healthcheck", "/api/v1/../../healthcheck",
    "/%2e%2e/%2e%2e",
)
METHODS_OF_HTTP = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PRI", "FUZZ", "get")
JSON, BINARY, FORM = "application/json", "application/octet-stream", "application/x-www-form-urlencoded"
TYPES = (
    JSON, BINARY, FORM, "application/json; charset=utf-8", "application/x-protobuf", "application/grpc",
    "application/grpc-web+proto",
    "text/plain", "multipart/form-data; boundary=x", "", ";", "*/*", "application/json, text/html", "a" * 3000,
    "APPLICATION/JSON",
)
HEADERS = (
    ("Content-Encoding", "gzip"), ("Content-Encoding", "identity"), ("Content-Encoding", "zzz"),
    ("Origin", "http://localhost"),
    ("Origin", "http://example.com"), ("Origin", "null"), ("Host", "example.com"), ("Host", ""), ("Host", "localhost:1"),
    ("Expect", "100-continue"),
    ("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings"), ("Range", "bytes=0-1"), ("If-None-Match", "*"),
    ("Cookie", "a=b; c"),
    ("Authorization", "Bearer x"), ("Authorization", "Basic !!"), ("X-HTTP-Method-Override", "DELETE"), ("Grpc-Timeout", "x"),
    ("Grpc-Metadata-x", "y"), ("Te", "trailers"), ("Accept-Encoding", "gzip, br, zstd"), ("X-Request-Id", "x" * 5000),
    ("X-Long", "y" * 70_000),
    ("Access-Control-Request-Method", "POST"), ("Transfer-Encoding", "identity"),
)
PARAMETER = re.compile(r"\{([a-z_.]+)(?:=[^}]*)?\}")


def routes():
    """The verb, path and body of every binding of a method."""
    found = []
    for path, method in METHODS.items():
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            verb = binding.WhichOneof("pattern")
            if verb and verb != "custom":
                found.append((path, verb.upper(), getattr(binding, verb), binding.body))
    return found


def at(tree, path):
    """The value at `a.b.c` in a tree, as a path or query writes it."""
    for name in path.split("."):
        tree = tree.get(name, "") if isinstance(tree, dict) else ""
    return tree if isinstance(tree, str) else json.dumps(tree)


def flat(tree, prefix=""):
    """All scalars of a tree by their paths."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            for item in value:
                if not isinstance(item, (dict, list)):
                    yield f"{prefix}{name}", item
        else:
            yield f"{prefix}{name}", value


def encoded(rng, text):
    """As part of a query: right, or as it is."""
    text = str(text)
    if rng.random() < 0.93:
        return quote(text, safe="")
    return re.sub(r"[\s\x00-\x1f#]", "+", text.encode("utf-8", "replace").decode("latin-1"))


@functools.cache
def bomb():
    """64 MiB of zeros in 64 KiB and a little."""
    return gzip.compress(bytes(64 * 2**20), mtime=0)


class Rest(Generator):
    """REST: what gRPC takes, as paths, queries, JSON, forms and binary bodies, mutated at each of these."""

    name = "admin-rest"

    def __init__(self, rng):
        super().__init__(rng)
        self.calls, self.routes, self.launched, self.sent = Calls(rng), routes(), 0, 0
        self.first, self.last, self.route = [], None, None

    def prepare(self, send):
        for path in ("CreateTask", "CreateWorkflow", "CreateLaunchPlan", "CreateExecution") * 2:
            route = next(route for route in self.routes if route[0].endswith(f"/{path}") and route[1] == "POST")
            request = self.request(route, 0, True)
            answer = send(request)
            assert answer.status == 200, f"{path}: {answer}"
            self.learn(request, answer)
        self.first = list(self.routes)

    def next(self):
        self.sent += 1
        self.last = self.route = None
        if self.first:
            return self.request(self.first.pop(0), 0)
        rng = self.rng
        if rng.random() < 0.06:
            return self.anything()
        route = rng.choice(self.routes)
        if route[0] in LAUNCHING and (self.launched >= LAUNCHES or self.sent < self.launched * LAUNCH_EVERY):
            route = next(route for route in self.routes if route[0].endswith("/ListExecutions"))
        return self.request(route, rng.choice((0, 1, 1, 2, 3)))

    def anything(self):
        rng = self.rng
        path = rng.choice((rng.choice(OTHER_PATHS), values.target(rng, [values.text(rng)[:5000] for _ in range(rng.randrange(1,
            5))], 0.3)))
        body = rng.choice((b"", b"{}", rng.randbytes(200)))
        return Http("api", rng.choice(METHODS_OF_HTTP), path, [rng.choice(HEADERS)], body)

    def request(self, route, mutations, surely=False):
        rng = self.rng
        path, verb, template, body_field = self.route = route
        method = METHODS[path]
        message = self.calls.plausible(method, surely)
        for _ in range(mutations if rng.random() < 0.5 else 0):
            self.calls.maker.mutate(message)
        self.calls.restrain(method, message)
        self.last = (method, message) if mutations == 0 else None
        shown, everything, tree = message, rng.random() < 0.2, None
        while tree is None:
            try:
                tree = json_format.MessageToDict(
                    shown, preserving_proto_field_name=True, always_print_fields_with_no_presence=everything
                )
            except (json_format.SerializeToJsonError, TypeError, ValueError, RecursionError):
                # JSON has no such times, structs and types: another message is shown, which may have some as well.
                shown, everything = self.calls.maker.make(method.input_type), False
        names = PARAMETER.findall(template)
        segments = [
            at(tree, part[1:-1].split("=")[0]) if part.startswith("{") else part for part in self.parts(template)
        ]
        if mutations and rng.random() < 0.15:
            segments[rng.randrange(len(segments))] = values.text(rng)[:6000]
        written = values.target(rng, [segment or ("x" if rng.random() < 0.9 else "") for segment in segments],
            0.05 if mutations else 0)
        if body_field or verb in ("POST", "PUT", "PATCH"):
            return self.with_body(verb, written, tree, message, mutations)
        query = [(name, value) for name, value in flat(tree) if name not in names]
        if mutations and rng.random() < 0.5:
            query.append((rng.choice(("limit", "token", "filters", "sort_by.key", "id.name", "nothing",
                values.text(rng)[:300])), values.text(rng)[:9000]))
        if mutations and rng.random() < 0.05:
            query = query * 3000 or [("a", "b")] * 12_000
        text = "&".join(f"{encoded(rng, name)}={encoded(rng, value)}" for name, value in query)
        headers = self.headers(mutations)
        return Http("api", verb if rng.random() < 0.97 or not mutations else rng.choice(METHODS_OF_HTTP),
            f"{written}?{text}" if text else written, headers)

    @staticmethod
    def parts(template):
        return [part for part in re.split(r"/(?![^{]*\})", template) if part]

    def headers(self, mutations):
        rng = self.rng
        headers = []
        if rng.random() < 0.4:
            headers.append(("Accept", rng.choice((JSON, BINARY, "*/*", rng.choice(TYPES)))))
        if mutations and rng.random() < 0.08:
            headers.append(rng.choice(HEADERS))
        return headers

    def with_body(self, verb, written, tree, message, mutations):
        rng = self.rng
        codec = rng.choice((JSON, JSON, JSON, BINARY, FORM)) if mutations else rng.choice((JSON, BINARY, None))
        if codec == BINARY:
            body = self.calls.maker.encode(message) if mutations else message.SerializeToString()
        elif codec == FORM:
            body = "&".join(f"{encoded(rng, name)}={encoded(rng, value)}" for name, value in flat(tree)).encode("latin-1",
                "replace")
        else:
            for _ in range(mutations):
                if isinstance(tree, (dict, list)):
                    tree = values.mutate_json(rng, tree, ("id", "spec", "name", "value", "inputs", "@type", "org"))
            body = values.write(tree).encode("utf-8", "surrogatepass")
            if mutations and rng.random() < 0.1:
                body = values.mutate_bytes(rng, body)
        headers = self.headers(mutations)
        if mutations and rng.random() < 0.08:
            headers.append(("Content-Encoding", rng.choice(("gzip", "gzip", "gzip, gzip", "deflate"))))
            body = self.packed(body)
        if codec:
            headers.append(("Content-Type", codec if rng.random() < 0.95 or not mutations else rng.choice(TYPES)))
        request = Http("api", verb, written, headers, body)
        if mutations and rng.random() < 0.06:
            request.declared = rng.choice((len(body) + 10, max(0, len(body) - 3), 10**12, 2**64))
        elif mutations and rng.random() < 0.1:
            request.pieces, request.chunked = rng.choice((2, 7)), rng.random() < 0.5
        return request

    def packed(self, body):
        """A body as gzip has it, mostly whole; sometimes a bomb."""
        rng = self.rng
        packed = bomb() if rng.random() < 0.05 else gzip.compress(body, 1, mtime=0)
        return packed if rng.random() < 0.8 else values.mutate_bytes(rng, packed)

    def learn(self, request, answer):
        unimplemented = answer.status == 501 and request.method == (self.route or ("", ""))[1]
        if unimplemented and self.route in self.routes and self.rng.random() < 0.5:
            # All do this on the way to one that is there; a few more requests are enough.
            self.routes.remove(self.route)
        if self.last is None or answer.status != 200:
            return
        method, message = self.last
        self.launched += any(path.endswith(f"/{method.name}") for path in LAUNCHING)
        self.calls.learn(method, message)
        answered = message_class(method.output_type)()
        try:
            if answer.headers.get("content-type") == BINARY:
                answered.ParseFromString(answer.content)
            else:
                json_format.Parse(answer.content, answered, ignore_unknown_fields=True)
        except (DecodeError, json_format.ParseError, UnicodeDecodeError):
            return
        self.calls.learn_answer(method, answered.SerializeToString())

    def finish(self, send):
        terminate(send, self.calls.names)
