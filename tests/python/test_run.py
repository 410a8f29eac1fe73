"""`pyflyte run` and its relatives, as a user types them."""

import datetime

import pytest
from conftest import DOMAIN, PROJECT, VERSION, execution_name
from flytekit.models.core.execution import WorkflowExecutionPhase

pytestmark = pytest.mark.kubernetes
WAIT = ["--wait", "--poll-interval", "1"]


def test_a_workflow_runs_while_pyflyte_waits(pyflyte, finish):
    output = pyflyte("run", "--remote", *WAIT, "flows.py", "chain", "--n", 4)
    assert "has succeeded" in output
    assert finish(execution_name(output)).outputs["o0"] == 11


def test_a_workflow_runs_on_when_pyflyte_does_not_wait(pyflyte, finish):
    output = pyflyte("run", "--remote", "--name", "not-waited-for", "flows.py", "chain")
    assert execution_name(output) == "not-waited-for"
    assert finish("not-waited-for").outputs["o0"] == 5


def test_a_single_task_runs(pyflyte, finish):
    output = pyflyte("run", "--remote", *WAIT, "flows.py", "add", "--a", 20, "--b", 22)
    assert finish(execution_name(output)).outputs["o0"] == 42


def test_the_default_poll_interval_sees_the_end(pyflyte):
    begin = datetime.datetime.now()
    output = pyflyte("run", "--remote", "--wait", "flows.py", "double", "--n", 4)
    assert "has succeeded" in output
    assert datetime.datetime.now() - begin < datetime.timedelta(seconds=70)


@pytest.mark.parametrize(
    ("kind", "entity", "inputs", "expected"),
    [
        ("remote-workflow", f"flows.chain:{VERSION}", ["--n", "10"], 23),
        ("remote-launchplan", f"chain_of_five:{VERSION}", [], 13),
        ("remote-task", f"flows.double:{VERSION}", ["--n", "21"], 42),
    ],
)
def test_registered_entities_run_by_name(pyflyte, registered, finish, kind, entity, inputs, expected):
    output = pyflyte("run", "--project", PROJECT, "--domain", DOMAIN, *WAIT, kind, entity, *inputs)
    assert finish(execution_name(output)).outputs["o0"] == expected


def test_a_failed_execution_is_launched_again(pyflyte, launch, finish):
    failed = finish(launch("failing", {"n": 3}), WorkflowExecutionPhase.FAILED)
    output = pyflyte("execution", "--execution-id", failed.id.name, "relaunch")
    again = finish(execution_name(output), WorkflowExecutionPhase.FAILED)
    assert again.id.name != failed.id.name
    assert "3 is not wanted here" in again.error.message


def test_an_execution_carries_tags_labels_and_environment(pyflyte, remote, finish):
    output = pyflyte(
        "run", "--remote", *WAIT, "--tag", "nightly", "--label", "team=a", "--env", "GREETING=hello", "flows.py", "chain"
    )
    execution = finish(execution_name(output))
    assert list(execution.spec.tags) == ["nightly"]
    assert execution.spec.labels.values == {"team": "a"}
    assert execution.spec.envs.envs == {"GREETING": "hello"}
