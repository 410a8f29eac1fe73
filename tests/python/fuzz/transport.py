"""Requests as plain data, so that they can be printed, saved and sent again."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import ssl
import time
from pathlib import Path

import grpc
import yaml

from . import signing

# Who has not answered then never does.
ANSWER_WITHIN = 20
# Of so many zeros gzip makes one byte.
GZIP_OF_ZEROS = 1000


@dataclasses.dataclass
class Answer:
    """What came back: `status` is the name of a gRPC code, the number of HTTP, or `closed` for no answer at all."""

    status: object
    text: str
    content: bytes
    headers: dict = dataclasses.field(default_factory=dict)

    def json(self):
        """The answer as JSON; nothing if it is none, or nests too deep for this."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


@dataclasses.dataclass
class Grpc:
    """A unary call."""

    method: str
    message: bytes
    metadata: tuple = ()
    # So many zeros are sent after the message; of a message that is compressed, a bomb.
    zeros: int = 0
    # The message goes compressed (gzip).
    compressed: bool = False

    @property
    def size(self):
        """Bytes that are sent: a compressed message may explain no more than what is sent of it."""
        return len(self.message) + (self.zeros // GZIP_OF_ZEROS if self.compressed else self.zeros)

    @property
    def name(self):
        return self.method

    def saved(self):
        return {"kind": "grpc", "method": self.method, "message": self.message.hex(), "metadata": list(self.metadata),
            "zeros": self.zeros, "compressed": self.compressed}

    def send(self, ports):
        call = ports.channel.unary_unary(self.method, request_serializer=None, response_deserializer=None)
        try:
            content = call(
                self.message + bytes(self.zeros), timeout=ANSWER_WITHIN, metadata=[tuple(pair) for pair in self.metadata],
                compression=grpc.Compression.Gzip if self.compressed else None,
            )
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "", b"")
        return Answer("OK", "", content)


@dataclasses.dataclass
class Http:
    """A request of HTTP/1.1. What is not set is as usual."""

    port: str
    method: str
    target: str
    headers: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    # So many bytes are said to come; then the sender closes.
    declared: int | None = None
    # The body comes in so many pieces, with a pause before each.
    pieces: int = 1
    chunked: bool = False
    # An answer without end is read so long, in seconds.
    reads: float | None = None
    # The way S3 is to sign it: see `signing`.
    sign: dict | None = None

    @property
    def size(self):
        return len(self.body) + len(self.target) + sum(len(name) + len(value) for name, value in self.headers)

    @property
    def name(self):
        return f"{self.method} {self.target[:200]}"

    def saved(self):
        return {"kind": "http", **dataclasses.asdict(self), "body": self.body.hex()}

    def head(self, ports):
        target, headers = self.target, [(name, value) for name, value in self.headers]
        if not any(name.lower() == "host" for name, _ in headers):
            headers.append(("Host", ports.hosts[self.port]))
        if self.port == "kubernetes" and not any(name.lower() == "authorization" for name, _ in headers):
            headers.append(("Authorization", f"Bearer {ports.token}"))
        if self.sign is not None:
            target, headers = signing.sign(self, headers)
        if self.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif self.body or self.declared is not None or self.method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", str(len(self.body) if self.declared is None else self.declared)))
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")

    def send(self, ports):
        if self.declared is None and self.reads is None and (kept := ports.take(self.port)):
            answer = self._over(kept, ports)
            # It may have been closed since.
            if answer.status != "closed":
                return answer
        try:
            return self._over(ports.connect(self.port), ports)
        except OSError as error:
            return Answer("closed", repr(error), b"")

    def _over(self, connection, ports):
        keeps = False
        try:
            connection.settimeout(ANSWER_WITHIN)
            answer, keeps = self._exchange(connection, ports)
            return answer
        except TimeoutError:
            return Answer("no answer", f"nothing came for {ANSWER_WITHIN} s", b"")
        except (OSError, http.client.HTTPException) as error:
            return Answer("closed", repr(error), b"")
        finally:
            if keeps:
                ports.keep(self.port, connection)
            else:
                connection.close()

    def _exchange(self, connection, ports):
        """The answer, and whether more can be sent over this connection."""
        whole = True
        try:
            connection.sendall(self.head(ports))
            for piece in self._pieces():
                connection.sendall(piece)
                if self.pieces > 1:
                    time.sleep(0.02)
            if self.declared is not None and self.port != "kubernetes":
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            # A server may answer before it has read all, and close.
            whole = False
        if self.declared is not None and self.port == "kubernetes":
            # TLS has no half-closed connections.
            return Answer("closed", "by the client", b""), False
        answer = http.client.HTTPResponse(connection, method=self.method)
        answer.begin()
        content = self._read(answer, connection)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        keeps = whole and self.reads is None and self.declared is None and not answer.will_close
        return Answer(answer.status, content[:2000].decode("utf-8", "replace"), content, headers), keeps

    def _pieces(self):
        step = max(1, -(-len(self.body) // self.pieces))
        for begin in range(0, len(self.body), step):
            piece = self.body[begin : begin + step]
            yield b"%x\r\n%s\r\n" % (len(piece), piece) if self.chunked else piece
        if self.chunked:
            yield b"0\r\n\r\n"

    def _read(self, answer, connection):
        if self.reads is None:
            return answer.read()
        content, until = b"", time.monotonic() + self.reads
        connection.settimeout(self.reads)
        try:
            while time.monotonic() < until and (piece := answer.read1(65536)):
                content += piece
        except TimeoutError:
            pass
        return content


class Ports:
    """Where a server listens, and how one is let in."""

    def __init__(self, backend):
        self.hosts = {"api": backend.api, "s3": backend.s3.split("//")[1].rstrip("/")}
        config = yaml.safe_load(Path(backend.kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.hosts["kubernetes"] = cluster["server"].split("//")[1].rstrip("/")
        self.token = user["token"]
        # Whose certificate it is does not matter here.
        self.tls = ssl._create_unverified_context()
        self.kept = {}
        # flytekit takes 32 KiB of metadata: an error that is not cut is found as one that does not arrive.
        options = {"grpc.max_send_message_length": -1, "grpc.max_receive_message_length": -1, "grpc.max_metadata_size": 32 * 1024}
        self.channel = grpc.insecure_channel(backend.api, options=list(options.items()))

    def connect(self, port):
        host, number = self.hosts[port].rsplit(":", 1)
        connection = socket.create_connection((host.strip("[]"), int(number)), timeout=ANSWER_WITHIN)
        # Head and body are two writes: the second shall not wait for an acknowledgement of the first.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(connection, server_hostname="localhost") if port == "kubernetes" else connection

    def take(self, port):
        """A connection that was kept; nothing if there is none."""
        return self.kept.pop(port, None)

    def keep(self, port, connection):
        if port in self.kept:
            self.kept[port].close()
        self.kept[port] = connection

    def close(self):
        for connection in self.kept.values():
            connection.close()
        self.channel.close()


def load(saved):
    """A request from what `saved` gave."""
    fields = {name: value for name, value in saved.items() if name != "kind"}
    if saved["kind"] == "grpc":
        return Grpc(fields["method"], bytes.fromhex(fields["message"]), tuple(map(tuple, fields["metadata"])),
            fields.get("zeros", 0), fields.get("compressed", False))
    return Http(**{**fields, "headers": list(map(tuple, fields["headers"])), "body": bytes.fromhex(fields["body"])})
