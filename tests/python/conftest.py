"""One backend for all suites: `flyte start` on free ports, with its data in a temporary folder.

With `--cluster kubernetes` its Kubernetes is a real kube-apiserver, and the tests are those marked `kubernetes`.

Nothing is built here: `make test` has built `target/debug/flyte` before, `make test-kubernetes` also the API server.
FLYTE_BINARY names another `flyte`, FLYTE_TEST_KEEP=1 keeps the data folder and the log.
"""

import contextlib
import dataclasses
import datetime
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from flytekit.configuration import Config, DataConfig, PlatformConfig, S3Config
from flytekit.models.core.execution import WorkflowExecutionPhase
from flytekit.remote import FlyteRemote

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "kubernetes"))
import apiserver  # noqa: E402  the folder is named above

FLOWS = Path(__file__).resolve().parent / "flows"
PROJECT, DOMAIN = "flytesnacks", "development"
NAMESPACE = f"{PROJECT}-{DOMAIN}"
VERSION = "suite1"
START_WITHIN = 30
RUN_WITHIN = datetime.timedelta(seconds=180)
# Where tests/kubernetes/build.sh puts a real kube-apiserver.
KUBERNETES = Path(os.environ.get("FLYTE_TEST_KUBERNETES", ROOT / "target" / "kubernetes"))


def pytest_addoption(parser):
    parser.addoption(
        "--cluster", choices=["embedded", "kubernetes"], default="embedded",
        help="the Kubernetes that Flyte runs on: its own, or a real API server (runs only tests that are marked so)",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "kubernetes: runs on a real Kubernetes API server too")
    config.addinivalue_line("markers", "embedded: among such tests, one about what the embedded platform alone has")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--cluster") != "kubernetes":
        return

    def runs(item):
        return item.get_closest_marker("kubernetes") and not item.get_closest_marker("embedded")

    config.hook.pytest_deselected(items=[item for item in items if not runs(item)])
    items[:] = [item for item in items if runs(item)]


def binary():
    """The program under test; a missing one fails the run, it never skips."""
    path = Path(os.environ.get("FLYTE_BINARY", ROOT / "target" / "debug" / "flyte"))
    assert path.exists(), f"{path} is not built; run `make test`, or `cargo build --package flyte`"
    return str(path)


@dataclasses.dataclass
class Backend:
    """A running `flyte start` and how to reach it."""

    process: subprocess.Popen
    folder: Path
    api: str
    s3: str
    kubeconfig: str

    @property
    def client_config(self):
        return str(self.folder / "config.yaml")

    @property
    def log(self):
        return (self.folder / "flyte.log").read_text()

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.api}{path}", timeout=10) as answer:
            return answer.read()


def free_ports(count):
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def start(folder, ports=("0", "0", "0"), server=None):
    """Starts a backend in `folder` and waits until it serves; `ports` are those of HTTP, S3 and Kubernetes. `server` is a real
    API server to be used instead of the last."""
    log = folder / "flyte.log"
    command = [binary(), "start", "--data-dir", str(folder / "data"), "--python", sys.executable]
    flags = ["--http-port", "--s3-port"] + ([] if server else ["--kubernetes-port"])
    for flag, port in zip(flags, ports):
        command += [flag, port]
    if server:
        command += ["--kubeconfig", server.kubeconfig]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=apiserver.dies_with(os.getpid()),
        )
    deadline = time.monotonic() + START_WITHIN
    while "Flyte is ready" not in log.read_text() or "Node" not in log.read_text():
        assert process.poll() is None, f"flyte ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"flyte was not ready within {START_WITHIN} s:\n{log.read_text()}"
        time.sleep(0.02)
    text = log.read_text()
    api = re.search(r"API\s+http://(\S+)", text).group(1)
    s3 = re.search(r"Storage\s+(http://\S+)", text).group(1)
    kubeconfig = re.search(r"Kubernetes\s+KUBECONFIG=(\S+)", text).group(1)
    backend = Backend(process, folder, api, s3, kubeconfig)
    assert backend.get("/healthcheck") is not None
    (folder / "config.yaml").write_text(
        f"admin:\n  endpoint: dns:///{api}\n  insecure: true\n"
        f"storage:\n  connection:\n    endpoint: {s3}\n    access-key: minio\n    secret-key: miniostorage\n"
    )
    return backend


def counted(text):
    """The series of an exposition and their values."""
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def stop(backend):
    """Ctrl-C; it must end by itself."""
    if backend.process.poll() is None:
        backend.process.send_signal(signal.SIGINT)
    try:
        return backend.process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        backend.process.kill()
        raise AssertionError(f"flyte did not stop within 40 s:\n{backend.log}") from None


@contextlib.contextmanager
def real_api_server(config, folder):
    """An API server of its own in `folder`; none on the embedded lane. Two backends cannot share one."""
    if config.getoption("--cluster") == "embedded":
        yield None
        return
    folder.mkdir()
    with apiserver.running(KUBERNETES, folder) as server:
        yield server


@pytest.fixture(scope="session")
def api_server(pytestconfig, tmp_path_factory):
    """The API server of the session's backend; none on the embedded lane."""
    with real_api_server(pytestconfig, tmp_path_factory.mktemp("kubernetes") / "server") as server:
        yield server


@pytest.fixture
def own_api_server(pytestconfig, tmp_path):
    """The API server of a backend that a test starts itself; none on the embedded lane."""
    with real_api_server(pytestconfig, tmp_path / "kubernetes") as server:
        yield server


@pytest.fixture(scope="session")
def backend(tmp_path_factory, api_server):
    backend = start(tmp_path_factory.mktemp("flyte"), server=api_server)
    yield backend
    code = stop(backend)
    assert code == 0, f"flyte ended with {code}:\n{backend.log}"


@pytest.fixture(scope="session")
def kubectl(backend):
    """Runs stock kubectl; answers its output."""

    def run(*arguments, text_in=None):
        answer = subprocess.run(
            [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", backend.kubeconfig, *arguments],
            input=text_in, capture_output=True, text=True, timeout=60,
        )
        assert answer.returncode == 0, f"kubectl {arguments}: {answer.stdout}{answer.stderr}"
        return answer.stdout

    return run


@pytest.fixture(scope="session")
def remote(backend):
    config = Config(
        platform=PlatformConfig(endpoint=backend.api, insecure=True),
        data_config=DataConfig(
            s3=S3Config(endpoint=backend.s3, access_key_id="minio", secret_access_key="miniostorage")
        ),
    )
    return FlyteRemote(config, default_project=PROJECT, default_domain=DOMAIN)


@pytest.fixture(scope="session")
def pyflyte(backend):
    """Runs stock pyflyte; answers its output."""

    def run(*arguments, code=0, timeout=180, **environment):
        result = subprocess.run(
            [str(Path(sys.executable).parent / "pyflyte"), "--config", backend.client_config, *map(str, arguments)],
            cwd=FLOWS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "300", **environment},
        )
        assert result.returncode == code, f"pyflyte {arguments} ended with {result.returncode}:\n{result.stdout}\n{backend.log[-4000:]}"
        return result.stdout

    return run


@pytest.fixture(scope="session")
def registered(pyflyte):
    """Everything in flows/, as version VERSION."""
    pyflyte("register", "--project", PROJECT, "--domain", DOMAIN, "--version", VERSION, "flows.py")
    return VERSION


def execution_name(output):
    """The name in what `pyflyte run` or `relaunch` printed."""
    found = re.search(rf"(?:/executions/|ex:{PROJECT}:{DOMAIN}:)([a-z0-9-]+)", output)
    assert found, output
    return found.group(1)


@pytest.fixture(scope="session")
def finish(remote):
    """Waits for an execution, by object or name, and checks how it ended."""

    def wait(execution, phase=WorkflowExecutionPhase.SUCCEEDED, sync_nodes=True):
        if isinstance(execution, str):
            execution = remote.fetch_execution(name=execution)
        execution = remote.wait(
            execution, timeout=RUN_WITHIN, poll_interval=datetime.timedelta(seconds=1), sync_nodes=sync_nodes
        )
        error = execution.closure.error.message if execution.closure.error else ""
        assert execution.closure.phase == phase, (
            f"{execution.id.name} is {WorkflowExecutionPhase.enum_to_string(execution.closure.phase)}: {error}"
        )
        return execution

    return wait


@pytest.fixture(scope="session")
def launch(remote, registered):
    """Starts a registered workflow of flows.py."""

    def run(workflow, inputs=None, **options):
        entity = remote.fetch_workflow(name=f"flows.{workflow}", version=registered)
        return remote.execute(entity, inputs=inputs or {}, wait=False, **options)

    return run


def processes_of(execution):
    """Pids of the processes that run tasks of an execution."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if f"FLYTE_INTERNAL_EXECUTION_ID={execution}".encode() in environment:
            found.append(int(process.name))
    return found


def eventually(condition, what, within=30):
    """Waits until `condition()` is truthy and answers it."""
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        time.sleep(0.1)


@pytest.fixture
def run_lane(tmp_path):
    """Runs a lane of random requests (see `fuzz`) against a backend of its own."""
    from fuzz import lane

    def run(generator):
        backend = start(tmp_path)
        try:
            lane.Lane(generator, backend, tmp_path, lane.seed()).run(lane.seconds())
        finally:
            code = stop(backend)
        assert code == 0, f"flyte ended with {code}:\n{backend.log[-4000:]}"

    return run
