"""Sends the request of a fault alone, to a server of its own: `python -m fuzz FILE [--history]`."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import conftest  # noqa: E402

from fuzz import oracle, transport  # noqa: E402


def main():
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("file", type=Path, help="what a lane wrote about a fault")
    parser.add_argument("--history", action="store_true", help="send the requests before it first")
    arguments = parser.parse_args()
    fault = json.loads(arguments.file.read_text())
    print(f"lane {fault['lane']}, seed {fault['seed']}, request {fault['index']}: {fault['why']}")
    with tempfile.TemporaryDirectory() as folder:
        backend = conftest.start(Path(folder))
        try:
            server, ports = oracle.Server(backend), transport.Ports(backend)
            for saved in fault["history"] if arguments.history else []:
                transport.load(saved).send(ports)
            request = transport.load(fault["request"])
            answer, cost = server.measure(lambda: request.send(ports))
            print(f"{request.name}\n{answer.status} {answer.text}")
            print(f"{cost.cpu:.3f} s of CPU, {cost.memory // 1024} KiB, {request.size} bytes sent, {cost.size} received")
            print("\n".join(server.panics()) or f"alive: {server.alive}, no panic")
        finally:
            if backend.process.poll() is None:
                conftest.stop(backend)


if __name__ == "__main__":
    main()
