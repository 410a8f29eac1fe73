"""What `flyte start` says when it cannot start, and that it starts again."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import yaml
from conftest import DOMAIN, PROJECT, binary, counted, eventually, free_ports, start, stop

PORTS = ["--http-port", "0", "--s3-port", "0", "--kubernetes-port", "0"]


def refused(*arguments, timeout=20):
    """The one line that `flyte start` refuses with."""
    answer = subprocess.run(
        [binary(), "start", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
    )
    assert answer.returncode == 1, f"{answer.returncode}: {answer.stdout}{answer.stderr}"
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    return lines[0]


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = refused("--data-dir", str(tmp_path / "data"), "--python", sys.executable, *PORTS[2:], "--http-port", port)
    assert port in line and "--http-port" in line
    assert not (tmp_path / "data").exists()


def test_a_second_start_on_the_same_folder_names_the_first(tmp_path):
    first = start(tmp_path)
    try:
        line = refused("--data-dir", str(tmp_path / "data"), "--python", sys.executable, *PORTS)
        assert str(first.process.pid) in line
    finally:
        assert stop(first) == 0


def test_a_python_without_flytekit_is_named(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    line = refused("--data-dir", str(tmp_path / "data"), "--python", python, *PORTS)
    assert python in line and "flytekit" in line
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("--data-dir", str(tmp_path / "file" / "data"), "--python", sys.executable, *PORTS)
    assert str(tmp_path / "file") in line


def test_a_flag_that_nothing_would_hear_is_refused(tmp_path):
    line = refused("--data-dir", str(tmp_path / "data"), *PORTS, "--plugins.k8s.send-object-events=true")
    assert "--plugins.k8s.send-object-events" in line and "--config" in line
    assert not (tmp_path / "data").exists()


def test_a_wrong_key_in_a_configuration_file_is_named(tmp_path):
    (tmp_path / "flyte.yaml").write_text("propeller:\n  workers: many\nserver:\n  httpPort: here\n")
    answer = subprocess.run(
        [binary(), "start", "--config", str(tmp_path / "flyte.yaml")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )
    assert answer.returncode == 1
    assert "server.httpPort" in answer.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_asked_and_starts_again_with_what_it_had(tmp_path, number):
    first = start(tmp_path)
    first.process.send_signal(number)
    assert first.process.wait(timeout=40) == 0
    second = start(tmp_path)
    try:
        assert b"flytesnacks" in second.get("/api/v1/projects")
    finally:
        assert stop(second) == 0


def test_metrics_are_on_the_http_port_for_this_machine_alone(tmp_path):
    backend = start(tmp_path)
    try:
        series = counted(backend.get("/metrics").decode())
        assert series["flyte:admin:admin:get_execution:errors"] == "0"
        assert [name for name in series if name.startswith("flyte:propeller:all:")]
        assert series["datacatalog:datacatalog:dataset:create_success_count_unlabeled"] == "0"
        connection = http.client.HTTPConnection(backend.api, timeout=10)
        connection.request("GET", "/metrics", headers={"Host": "evil.example"})
        assert connection.getresponse().status == 403
        connection.close()
    finally:
        assert stop(backend) == 0


# The labels of Go's single binary, whatever is configured.
LABELS = ["app_name", "domain", "failure_type", "node", "project", "runtime_type", "runtime_version", "task", "tasktype", "wf"]


def test_all_services_of_one_process_count_in_one_place(tmp_path):
    names = ["http", "grpc", "prof", "catalog", "s3", "kubernetes"]
    ports = dict(zip(names, free_ports(len(names))))
    logs, programs = {}, {}

    def run(name, *arguments):
        logs[name] = tmp_path / f"{name}.log"
        programs[name] = subprocess.Popen(
            [binary(), *arguments], stdin=subprocess.DEVNULL, stdout=logs[name].open("w"), stderr=subprocess.STDOUT
        )

    def get(port, path):
        for name, program in programs.items():
            assert program.poll() is None, logs[name].read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[port]}{path}", timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return None

    try:
        run("platform", "platform", "--data-dir", str(tmp_path / "data"), "--python", sys.executable,
            "--s3-port", ports["s3"], "--kubernetes-port", ports["kubernetes"])
        eventually(lambda: "Embedded platform ready" in logs["platform"].read_text(), "the platform serves")
        kubeconfig = re.search(r"kubeconfig (\S+)\)", logs["platform"].read_text()).group(1)
        settings = {"auth_type": "accesskey", "access_key_id": "minio", "secret_key": "miniostorage", "disable_ssl": "true",
                    "endpoint": f"http://localhost:{ports['s3']}", "region": "us-east-1"}
        (tmp_path / "flyte.yaml").write_text(yaml.safe_dump({
            "database": {"sqlite": {"file": str(tmp_path / "admin.db")}},
            "application": {"grpcPort": int(ports["catalog"])},
            "server": {"httpPort": int(ports["http"]), "grpc": {"port": int(ports["grpc"])}, "kube-config": kubeconfig},
            "flyteadmin": {"metricsKeys": ["project"]},
            "propeller": {"kube-config": kubeconfig, "prof-port": int(ports["prof"]), "create-flyteworkflow-crd": True},
            "storage": {"type": "stow", "container": "my-s3-bucket", "stow": {"kind": "s3", "config": settings}},
        }))
        run("flyte", "start", "--config", str(tmp_path / "flyte.yaml"))
        eventually(lambda: get("http", "/api/v1/projects"), "the API serves")
        eventually(lambda: get("catalog", "/healthcheck") == "", "the cache index serves")
        template = {"type": "container", "metadata": {"runtime": {"type": "FLYTE_SDK", "version": "1"}},
                    "interface": {"inputs": {}, "outputs": {}}, "container": {"image": "image", "args": ["true"]}}
        task = {"id": {"resource_type": "TASK", "project": PROJECT, "domain": DOMAIN, "name": "t", "version": "1"},
                "spec": {"template": template}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{ports['http']}/api/v1/tasks", json.dumps(task).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()
        series = counted(get("prof", "/metrics"))
        assert series["flyte:admin:admin:create_task:success"] == "1"
        assert [name for name in series if name.startswith("flyte:propeller:all:")]
        assert [name for name in series if name.startswith("grpc_server_handled_total{")]
        registered = next(name for name in series if name.startswith("flyte:admin:admin:task_manager:num_registered{"))
        assert re.findall(r"(\w+)=", registered) == LABELS
        assert "miniostorage" not in get("prof", "/config")
    finally:
        for program in reversed(programs.values()):
            program.terminate()
        codes = {name: program.wait(timeout=40) for name, program in programs.items()}
    assert codes == {"platform": 0, "flyte": 0}, logs["flyte"].read_text()
