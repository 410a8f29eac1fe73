"""The behaviour of the Kubernetes API, on both lanes: conflicts, watches, selectors, pages, patches, finalizers, refusals."""

import base64
import contextlib
import itertools
import json
import tempfile

import apiserver
import pytest
import yaml
from behaviour import definitions, patches, reads, watches, writes
from behaviour.steps import MEDIA, Like, Run, Step, Watch

pytestmark = pytest.mark.kubernetes
CASES = [case for table in (writes, reads, patches, watches) for case in table.CASES]
# More changes than the embedded history keeps of a resource (`ClusterOptions::history_changes`).
FLOOD = 2_200


@pytest.fixture(scope="module")
def server(backend, api_server):
    """The API of the session's backend."""
    if api_server:
        return api_server
    found = yaml.safe_load(open(backend.kubeconfig))
    cluster = found["clusters"][0]["cluster"]
    with tempfile.NamedTemporaryFile() as authority:
        authority.write(base64.b64decode(cluster["certificate-authority-data"]))
        authority.flush()
        return apiserver.Server(cluster["server"], found["users"][0]["user"]["token"], authority.name)


@pytest.fixture(scope="module")
def books(server):
    """A custom resource."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    code, made = server.ask("POST", path, json.dumps(definitions.DEFINITION))
    assert code == 201, made
    name = made["metadata"]["name"]

    def established():
        found = server.ask("GET", f"{path}/{name}")[1]
        conditions = {each["type"]: each["status"] for each in found["status"].get("conditions", [])}
        return conditions.get("Established") == "True"

    server.until("the definition is in force", established)
    listed = "/apis/library.example/v1/books"
    server.until("the resource is served", lambda: server.ask("GET", listed)[0] == 200)
    yield
    server.ask("DELETE", f"{path}/{name}")


NUMBERS = itertools.count()


def play(server, case):
    run = Run(server, f"behaviour-{next(NUMBERS)}")
    for step in case.steps:
        run.step(step)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_api_behaves(server, case):
    play(server, case)


@pytest.mark.parametrize("case", definitions.CASES, ids=lambda case: case.name)
def test_custom_resources_behave(server, books, case):
    play(server, case)


def forget(server, run):
    """Has the server forget what was; answers a version of which it knows no more."""
    if server.etcd:
        # Nothing of etcd is left then, and its resource is younger than that in the API server's cache.
        server.compact()
        return "1"
    path, headers = run.path(f"{definitions.BOOKS}/a"), server.headers(MEDIA["MERGE"])
    with contextlib.closing(server.connection()) as connection:
        for count in range(FLOOD):
            connection.request("PATCH", path, json.dumps({"spec": {"pages": count + 2}}), headers)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 200, told
    return run.kept["first"]


def test_history_that_is_forgotten_is_expired(server, books):
    run, path = Run(server, f"behaviour-{next(NUMBERS)}"), definitions.BOOKS
    run.step(definitions.CREATED)
    run.step(Step(f"MERGE {path}/a", {"spec": {"pages": 9}}))
    run.kept["old"] = forget(server, run)
    told = r"too old resource version: $old \(\d+\)"
    run.step(Watch(f"{path}?watch=true&resourceVersion=$old&timeoutSeconds=1", [
        ("ERROR", {"/kind": "Status", "/code": 410, "/reason": "Expired", "/message": Like(told)}),
    ], ends=True))
    exact = "resourceVersionMatch=Exact"
    run.step(Step(f"GET {path}?resourceVersion=$old&{exact}", None, code=410, has={"/reason": "Expired"}))
