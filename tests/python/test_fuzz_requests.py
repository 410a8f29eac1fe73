"""What the lanes of random requests stand on: the same requests for a seed, requests that can be saved, a judge that judges."""

import json

import pytest
from fuzz import lane, messages, oracle, pods, transport, values
from fuzz.admin import METHODS, Admin
from fuzz.kubernetes import Kubernetes
from fuzz.rest import Rest
from fuzz.storage import Storage

LANES = (Admin, Rest, Kubernetes, Storage)


def requests(generator, seed, count=150):
    made = generator(messages.seeded(seed, generator.name))
    return [made.next() for _ in range(count)]


@pytest.mark.parametrize("generator", LANES)
def test_a_seed_makes_the_same_requests_again_and_another_makes_others(generator):
    first = [request.saved() for request in requests(generator, 7)]
    assert first == [request.saved() for request in requests(generator, 7)]
    assert first != [request.saved() for request in requests(generator, 8)]


@pytest.mark.parametrize("generator", LANES)
def test_what_is_saved_is_read_back(generator):
    for request in requests(generator, 7):
        assert transport.load(json.loads(json.dumps(request.saved()))) == request


def test_every_method_is_called_with_messages_of_its_type():
    made = Admin(messages.seeded(1))
    for path, method in METHODS.items():
        message = messages.message_class(method.input_type)()
        for _ in range(30):
            message.MergeFromString(made.request(method).message)
        assert message.ListFields() or not list(method.input_type.fields), path


def test_messages_that_nest_are_nested():
    (method,) = [method for method in METHODS.values() if method.name == "CreateTask"]
    depths = {len(messages.deep(messages.seeded(seed), method.input_type)) for seed in range(40)}
    assert max(depths) > 10_000 > 200 > min(depths)


def parts(tree):
    """Every object in a tree."""
    if isinstance(tree, values.Twice):
        tree = tree.values
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from parts(part)


def test_pods_start_only_what_may_run_here_however_they_are_mutated():
    started, places = set(), set()
    for seed in range(400):
        rng = messages.seeded(seed, "pods")
        made = {"spec": pods.spec(rng)}
        for _ in range(seed % 4):
            made = values.mutate_json(rng, made, pods.FIELDS) if isinstance(made, dict) else made
        for part in parts(pods.tame(rng, made)):
            assert "hostPath" not in part
            if "command" in part:
                assert part["command"] in pods.PROGRAMS
                started.add(tuple(part["command"]))
            for name in ("mountPath", "terminationMessagePath"):
                if isinstance(part.get(name), str):
                    places.add(part[name].rstrip("/") or "/")
    assert len(started) == len({tuple(program) for program in pods.PROGRAMS})
    assert all(place in pods.PLACES or place.startswith(f"{pods.SCRATCH}/") for place in places), places


def test_json_is_written_that_no_parser_of_python_writes():
    tree = {"a": values.Nested(3, "b"), "c": values.Twice("d", [1, values.Literal("1e400")])}
    assert values.write(tree) == '{"a":{"b":{"b":{"b":1}}},"c":{"d":1,"d":1e400}}'


@pytest.mark.parametrize(
    ("status", "text", "fault"),
    [
        ("OK", "", False), (404, "", False), ("INVALID_ARGUMENT", "no", False), ("INTERNAL", "internal error", True), (500, "", True),
        ("UNKNOWN", "", True), ("no answer", "", True), ("UNAVAILABLE", "Socket closed", True),
        ("RESOURCE_EXHAUSTED", "Stream removed (received metadata size exceeds hard limit)", True),
        ("INTERNAL", "failed to decode Protobuf message: X.y: invalid wire type", False),
    ],
)
def test_an_error_of_the_server_is_a_fault_unless_its_text_names_a_cause(status, text, fault):
    assert bool(lane.refused(transport.Answer(status, text, b""))) == fault


def test_cost_has_to_be_explained_by_size():
    assert oracle.Cost(cpu=0.4, memory=10 * 2**20, size=100).excess() is None
    assert "CPU" in oracle.Cost(cpu=3.0, memory=0, size=100).excess()[0]
    assert oracle.Cost(cpu=3.0, memory=0, size=1_000_000).excess() is None
    assert "MiB" in oracle.Cost(cpu=0.0, memory=2**30, size=100).excess()[0]
