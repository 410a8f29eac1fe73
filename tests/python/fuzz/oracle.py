"""What a server may do with a request: answer it, in time and memory that its size explains."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

# Seconds of CPU and bytes of memory of one request: so much for any, and so much for each byte sent or received. They are
# those of a debug build; a release build takes a tenth.
CPU_BASE, CPU_PER_BYTE = 0.5, 4e-6
MEMORY_BASE, MEMORY_PER_BYTE = 48 * 2**20, 120
# How much more memory a lane may leave behind than there was once it was warm, for each hour.
GROWTH_BASE, GROWTH_PER_SECOND = 160 * 2**20, 0.5 * 2**20
# The canaries answer so fast, in seconds.
CANARY_WITHIN = 1.0
# Below this share of a core a server is idle.
IDLE = 0.03


def slowdown():
    """How many times longer than alone a program takes now, for all the others on this machine; at least 1."""
    wall, cpu = time.monotonic(), time.thread_time()
    while time.thread_time() - cpu < 0.05:
        pass
    return max(1.0, (time.monotonic() - wall) / (time.thread_time() - cpu))


@dataclasses.dataclass
class Cost:
    """What a request took, in seconds of CPU and bytes."""

    cpu: float
    memory: int
    size: int

    def excess(self):
        """What it took too much of, and how many times too much."""
        cpu, memory = CPU_BASE + CPU_PER_BYTE * self.size, MEMORY_BASE + MEMORY_PER_BYTE * self.size
        if self.cpu > cpu:
            return f"it took {self.cpu:.2f} s of CPU for {self.size} bytes; at most {cpu:.2f} s are allowed", self.cpu / cpu
        if self.memory > memory:
            mib = 2**20
            return f"it took {self.memory // mib} MiB for {self.size} bytes; at most {memory // mib} are allowed", self.memory / memory
        return None


class Server:
    """A process as the system sees it."""

    def __init__(self, backend):
        self.backend, self.pid = backend, backend.process.pid
        # CPU time of all threads of a process, as clock_getcpuclockid(3) gives it.
        self.clock = (~self.pid << 3) | 2
        self.read = 0

    @property
    def alive(self):
        return self.backend.process.poll() is None

    def cpu(self):
        return time.clock_gettime(self.clock)

    def _status(self, name):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name} in the status of a process")

    def memory(self):
        return self._status("VmRSS")

    def peak(self):
        return self._status("VmHWM")

    def forget_peak(self):
        """From now on the peak is that of what follows (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def idle(self, within=20):
        """Waits until next to no CPU is used; whether that came."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            before, began = self.cpu(), time.monotonic()
            time.sleep(0.2)
            if self.cpu() - before < IDLE * (time.monotonic() - began):
                return True
        return False

    def panics(self):
        """Lines of the log, since the last look, that tell of a panic or an abort."""
        with open(self.backend.folder / "flyte.log", errors="replace") as log:
            log.seek(self.read)
            lines = log.readlines()
            self.read = log.tell()
        return [line.strip() for line in lines if "panicked" in line or "overflowed its stack" in line or "abort" in line.lower()
                and "core dumped" in line]

    def measure(self, send):
        """What `send` answers, and what it cost; `send` answers something with `content`."""
        self.forget_peak()
        memory, cpu = self.memory(), self.cpu()
        answer = send()
        cost = Cost(self.cpu() - cpu if self.alive else 0.0, max(0, self.peak() - memory) if self.alive else 0,
            len(answer.content))
        return answer, cost
