"""`kill -9` of `flyte start` at random moments: what was running completes, and every attempt ran once."""

import os
import random
from collections import Counter

import pytest
from conftest import eventually, free_ports, start, stop
from protocol import Api, Phase

pytestmark = pytest.mark.kubernetes
ROUNDS = 20
STEPS = 5
# A chain takes about twice that, so that every round is killed in its midst.
LATEST_KILL = 1.2


def test_killed_twenty_times_every_attempt_runs_once(tmp_path, own_api_server):
    seed = int(os.environ.get("FLYTE_TEST_SEED", random.randrange(2**32)))
    print(f"FLYTE_TEST_SEED={seed}")
    moments = random.Random(seed)
    ports = free_ports(3)
    journal = tmp_path / "journal"
    journal.touch()
    # `>>` of a short line appends atomically.
    script = "echo $FLYTE_INTERNAL_EXECUTION_ID {step} $FLYTE_ATTEMPT_NUMBER $$ >> " + str(journal) + "; sleep 0.2"
    scripts = [script.format(step=step) for step in range(STEPS)]
    backend = start(tmp_path, ports, own_api_server)
    try:
        with Api(backend.api) as api:
            plan = api.register_chain("crash", scripts)
        for number in range(ROUNDS):
            with Api(backend.api) as api:
                execution = api.launch(plan, f"crash{number}")
                eventually(lambda: f"crash{number} " in journal.read_text(), "the chain starts")
                wait(moments.uniform(0, LATEST_KILL))
            backend.process.kill()
            backend.process.wait()
            backend = start(tmp_path, ports, own_api_server)
            with Api(backend.api) as api:
                ended = eventually(lambda: api.ended(execution), f"round {number} completes", within=60)
            assert ended.closure.phase == Phase.SUCCEEDED, f"round {number}: {ended.closure.error.message}"
    finally:
        code = stop(backend)
    assert code == 0
    runs = Counter(tuple(line.split()[:3]) for line in journal.read_text().splitlines())
    assert {run: count for run, count in runs.items() if count != 1} == {}
    assert set(runs) == {(f"crash{number}", str(step), "0") for number in range(ROUNDS) for step in range(STEPS)}


def wait(seconds):
    """The moment of a crash is a time; there is no condition to wait for."""
    import threading

    threading.Event().wait(seconds)
