"""flyteadmin, flytepropeller and the embedded platform as three programs, with PostgreSQL as the store."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
import yaml
from conftest import FLOWS, PROJECT, ROOT, binary, counted, eventually, execution_name, free_ports, real_api_server
from protocol import Api, Phase, execution_identifier

pytestmark = pytest.mark.kubernetes


class Programs:
    """Programs that are started together and end together, last first."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def start(self, name, command, **options):
        log = (self.folder / f"{name}.log").open("w")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **options)
        self.running.append((name, process))
        return process

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def wait_for(self, name, condition, what):
        process = dict(self.running)[name]

        def check():
            assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.log(name)}"
            return condition()

        return eventually(check, what)

    def stop(self):
        codes = {}
        for name, process in reversed(self.running):
            process.terminate()
            try:
                codes[name] = process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = f"did not stop:\n{self.log(name)}"
        return codes


def postgres(programs, folder, port):
    """A PostgreSQL of our own; Debian keeps its programs outside the path, and they refuse to run as root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    assert binaries, "package postgresql is not installed; run `make test`"
    data = folder / "postgres"
    data.mkdir()
    user = {}
    if os.geteuid() == 0:
        subprocess.run(["chown", "postgres", str(data)], check=True)
        for parent in data.parents:
            if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
                parent.chmod(0o755)
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    bin_folder = binaries[-1].parent
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    subprocess.run(
        [str(bin_folder / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"],
        check=True, stdout=subprocess.DEVNULL, cwd="/", env=environment, **user,
    )
    programs.start(
        "postgres",
        [str(bin_folder / "postgres"), "-D", str(data), "-k", str(data), "-p", port, "-c", "listen_addresses=127.0.0.1",
         "-c", "fsync=off"],
        cwd="/", env=environment, **user,
    )
    ready = [str(bin_folder / "pg_isready"), "-h", "127.0.0.1", "-p", port]
    programs.wait_for(
        "postgres", lambda: subprocess.run(ready, stdout=subprocess.DEVNULL, check=False).returncode == 0, "PostgreSQL serves"
    )


def configuration(ports, kubeconfig, s3):
    """The example of docs/services.md with this test's ports and files."""
    config = yaml.safe_load((ROOT / "examples" / "services" / "flyte.yaml").read_text())
    config["database"]["postgres"]["port"] = int(ports["postgres"])
    config["server"] |= {
        "httpPort": int(ports["http"]), "grpc": {"port": int(ports["grpc"])}, "kube-config": kubeconfig
    }
    config["flyteadmin"]["profilerPort"] = int(ports["admin profiler"])
    config["task_resources"]["defaults"]["cpu"] = "250m"
    config["storage"]["stow"]["config"]["endpoint"] = s3
    config["admin"]["endpoint"] = f"dns:///127.0.0.1:{ports['grpc']}"
    config["propeller"] |= {"kube-config": kubeconfig, "prof-port": int(ports["propeller profiler"])}
    config["plugins"]["k8s"]["send-object-events"] = True
    variables = config["plugins"]["k8s"]["default-env-vars"]
    variables[0]["FLYTE_AWS_ENDPOINT"] = s3
    return yaml.safe_dump(config)


def platform(programs, folder, ports, server):
    """The embedded platform, or its node and bucket beside a real API server; answers the kubeconfig of the services."""
    command = [binary(), "platform", "--data-dir", str(folder / "data"), "--s3-port", ports["s3"], "--python", sys.executable]
    if server:
        programs.start("platform", [*command, "--kubeconfig", server.kubeconfig])
    else:
        programs.start("platform", [*command, "--kubernetes-port", ports["kubernetes"]])
    programs.wait_for("platform", lambda: "Embedded platform ready" in programs.log("platform"), "the platform serves")
    return server.kubeconfig if server else re.search(r"kubeconfig (\S+)\)", programs.log("platform")).group(1)


@pytest.fixture(scope="module")
def cluster(pytestconfig, tmp_path_factory):
    with real_api_server(pytestconfig, tmp_path_factory.mktemp("kubernetes") / "server") as server:
        yield from three_programs(tmp_path_factory, server)


def three_programs(tmp_path_factory, server):
    folder = tmp_path_factory.mktemp("processes")
    names = ["postgres", "http", "grpc", "admin profiler", "propeller profiler", "s3", "kubernetes"]
    ports = dict(zip(names, free_ports(len(names))))
    programs = Programs(folder)
    try:
        postgres(programs, folder, ports["postgres"])
        kubeconfig = platform(programs, folder, ports, server)
        config = folder / "flyte.yaml"
        config.write_text(configuration(ports, kubeconfig, f"http://localhost:{ports['s3']}"))
        beside = Path(binary()).parent
        for step in (["migrate", "run"], ["migrate", "seed-projects", PROJECT], ["clusterresource", "sync"]):
            done = subprocess.run(
                [str(beside / "flyteadmin"), "--config", str(config), *step],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
            )
            assert done.returncode == 0, f"flyteadmin {step}: {done.stdout}"
        programs.start("flyteadmin", [str(beside / "flyteadmin"), "--config", str(config), "serve"])
        programs.start("flytepropeller", [str(beside / "flytepropeller"), "--config", str(config)])

        def healthy():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ports['http']}/healthcheck", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        programs.wait_for("flyteadmin", healthy, "flyteadmin is healthy")
        yield programs, ports
    finally:
        codes = programs.stop()
    assert {name: code for name, code in codes.items() if code != 0} == {}


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def launch(cluster, workflow, *inputs):
    """Starts a workflow of flows.py with stock pyflyte; answers its execution."""
    programs, ports = cluster
    config = programs.folder / "client.yaml"
    config.write_text(f"admin:\n  endpoint: dns:///127.0.0.1:{ports['grpc']}\n  insecure: true\n")
    ran = subprocess.run(
        [str(Path(sys.executable).parent / "pyflyte"), "--config", str(config), "run", "--remote", "flows.py", workflow, *inputs],
        cwd=FLOWS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "300"},
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{programs.log('flyteadmin')[-3000:]}"
    return execution_identifier(execution_name(ran.stdout))


@pytest.fixture
def api(cluster):
    # Not FlyteRemote: a second one in this process would take the first one's place in fsspec.
    with Api(f"127.0.0.1:{cluster[1]['grpc']}") as api:
        yield api


def ended(api, execution, programs):
    found = eventually(lambda: api.ended(execution), "the workflow ends", within=120)
    return found.closure, f"{found.closure.error}\n{programs.log('flytepropeller')[-3000:]}"


def test_a_workflow_runs_across_three_programs(cluster, api):
    execution = launch(cluster, "chain", "--n", "4")
    closure, why = ended(api, execution, cluster[0])
    assert closure.phase == Phase.SUCCEEDED, why
    assert api.outputs(execution)["o0"].scalar.primitive.integer == 11


def test_what_the_cluster_says_about_a_pod_is_a_reason_of_its_task(cluster, api):
    execution = launch(cluster, "recovering")
    closure, why = ended(api, execution, cluster[0])
    assert closure.phase == Phase.SUCCEEDED, why
    attempts = api.attempts(execution, "n0")
    assert [attempt.id.retry_attempt for attempt in attempts] == [0, 1, 2]
    for attempt in attempts:
        reasons = [reason.message for reason in attempt.closure.reasons]
        for said in ("Successfully assigned ", "Started container "):
            assert [reason for reason in reasons if reason.startswith(said)], reasons
        assert reasons[0] == "task submitted to K8s"


def test_a_task_that_waits_for_room_says_why(cluster, api):
    execution = launch(cluster, "too_large")

    def told():
        reasons = [reason.message for attempt in api.attempts(execution, "n0") for reason in attempt.closure.reasons]
        return [reason for reason in reasons if "nodes are available" in reason and "cpu" in reason.lower()]

    eventually(told, "the scheduler's reason arrives")
    assert api.execution(execution).closure.phase == Phase.RUNNING
    api.terminate(execution, "too large")
    closure, why = ended(api, execution, cluster[0])
    assert closure.phase == Phase.ABORTED, why
    assert closure.abort_metadata.cause == "too large"


def test_calls_are_counted_under_the_names_of_gos_dashboards(cluster, api):
    _, ports = cluster
    with pytest.raises(grpc.RpcError) as missing:
        api.execution(execution_identifier("nobody-made-this"))
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    series = counted(get(f"http://127.0.0.1:{ports['admin profiler']}/metrics"))
    prefix = "flyte:admin:admin:get_execution"
    assert float(series[f"{prefix}:codes:NotFound"]) >= 1
    assert float(series[f"{prefix}:errors"]) >= 1
    assert float(series[f"{prefix}:duration_ms_count"]) >= 1
    # Whole milliseconds, as Go counts them.
    assert float(series[f'{prefix}:duration_ms{{quantile="0.5"}}']).is_integer()
    # The labels are those of flyteadmin.metricsKeys.
    labels = re.escape(f'project="{PROJECT}",runtime_type="",runtime_version="",task="",tasktype="",wf=""')
    ends = [name for name in series if name.startswith("flyte:admin:admin:execution_manager:executions_terminated{")]
    assert [name for name in ends if re.search(labels, name) and 'phase="SUCCEEDED"' in name], ends


def test_the_engines_calls_are_counted(cluster):
    series = counted(get(f"http://127.0.0.1:{cluster[1]['propeller profiler']}/metrics"))
    labels = 'grpc_method="CreateTaskEvent",grpc_service="flyteidl.service.AdminService",grpc_type="unary"'
    handled = float(series[f'grpc_client_handled_total{{grpc_code="OK",{labels}}}'])
    assert 1 <= handled <= float(series[f"grpc_client_started_total{{{labels}}}"])


@pytest.mark.parametrize("program", ["admin", "propeller"])
def test_the_configuration_is_shown_without_its_secrets(cluster, program):
    shown = json.loads(get(f"http://127.0.0.1:{cluster[1][f'{program} profiler']}/config"))
    assert shown["storage"]["stow"]["config"]["secret_key"] == "***"
    if program == "propeller":
        assert shown["plugins.k8s"]["send-object-events"] is True
    else:
        assert shown["server"]["httpPort"] == int(cluster[1]["http"])
        assert shown["database"]["postgres"]["password"] == "***"
