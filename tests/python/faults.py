"""A proxy that makes requests go wrong: `python faults.py KIND LISTEN UPSTREAM SEED [CA]`.

KIND `http` takes HTTP/1.1 and forwards each request, over TLS if there is a CA: it delays, refuses, drops, or lets a request
happen and loses the answer, and cuts watches. KIND `tcp` forwards bytes and cuts connections. Faults end with SIGUSR1.
"""

import asyncio
import json
import random
import signal
import ssl
import sys

LARGEST = 64 * 1024 * 1024
CHANGES = ("POST", "PUT", "PATCH", "DELETE")


class Faults:
    """Decides what goes wrong; nothing once it is over."""

    def __init__(self, seed):
        self.random, self.over, self.counts = random.Random(seed), False, {}

    def happens(self, what, probability):
        happens = not self.over and self.random.random() < probability
        if happens:
            self.counts[what] = self.counts.get(what, 0) + 1
        return happens

    async def delay(self):
        if self.happens("delay", 0.15):
            await asyncio.sleep(self.random.uniform(0, 0.6))


async def read_head(reader):
    """The first line, the headers in lower case, and all of it as it came; none when there is no more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return first, headers, head


async def body(reader, headers, until_closed=False):
    """The pieces of a body as they come, with the framing that they came with."""
    if "chunked" in headers.get("transfer-encoding", ""):
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            rest = await reader.readexactly(size + 2)
            yield line + rest
            if size == 0:
                return
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    elif until_closed:
        while piece := await reader.read(65536):
            yield piece


def refusal(path, code):
    """As the Kubernetes API or S3 says it."""
    if path.startswith(("/api/", "/apis/")):
        reasons = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 409: "Conflict"}
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reasons[code],
                  "message": "a fault of the proxy"}
        kind, text = "application/json", json.dumps(status)
    else:
        kind, text = "application/xml", "<Error><Code>SlowDown</Code><Message>a fault of the proxy</Message></Error>"
    return f"HTTP/1.1 {code} Refused\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


class Cut(Exception):
    """The connection ends here."""


def abort(*writers):
    for writer in writers:
        writer.transport.abort()


async def forward_http(faults, reader, writer, upstream):
    from_server, to_server = await upstream()
    try:
        while request := await read_head(reader):
            first, headers, head = request
            method, path, _ = first.split(" ", 2)
            content = b"".join([piece async for piece in body(reader, headers)])
            changes = method in CHANGES
            await faults.delay()
            if faults.happens("drop", 0.03):
                raise Cut
            if faults.happens("refuse", 0.05 if changes else 0.02):
                conflicts = method == "PATCH" and "/flyteworkflows/" in path
                codes = [429, 500, 503, 409] if conflicts else [429, 500, 503]
                writer.write(refusal(path, faults.random.choice(codes) if path.startswith("/api") else 503))
                await writer.drain()
                continue
            loses = changes and faults.happens("lose", 0.05)
            to_server.write(head + content)
            await to_server.drain()
            answer = await read_head(from_server)
            if answer is None:
                raise Cut
            status, answered, answer_head = answer
            code = int(status.split(" ")[1])
            await faults.delay()
            if not loses:
                writer.write(answer_head)
                await writer.drain()
            if "watch=true" in path and faults.happens("cut", 0.3):
                # The loop cuts it, whatever is awaited then.
                loop = asyncio.get_running_loop()
                loop.call_later(faults.random.uniform(0.5, 4), abort, writer, to_server)
            if method != "HEAD" and code not in (204, 304):
                async for piece in body(from_server, answered, until_closed=True):
                    if not loses:
                        writer.write(piece)
                        await writer.drain()
            if loses:
                raise Cut
    finally:
        to_server.close()


async def forward_bytes(faults, reader, writer, upstream):
    from_server, to_server = await upstream()

    async def pump(source, sink):
        while piece := await source.read(65536):
            await faults.delay()
            sink.write(piece)
            await sink.drain()

    life = None if faults.over else faults.random.uniform(1, 8)
    pumps = [asyncio.ensure_future(pump(reader, to_server)), asyncio.ensure_future(pump(from_server, writer))]
    try:
        await asyncio.wait(pumps, timeout=life, return_when=asyncio.FIRST_COMPLETED)
        if faults.over:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        else:
            faults.happens("cut", 1)
    finally:
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        to_server.close()


async def main(kind, listen, address, seed, authority=None):
    faults = Faults(int(seed))
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=authority) if authority else None
    forward = {"http": forward_http, "tcp": forward_bytes}[kind]

    async def upstream():
        return await asyncio.open_connection(host, int(port), ssl=context, limit=LARGEST)

    serving = set()

    async def serve(reader, writer):
        # Nobody else holds the task: without this it is collected while it waits, and its connection hangs.
        serving.add(asyncio.current_task())
        try:
            await forward(faults, reader, writer, upstream)
        except (Cut, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            serving.discard(asyncio.current_task())

    def end():
        faults.over = True
        print("faults", json.dumps(faults.counts), flush=True)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, end)
    server = await asyncio.start_server(serve, "127.0.0.1", int(listen), limit=LARGEST)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
