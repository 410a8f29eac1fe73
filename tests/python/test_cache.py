"""`flyte cache` against a datacatalog of its own and against `flyte start`."""

import json
import os
import pty
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest
from conftest import binary, eventually, free_ports
from flyteidl.core import literals_pb2
from flyteidl.datacatalog import datacatalog_pb2 as catalog
from flyteidl.datacatalog import datacatalog_pb2_grpc


def cache(*arguments, code=0, **options):
    """Runs `flyte cache`; answers what it says, on success on standard output and else its one line of error."""
    answer = subprocess.run(
        [binary(), "cache", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, **options
    )
    assert answer.returncode == code, f"{arguments}: {answer.stdout}{answer.stderr}"
    if code == 0:
        assert not answer.stderr, answer.stderr
        return answer.stdout
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    return answer.stderr.strip()


class DataCatalog:
    """`flyte datacatalog serve` and a client of its RPCs."""

    def __init__(self, folder):
        self.grpc, http, profiler = free_ports(3)
        self.endpoint = f"127.0.0.1:{self.grpc}"
        file = folder / "datacatalog.yaml"
        file.write_text(
            f"database: {{sqlite: {{file: {folder / 'datacatalog.db'}}}}}\nstorage: {{type: mem, container: flyte}}\n"
            f"catalog-cache: {{type: datacatalog, endpoint: '{self.endpoint}', insecure: true}}\n"
            f"application: {{grpcPort: {self.grpc}, httpPort: {http}}}\ndatacatalog: {{profiler-port: {profiler}}}\n"
        )
        self.config = str(file)
        command = [binary(), "datacatalog", "--config", self.config]
        subprocess.run([*command, "migrate", "run"], check=True, timeout=60)
        self.log = folder / "datacatalog.log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen([*command, "serve"], stdout=output, stderr=subprocess.STDOUT)
        self.rpc = datacatalog_pb2_grpc.DataCatalogStub(grpc.insecure_channel(self.endpoint))
        eventually(self.answers, "datacatalog answers")

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.rpc.ListDatasets(catalog.ListDatasetsRequest(), timeout=5)
            return True
        except grpc.RpcError:
            return False

    def put(self, task, name, domain="development"):
        """What propeller does when a cached task has run."""
        dataset = catalog.DatasetID(
            project="flytesnacks", domain=domain, name=f"flyte_task-{task}", version="1.0-jUwlIzHW-PmK8qF6C"
        )
        try:
            self.rpc.CreateDataset(catalog.CreateDatasetRequest(dataset=catalog.Dataset(id=dataset)))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.ALREADY_EXISTS, error
        literal = literals_pb2.Literal(
            scalar=literals_pb2.Scalar(primitive=literals_pb2.Primitive(integer=len(name)))
        )
        metadata = {"exec-project": "flytesnacks", "exec-domain": domain, "execution-name": "f123", "exec-node": "n0"}
        artifact = catalog.Artifact(
            id=name,
            dataset=dataset,
            data=[catalog.ArtifactData(name="o0", value=literal)],
            metadata=catalog.Metadata(key_map=metadata),
        )
        self.rpc.CreateArtifact(catalog.CreateArtifactRequest(artifact=artifact))
        tag = catalog.Tag(name=f"flyte_cached-{name}", artifact_id=name, dataset=dataset)
        self.rpc.AddTag(catalog.AddTagRequest(tag=tag))

    def listed(self, *arguments):
        found = json.loads(cache("ls", "--endpoint", self.endpoint, "-o", "json", *arguments))
        return [entry["artifactId"] for entry in found["entries"]]


@pytest.fixture
def served(tmp_path):
    running = DataCatalog(tmp_path)
    yield running
    running.process.terminate()
    assert running.process.wait(timeout=40) == 0, running.log.read_text()


def test_entries_are_shown_and_evicted(served):
    at = ("--endpoint", served.endpoint)
    assert cache("ls", *at) == "No entries.\n"
    for task, name in [("m.square", "a"), ("m.square", "b"), ("m.cube", "c")]:
        served.put(task, name)
    served.put("m.cube", "d", domain="production")
    heading, *rows = cache("ls", *at).splitlines()
    assert heading.split() == ["PROJECT", "DOMAIN", "TASK", "VERSION", "AGE", "SIZE", "WRITTEN", "BY"]
    assert len(rows) == 4 and rows[0].split()[:3] == ["flytesnacks", "production", "m.cube"]
    assert "6 B" in rows[0] and rows[0].endswith("flytesnacks/production/f123 n0")
    assert served.listed("--limit", "2") == ["d", "c"]
    assert "2 entries are shown and there are more" in cache("ls", *at, "--limit", "2")
    assert served.listed("--limit", "0") == ["d", "c", "b", "a"]
    # The endpoint that the engine's configuration names.
    assert "m.square" in cache("ls", "--config", served.config, "--task", "m.square")

    square = (*at, "--task", "m.square")
    assert cache("evict", *square, "--dry-run") == "Would evict 2 entries (12 B).\n"
    assert served.listed("--task", "m.square") == ["b", "a"]
    assert cache("evict", *square, "--tag", "flyte_cached-a") == "Evicted 1 entry (6 B).\n"
    assert cache("evict", *square, "--older-than", "1h").startswith("No entry fits;")
    outcome = json.loads(cache("evict", *square, "--cache-version", "1.0", "-o", "json"))
    assert outcome == {"entries": 1, "bytes": 6, "dryRun": False}
    assert served.listed() == ["d", "c"]
    # The task runs again and puts what it has.
    served.put("m.square", "e")
    assert served.listed() == ["e", "d", "c"]
    assert cache("evict", *at, "--all", "--yes") == "Evicted 3 entries (18 B).\n"
    assert served.listed() == []


@pytest.mark.parametrize("answer, left", [("n", 1), ("", 1), ("y", 0)])
def test_all_asks_first(served, answer, left):
    served.put("m.square", "a")
    controller, terminal = pty.openpty()
    os.write(controller, f"{answer}\n".encode())
    said = subprocess.run(
        [binary(), "cache", "evict", "--all", "--endpoint", served.endpoint],
        stdin=terminal, capture_output=True, text=True, timeout=60, check=True,
    )
    os.close(controller)
    os.close(terminal)
    assert said.stderr.startswith("Evict all of 1 entry (6 B)? Their tasks run again. [y/N]")
    assert said.stdout == ("Evicted 1 entry (6 B).\n" if left == 0 else "Nothing is evicted.\n")
    assert len(served.listed()) == left


def test_mistakes_are_told_with_what_to_do(served, tmp_path):
    served.put("m.square", "a")
    at = ("--endpoint", served.endpoint)
    empty = tmp_path / "empty.yaml"
    empty.write_text("logger: {level: 3}\n")
    (nobody,) = free_ports(1)
    for arguments, text in [
        (("evict", *at), "select some with --project"),
        (("evict", *at, "--all"), "add --yes"),
        (("evict", *at, "--older-than", "30"), "such as 12h or 30d"),
        (("evict", *at, "--all", "--task", "x"), "cannot be used with"),
        (("ls", "--endpoint", f"127.0.0.1:{nobody}"), "is `flyte start` running?"),
        (("ls", "--config", str(empty)), "name the port of datacatalog with --endpoint"),
    ]:
        line = cache(*arguments, code=1)
        assert text in line, line
    assert served.listed() == ["a"]


def test_the_embedded_backend_has_a_cache_that_pages_do_not_reach(backend):
    assert cache("ls", "--endpoint", backend.api) == "No entries.\n"
    assert cache("evict", "--all", "--yes", "--endpoint", backend.api).startswith("No entry fits;")
    request = urllib.request.Request(
        f"http://{backend.api}/datacatalog/v1/evictions",
        data=b'{"all": true}',
        headers={"Content-Type": "application/json", "Origin": f"http://{backend.api}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 403
