"""Everything that can be killed is killed, again and again, under load: every execution ends as its tasks imply, nothing runs
twice, and nothing runs on."""

import base64
import os
import random
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import storm
import yaml
from conftest import PROJECT, binary, eventually, free_ports, processes_of, start, stop
from protocol import Api, Phase
from test_processes import Programs, configuration, postgres

# 60 kills and 200 workflows in all.
OF_EVERYTHING = {"kills": 20, "workflows": 60}
OF_THE_ENGINE = {"kills": 40, "workflows": 140}
# After the last fault something happens at least this often until all have ended; how fast depends on the machine.
STALLED = 60


@pytest.fixture
def moments():
    seed = int(os.environ.get("FLYTE_TEST_SEED", random.randrange(2**32)))
    print(f"FLYTE_TEST_SEED={seed}")
    return random.Random(seed)


def pause(seconds):
    """The moment of a fault is a time; there is no condition to wait for."""
    threading.Event().wait(seconds)


def kill(process, moments):
    """KILL, or TERM as a rolling upgrade does it."""
    if moments.random() < 0.5:
        process.kill()
    else:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=40)
    except Exception:
        process.kill()
        process.wait()
        raise


def shares(workflows, kills):
    """How many workflows are launched before each kill."""
    return [workflows // kills + (index < workflows % kills) for index in range(kills)]


def check(api, journal, launched, log, stopped=False):
    """Waits for the end of all executions, and compares what they did with what they had to do."""
    began, ends = time.monotonic(), {}
    progress, since = None, began
    while len(ends) < len(launched):
        for name, (execution, _) in launched.items():
            if name not in ends and (found := api.ended(execution)):
                ends[name] = found
        if progress != (now := (len(ends), journal.stat().st_size)):
            progress, since = now, time.monotonic()
        if time.monotonic() - since > STALLED:
            left = {name: shape.plan.name for name, (_, shape) in launched.items() if name not in ends}
            pytest.fail(f"{len(left)} of {len(launched)} do not end: {left}\n{log()[-5000:]}")
        pause(0.3)
    print(f"all ended {time.monotonic() - began:.1f} s after the last fault")
    counts, wrong = storm.ran(journal), []
    for name, (_, shape) in launched.items():
        closure = ends[name].closure
        if closure.phase != shape.phase:
            wrong.append(f"{name} of {shape.plan.name} is {Phase.Phase.Name(closure.phase)}: {closure.error.message[:500]}")
        interrupted = api.interrupted(launched[name][0]) if stopped and not shape.fits(counts[name], stopped) else frozenset()
        if not shape.fits(counts[name], stopped, interrupted):
            wrong.append(f"{name} of {shape.plan.name} ran {sorted(counts[name])}, not {sorted(shape.steps)}")
        if twice := {step: count for step, count in counts[name].items() if count != 1}:
            wrong.append(f"{name} of {shape.plan.name} ran more than once: {twice}")
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong)
    eventually(lambda: not [name for name in launched if processes_of(name)], "no process is left")
    before = journal.read_text()
    pause(1)
    assert journal.read_text() == before


def test_flyte_start_survives_a_storm(tmp_path, moments):
    ports, journal = free_ports(3), tmp_path / "journal"
    journal.touch()
    backend, launched = start(tmp_path, ports), {}
    try:
        with Api(backend.api) as api:
            shapes = list(storm.Workflows(api, journal).all())
        for count in shares(OF_EVERYTHING["workflows"], OF_EVERYTHING["kills"]):
            with Api(backend.api) as api:
                for _ in range(count):
                    name, shape = f"storm{len(launched)}", shapes[len(launched) % len(shapes)]
                    launched[name] = (storm.launch(api, shape, name), shape)
            pause(moments.uniform(0, 1.2))
            kill(backend.process, moments)
            backend = start(tmp_path, ports)
        with Api(backend.api) as api:
            check(api, journal, launched, lambda: backend.log, stopped=True)
    finally:
        code = stop(backend)
    assert code == 0


@pytest.fixture
def programs(tmp_path, moments):
    """Everything but the engine, and proxies between it and all else."""
    names = ["postgres", "http", "grpc", "admin profiler", "propeller profiler", "s3", "kubernetes",
             "proxy of kubernetes", "proxy of admin", "proxy of s3"]
    ports, programs = dict(zip(names, free_ports(len(names)))), Programs(tmp_path)
    proxies = []

    def proxy(name, kind, upstream, *authority):
        command = [sys.executable, str(Path(__file__).parent / "faults.py"), kind, ports[name], upstream,
                   str(moments.randrange(2**32)), *authority]
        proxies.append(programs.start(name, command))
        programs.wait_for(name, lambda: "listening" in programs.log(name), f"the {name} listens")

    try:
        postgres(programs, tmp_path, ports["postgres"])
        programs.start(
            "platform",
            [binary(), "platform", "--data-dir", str(tmp_path / "data"), "--s3-port", ports["s3"], "--kubernetes-port",
             ports["kubernetes"], "--python", sys.executable],
        )
        programs.wait_for("platform", lambda: "Embedded platform ready" in programs.log("platform"), "the platform serves")
        kubeconfig = re.search(r"kubeconfig (\S+)\)", programs.log("platform")).group(1)
        config = tmp_path / "admin.yaml"
        config.write_text(configuration(ports, kubeconfig, f"http://localhost:{ports['s3']}"))
        beside = Path(binary()).parent
        for step in (["migrate", "run"], ["migrate", "seed-projects", PROJECT], ["clusterresource", "sync"]):
            done = programs.start(" ".join(step), [str(beside / "flyteadmin"), "--config", str(config), *step])
            assert done.wait(timeout=60) == 0, programs.log(" ".join(step))
        programs.start("flyteadmin", [str(beside / "flyteadmin"), "--config", str(config), "serve"])

        through = yaml.safe_load(Path(kubeconfig).read_text())
        cluster = through["clusters"][0]["cluster"]
        authority = tmp_path / "ca.pem"
        authority.write_bytes(base64.b64decode(cluster.pop("certificate-authority-data")))
        upstream = cluster["server"].split("//")[1].rstrip("/")
        cluster["server"] = f"http://127.0.0.1:{ports['proxy of kubernetes']}"
        engines_kubeconfig = tmp_path / "kubeconfig"
        engines_kubeconfig.write_text(yaml.safe_dump(through))
        proxy("proxy of kubernetes", "http", upstream, str(authority))
        proxy("proxy of admin", "tcp", f"127.0.0.1:{ports['grpc']}")
        proxy("proxy of s3", "http", f"127.0.0.1:{ports['s3']}")
        around = {**ports, "grpc": ports["proxy of admin"]}
        engines = tmp_path / "propeller.yaml"
        engines.write_text(
            configuration(around, str(engines_kubeconfig), f"http://localhost:{ports['proxy of s3']}")
        )
        yield programs, ports, [str(beside / "flytepropeller"), "--config", str(engines)], proxies
    finally:
        codes = programs.stop()
    survivors = ("postgres", "platform", "flyteadmin")
    assert {name: codes[name] for name in survivors if codes.get(name) != 0} == {}


def test_an_engine_survives_a_storm_and_a_bad_network(tmp_path, moments, programs):
    programs, ports, engine, proxies = programs
    journal = tmp_path / "journal"
    journal.touch()
    launched, process = {}, programs.start("flytepropeller", engine)
    with Api(f"127.0.0.1:{ports['grpc']}") as api:
        shapes = list(storm.Workflows(api, journal).all())
        for count in shares(OF_THE_ENGINE["workflows"], OF_THE_ENGINE["kills"]):
            for _ in range(count):
                name, shape = f"storm{len(launched)}", shapes[len(launched) % len(shapes)]
                launched[name] = (storm.launch(api, shape, name), shape)
            pause(moments.uniform(0.1, 2.5))
            kill(process, moments)
            process = programs.start("flytepropeller", engine)
        pause(3)
        for each in proxies:
            each.send_signal(signal.SIGUSR1)
        check(api, journal, launched, lambda: programs.log("flytepropeller"))
    counted = [programs.log(name) for name in ("proxy of kubernetes", "proxy of admin", "proxy of s3")]
    print("\n".join(counted))
    assert process.poll() is None
