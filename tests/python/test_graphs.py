"""Shapes of workflows, resources and failures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAMESPACE, eventually, processes_of
from flytekit.models.core.execution import NodeExecutionPhase, TaskExecutionPhase, WorkflowExecutionPhase

pytestmark = pytest.mark.kubernetes
FAILED, ABORTED = WorkflowExecutionPhase.FAILED, WorkflowExecutionPhase.ABORTED


def pods(backend, execution):
    """The pods of an execution, as the Kubernetes API has them."""
    answer = subprocess.run(
        [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", backend.kubeconfig, "--namespace", NAMESPACE,
         "get", "pods", "--selector", f"execution-id={execution}", "--output", "json"],
        check=True, capture_output=True, text=True,
    )
    return json.loads(answer.stdout)["items"]


def test_subworkflows_nest(launch, finish):
    execution = finish(launch("nested", {"n": 3}))
    assert execution.outputs["o0"] == 36
    assert execution.node_executions["n0"].closure.phase == NodeExecutionPhase.SUCCEEDED


@pytest.mark.parametrize(("n", "expected"), [(101, 404), (50, 51), (20, 40), (0, 7)])
def test_the_branch_whose_condition_holds_is_taken(launch, finish, n, expected):
    assert finish(launch("branches", {"n": n})).outputs["o0"] == expected


def test_a_branch_without_a_case_fails_with_its_text(launch, finish):
    assert "n is out of range" in finish(launch("branches", {"n": 5}), FAILED).error.message


def test_the_error_of_a_user_reaches_the_client(launch, finish):
    message = finish(launch("failing", {"n": 7}), FAILED).error.message
    assert "ValueError" in message
    assert "7 is not wanted here" in message
    assert "Traceback" in message or "flows.py" in message


def test_a_task_that_fails_twice_succeeds_the_third_time(launch, finish):
    execution = finish(launch("recovering"))
    assert execution.outputs["o0"] == 2
    attempts = execution.node_executions["n0"].task_executions
    assert [attempt.closure.phase for attempt in sorted(attempts, key=lambda one: one.id.retry_attempt)] == [
        TaskExecutionPhase.FAILED, TaskExecutionPhase.FAILED, TaskExecutionPhase.SUCCEEDED,
    ]


def test_a_task_that_takes_too_long_is_ended(launch, finish):
    execution = finish(launch("timing_out"), FAILED)
    assert "timeout" in execution.error.message.lower() or "timed out" in execution.error.message.lower()
    eventually(lambda: not processes_of(execution.id.name), "its process ends")


def test_terminating_an_execution_ends_its_process(remote, launch, finish):
    execution = launch("endless")
    eventually(lambda: processes_of(execution.id.name), "the task's process starts")
    remote.terminate(execution, "no longer wanted")
    execution = finish(execution, ABORTED)
    assert execution.closure.abort_metadata.cause == "no longer wanted"
    eventually(lambda: not processes_of(execution.id.name), "its process ends")


def test_resources_of_a_node_override_those_of_its_task(backend, launch, finish):
    (pod,) = pods(backend, finish(launch("overridden")).id.name)
    assert pod["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "300m", "memory": "300Mi"}, "limits": {"cpu": "600m", "memory": "600Mi"},
    }


def test_a_pod_starts_from_the_template_that_its_task_names(kubectl, launch, finish):
    template = {
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "suite", "namespace": NAMESPACE},
        "template": {
            "metadata": {"labels": {"from": "template"}},
            "spec": {"containers": [{"name": "default", "image": "x", "env": [{"name": "FROM_TEMPLATE", "value": "yes"}]}]},
        },
    }
    kubectl("apply", "--filename", "-", text_in=json.dumps(template))
    execution = finish(launch("templated"))
    assert execution.outputs["o0"] == "yes"
    assert f"{execution.id.name}-n0-0" in kubectl("get", "pods", "--namespace", NAMESPACE, "--selector", "from=template")
    execution = finish(launch("template_missing"), FAILED)
    assert "PodTemplate 'nowhere' does not exist" in execution.error.message


def test_a_pod_larger_than_the_node_says_so(backend, remote, launch, finish):
    execution = launch("too_large")

    def unschedulable():
        conditions = [
            condition for pod in pods(backend, execution.id.name) for condition in pod["status"].get("conditions", [])
        ]
        return [condition["message"] for condition in conditions if condition.get("reason") == "Unschedulable"]

    message = eventually(unschedulable, "the pod is unschedulable")[0]
    assert "900" in message and "cpu" in message.lower()
    remote.terminate(execution, "too large")
    finish(execution, ABORTED)


def test_fifty_nodes_run_side_by_side(launch, finish):
    execution = finish(launch("fan_out"))
    assert len(execution.outputs["o0"]) == 50
    steps = [node for name, node in execution.node_executions.items() if name.startswith("n")]
    assert len(steps) == 50
    assert all(node.closure.phase == NodeExecutionPhase.SUCCEEDED for node in steps)


def test_a_kind_of_node_that_does_not_run_yet_says_so(launch, finish):
    execution = finish(launch("mapped_plans"), FAILED)
    assert "n0" in execution.error.message and "array of workflow" in execution.error.message
    assert execution.node_executions["n0"].error.code == "UnsupportedNodeKind"
