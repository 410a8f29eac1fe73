"""Raw containers exchange typed data with Python tasks: ContainerTask of stock flytekit."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import execution_name
from flytekit.models.core.execution import WorkflowExecutionPhase
from flytekit.types.file import FlyteFile

VALUES = {"n": 3, "words": ["yes", "1:30", ""]}


@pytest.fixture(scope="module")
def run(pyflyte, finish):
    """Runs a workflow of containers.py."""

    def run(workflow, *inputs, phase=WorkflowExecutionPhase.SUCCEEDED):
        output = pyflyte("run", "--remote", "containers.py", workflow, *inputs)
        return finish(execution_name(output), phase)

    return run


def test_values_go_in_and_come_out(run):
    outputs = run("areas", "--width", 20, "--unit", "km").outputs
    assert [outputs[f"o{index}"] for index in range(4)] == [140, "km2", True, 1.5]


def test_files_and_folders_go_in_and_come_out(run):
    outputs = run("files").outputs
    assert outputs["o0"] == 11
    assert outputs["o1"] == "HELLO WORLD in deep/part-aa deep/part-ab deep/part-ac"


def test_values_stand_in_a_document(run, remote):
    outputs = run("written").outputs
    with remote.remote_context():
        as_json, as_yaml = (Path(outputs.get(name, FlyteFile).download()).read_text() for name in ("o0", "o1"))
    assert json.loads(as_json) == VALUES
    assert yaml.safe_load(as_yaml) == VALUES


@pytest.mark.parametrize(
    ("workflow", "message"),
    [("forgetting", 'outputs ["other"] are not in'), ("complaining", "User Error: the data are bad")],
)
def test_what_went_wrong_is_told(run, workflow, message):
    execution = run(workflow, phase=WorkflowExecutionPhase.FAILED)
    assert message in execution.error.message
