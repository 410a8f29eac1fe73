"""A lane: requests from a generator, one after the other, each judged; canaries between them, and a workflow at the end."""

from __future__ import annotations

import collections
import json
import os
import random
import re
import time

import grpc
import protocol
from conftest import eventually
from flyteidl.core import execution_pb2

from . import oracle, transport
from .messages import seeded

DEFAULT_SEED, DEFAULT_SECONDS = 20_260, 45
CANARY_EVERY = 50
# So many requests before a fault are kept with it.
HISTORY = 400
# A lane ends after so many different faults.
MOST_FAULTS = 20
# An error of the server that says one of these is a client's: gRPC has no other code for bytes that are no message.
CAUSES = (
    "grpc: error unmarshalling request", "grpc: failed to decompress", "grpc: the request is not one message",
    "failed to decode Protobuf message: ",
    # grpcio's own, for metadata and messages that it does not send.
    "Exception serializing request", "metadata was invalid",
)


def seed():
    """`FLYTE_FUZZ_SEED`, or the one of every day."""
    told = os.environ.get("FLYTE_FUZZ_SEED", str(DEFAULT_SEED))
    return random.SystemRandom().randrange(2**32) if told == "random" else int(told)


def seconds():
    return float(os.environ.get("FLYTE_FUZZ_SECONDS", DEFAULT_SECONDS))


class Generator:
    """Makes requests for one port, and learns from the answers."""

    name = ""

    def __init__(self, rng):
        self.rng = rng

    def prepare(self, send):
        """Makes what later requests use."""

    def next(self):
        raise NotImplementedError

    def learn(self, request, answer):
        """Remembers what there is now."""

    def finish(self, send):
        """Takes back what would keep a workflow from running."""

    def troubles(self, backend, send):
        """What is wrong with the server after that, as texts."""
        return []


def refused(answer):
    """Why an answer is none that a client may get; nothing if it is one."""
    status = str(answer.status)
    if "Stream removed" in answer.text or "metadata size exceeds" in answer.text:
        return f"an answer that grpc refuses: {answer.text[:300]}"
    if status in ("UNKNOWN", "INTERNAL", "500", "DATA_LOSS", "UNAVAILABLE", "DEADLINE_EXCEEDED", "502", "503", "504",
        "no answer"):
        if any(cause in answer.text for cause in CAUSES):
            return None
        return f"answered with {status}: {answer.text[:500]}"
    return None


class Lane:
    """One run of a generator against a backend of its own."""

    def __init__(self, generator, backend, folder, number):
        self.backend, self.folder, self.seed = backend, folder, number
        self.generator = generator(seeded(number, generator.name))
        self.server, self.ports = oracle.Server(backend), transport.Ports(backend)
        self.history, self.faults, self.sent = collections.deque(maxlen=HISTORY), {}, 0
        self.statuses, self.worst = collections.Counter(), []

    def send(self, request):
        """Sends without judging; for what prepares and cleans up."""
        return request.send(self.ports)

    def run(self, duration):
        print(f"FLYTE_FUZZ_SEED={self.seed} FLYTE_FUZZ_SECONDS={duration:g} lane {self.generator.name}", flush=True)
        began = time.monotonic()
        self.generator.prepare(self.send)
        warm = None
        while time.monotonic() - began < duration and len(self.faults) < MOST_FAULTS:
            self.step(self.generator.next())
            if not self.server.alive:
                break
            if self.sent % CANARY_EVERY == 0:
                self.canary()
            if warm is None and time.monotonic() - began > duration / 3:
                warm = self.server.memory()
        if self.server.alive:
            self.canary()
            self.generator.finish(self.send)
            for trouble in self.generator.troubles(self.backend, self.send):
                self.fault(self.history[-1], f"at the end: {trouble}")
            self.growth(warm, time.monotonic() - began)
            self.workflow()
        self.ports.close()
        self.report(time.monotonic() - began)

    def step(self, request):
        answer, cost = self.server.measure(lambda: request.send(self.ports))
        self.sent += 1
        cost.size += request.size
        self.statuses[str(answer.status)] += 1
        self.history.append(request)
        self.worst = sorted([*self.worst, (cost.cpu, cost.memory, cost.size, request.name[:80])], reverse=True)[:5]
        if not self.server.alive:
            code = self.backend.process.wait()
            self.fault(request, f"the server ended with {code}: {self.backend.log[-3000:]}")
            return
        if why := refused(answer):
            self.fault(request, why)
        elif excess := cost.excess():
            self.again(request, *excess)
        self.generator.learn(request, answer)

    def again(self, request, why, times):
        """Other work of the server counts too: once more, when it has none."""
        self.server.idle()
        answer, cost = self.server.measure(lambda: request.send(self.ports))
        cost.size += request.size
        # A creation costs less the second time.
        if cost.excess() or times > 3:
            self.fault(request, f"{why} (alone: {cost.cpu:.2f} s, {cost.memory // 2**20} MiB; {answer.status})")

    def fault(self, request, why):
        # One of a kind: the same call, or the same verb and parameters, and the same trouble but for its numbers.
        what = request.name if isinstance(request, transport.Grpc) else (request.method,
            *re.findall(r"[?&]([A-Za-z-]+)", request.target)[:4])
        key = (what, re.sub(r"[0-9.]+", "#", why)[:90])
        if key in self.faults:
            return
        path = self.folder / f"fault-{self.generator.name}-{len(self.faults)}.json"
        saved = {
            "lane": self.generator.name, "seed": self.seed, "index": self.sent, "why": why, "request": request.saved(),
            "history": [each.saved() for each in list(self.history)[:-1]],
        }
        path.write_text(json.dumps(saved))
        shown = json.dumps(request.saved())
        shown = shown if len(shown) < 3000 else f"{shown[:3000]}… ({len(shown)} characters)"
        self.faults[key] = (
            f"{self.generator.name}, FLYTE_FUZZ_SEED={self.seed}, request {self.sent}: {why}\n  {shown}\n"
            f"  alone: cd tests/python && ../../.venv/bin/python -m fuzz {path}"
        )
        print(self.faults[key], flush=True)

    def canary(self):
        """A normal request of each port, fast: one of three tries, and as fast as other programs leave it the machine."""
        for request in canaries():
            problem = None
            for _ in range(3):
                began = time.monotonic()
                answer, cost = self.server.measure(lambda: request.send(self.ports))
                took = time.monotonic() - began
                if answer.status not in ("OK", 200):
                    problem = f"answered with {answer.status}: {answer.text[:300]}"
                    break
                if took <= oracle.CANARY_WITHIN or took <= oracle.CANARY_WITHIN * oracle.slowdown():
                    problem = None
                    break
                problem = f"took {took:.2f} s and {cost.cpu:.2f} s of CPU for {cost.size} bytes"
            if problem:
                self.fault(self.history[-1], f"after it, the canary {request.name} {problem}")
        if panics := self.server.panics():
            self.fault(self.history[-1], f"in the log, of the last {CANARY_EVERY} requests: {panics[0][:500]}")

    def growth(self, warm, took):
        self.server.idle()
        allowed = oracle.GROWTH_BASE + oracle.GROWTH_PER_SECOND * took
        grown = self.server.memory() - (warm or 0)
        if warm and grown > allowed:
            self.fault(self.history[-1],
                f"memory grew by {grown // 2**20} MiB over the lane; {allowed // 2**20:.0f} are allowed")
        self.grown = grown

    def workflow(self):
        """One task, from registration to its end, as if nothing had been."""
        try:
            with protocol.Api(self.backend.api) as api:
                plan = api.register_chain(f"after.{self.seed}.{self.sent}", ["true"])
                execution = api.launch(plan, f"after{self.seed % 10**8}")
                ended = eventually(lambda: api.ended(execution), "a normal workflow ends", 60)
            phase = ended.closure.phase
            assert phase == execution_pb2.WorkflowExecution.SUCCEEDED, f"it ended in {phase}: {ended.closure.error.message}"
        except (AssertionError, grpc.RpcError) as error:
            self.fault(self.history[-1], f"a normal workflow does not succeed afterwards: {error}")
        if panics := self.server.panics():
            self.fault(self.history[-1], f"in the log, at the end: {panics[0][:500]}")

    def report(self, took):
        print(f"{self.generator.name}: {self.sent} requests in {took:.0f} s, {dict(self.statuses.most_common(14))}")
        print(f"  memory {self.server.memory() // 2**20 if self.server.alive else 0} MiB, grown {getattr(self, 'grown', 0) // 2**20}")
        for cpu, memory, size, name in self.worst:
            print(f"  {cpu:.2f} s {memory // 2**20} MiB for {size} bytes: {name!r}")
        assert self.sent > 0
        faults = list(self.faults.values())
        assert not faults, f"{len(faults)} faults; the first:\n" + "\n".join(faults[:5])


def canaries():
    """A normal request of each port."""
    from flyteidl.admin import common_pb2

    listed = common_pb2.ResourceListRequest(
        id=common_pb2.NamedEntityIdentifier(project=protocol.PROJECT, domain=protocol.DOMAIN), limit=10
    )
    return (
        transport.Http("api", "GET", "/healthcheck"),
        transport.Grpc("/flyteidl.service.AdminService/ListTasks", listed.SerializeToString()),
        transport.Http("api", "GET", f"/api/v1/executions/{protocol.PROJECT}/{protocol.DOMAIN}?limit=10"),
        transport.Http("kubernetes", "GET", "/api/v1/namespaces?limit=10"),
        transport.Http("s3", "GET", "/my-s3-bucket/?list-type=2&max-keys=10", sign={}),
    )
