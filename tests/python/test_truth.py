"""Random workflows, written with flytekit and run by it, end as an evaluator says that knows nothing of the engine.

`FLYTE_TEST_SEED` and `FLYTE_TEST_GRAPHS` choose other graphs and more of them. The generator and the evaluator are those of
tests/src/truth; tests/src/truth/flytekit.rs says how a program becomes Python.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time

import msgpack
import truth_tasks
from conftest import DOMAIN, PROJECT
from flyteidl.admin import execution_pb2
from flyteidl.core import execution_pb2 as phases
from flyteidl.core import literals_pb2
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.options import Options
from protocol import Api, Phase

SEED, GRAPHS = "0", "140"
VERSION = "truth"
# After the last launch something ends at least this often.
STALLED = 60


def programs(seed, count):
    """Programs and what must come of them, as `examples/truth` says."""
    answer = subprocess.run([truth_tasks.program(), "programs", seed, count], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def load(made, folder):
    """The module of all programs, and where its source is."""
    path = folder / "truth_programs.py"
    path.write_text("from truth_tasks import *\n\n" + "\n".join(program["source"] for program in made))
    spec = importlib.util.spec_from_file_location("truth_programs", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["truth_programs"] = module
    spec.loader.exec_module(module)
    return module, path


def tagged(literal):
    """A literal with what kind of literal it is, as `examples/truth` says values."""
    kind = literal.WhichOneof("value")
    if kind == "collection":
        return ["collection", [tagged(item) for item in literal.collection.literals]]
    if kind == "map":
        return ["map", {name: tagged(item) for name, item in literal.map.literals.items()}]
    scalar = literal.scalar
    kind = scalar.WhichOneof("value")
    if kind == "primitive":
        kind = scalar.primitive.WhichOneof("value")
        return [kind, getattr(scalar.primitive, kind)]
    if kind == "binary":
        return ["binary", msgpack.unpackb(scalar.binary.value)]
    if kind == "union":
        return ["union", tagged(scalar.union.value)]
    return [kind, None]


def difference(api, program, execution, closure):
    """What is not as it must be; nothing if all is."""
    phase, code = Phase.Phase.Name(closure.phase), closure.error.code
    if program["outputs"] is None:
        if phase == "FAILED" and code in program["codes"]:
            return None
        return f"is {phase} {code}, not FAILED {program['codes']}: {closure.error.message[:300]}"
    if phase != "SUCCEEDED":
        return f"is {phase}, not SUCCEEDED: {code} {closure.error.message[:300]}"
    found = {name: tagged(literal) for name, literal in api.outputs(execution).items()}
    return None if found == program["outputs"] else f"has the outputs {found}, not {program['outputs']}"


def ends(api, executions):
    """The closures of all, once they have ended."""
    found, since = {}, time.monotonic()
    while len(found) < len(executions):
        for seed, execution in executions.items():
            if seed not in found and (ended := api.ended(execution)):
                found[seed], since = ended.closure, time.monotonic()
        left = sorted(set(executions) - set(found))
        assert time.monotonic() - since < STALLED, f"FLYTE_TEST_SEED={left[0]}: these do not end: {left}"
        time.sleep(0.1)
    return found


def test_random_workflows_of_flytekit_end_as_the_rules_say(backend, remote, tmp_path):
    seed, count = os.environ.get("FLYTE_TEST_SEED", SEED), os.environ.get("FLYTE_TEST_GRAPHS", GRAPHS)
    print(f"FLYTE_TEST_SEED={seed} FLYTE_TEST_GRAPHS={count}")
    began = time.monotonic()
    made = programs(seed, count)
    module, path = load(made["programs"], tmp_path)
    settings = SerializationSettings(
        image_config=ImageConfig.auto(img_name="none:none"), project=PROJECT, domain=DOMAIN, version=VERSION
    )
    by_seed, executions = {program["seed"]: program for program in made["programs"]}, {}
    plans = {}
    for number, program in by_seed.items():
        workflow = getattr(module, program["workflow"])
        remote.register_workflow(workflow, settings, version=VERSION)
        plans[number] = (remote.fetch_launch_plan(name=workflow.name, version=VERSION), workflow.python_interface.inputs)
    registered = time.monotonic()
    for number, (plan, types) in plans.items():
        inputs = eval(by_seed[number]["inputs"], vars(module))
        options = Options(max_parallelism=by_seed[number]["max_parallelism"])
        executions[number] = remote.execute(plan, inputs=inputs, type_hints=types, options=options).id.to_flyte_idl()
    with Api(backend.api) as api:
        closures = ends(api, executions)
        wrong = {
            number: why for number, closure in closures.items()
            if (why := difference(api, by_seed[number], executions[number], closure))
        }
    nodes = sum(program["nodes"] for program in made["programs"])
    failing = sum(program["outputs"] is None for program in made["programs"])
    print(
        f"{count} programs of {nodes} nodes, {failing} of which fail; registered in {registered - began:.1f} s, run in "
        f"{time.monotonic() - registered:.1f} s; left out: {made['left_out']}"
    )
    if wrong:
        number = min(wrong, key=lambda number: by_seed[number]["nodes"])
        message = "\n".join(f"seed {number}: {why}" for number, why in wrong.items())
        raise AssertionError(
            f"{len(wrong)} end otherwise; the smallest has FLYTE_TEST_SEED={number} FLYTE_TEST_GRAPHS=1, "
            f"execution {executions[number].name}:\n{by_seed[number]['source']}\n{by_seed[number]['inputs']}\n{message}"
        )


class Outputs:
    """An API that knows the outputs of any execution."""

    def __init__(self, **integers):
        primitives = {name: literals_pb2.Primitive(integer=number) for name, number in integers.items()}
        self.found = {
            name: literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=primitive)) for name, primitive in primitives.items()
        }

    def outputs(self, _):
        return self.found


def test_an_end_that_is_another_is_told():
    succeeds, fails = {"outputs": {"o": ["integer", 3]}, "codes": []}, {"outputs": None, "codes": ["USER:Error1"]}
    succeeded = execution_pb2.ExecutionClosure(phase=Phase.SUCCEEDED)
    failed = execution_pb2.ExecutionClosure(phase=Phase.FAILED, error=phases.ExecutionError(code="USER:Error1"))
    assert difference(Outputs(o=3), succeeds, None, succeeded) is None
    assert "o" in difference(Outputs(o=4), succeeds, None, succeeded)
    assert "not SUCCEEDED" in difference(Outputs(), succeeds, None, failed)
    assert difference(Outputs(), fails, None, failed) is None
    assert "USER:Error1" in difference(Outputs(), fails, None, succeeded)
    failed.error.code = "USER:Error2"
    assert "USER:Error2" in difference(Outputs(), fails, None, failed)
