"""Array nodes: flytekit's map tasks."""

import pytest
from test_graphs import pods
from flytekit.models.core.execution import TaskExecutionPhase, WorkflowExecutionPhase

pytestmark = pytest.mark.kubernetes

FAILED = WorkflowExecutionPhase.FAILED


def elements(remote, execution):
    """What flyteadmin says of the elements of node `n0`: index, attempt and phase."""
    node = execution.node_executions["n0"]
    assert node.metadata.is_array
    [task] = remote.client.list_task_executions_paginated(node.id, limit=10)[0]
    told = task.closure.metadata.external_resources
    phases = [(each.index, each.retry_attempt, TaskExecutionPhase.enum_to_string(each.phase)) for each in told]
    return phases, told


@pytest.mark.parametrize(
    ("workflow", "numbers", "outputs"),
    [
        ("mapped", [1, 2], [2, 4]),
        ("mapped", [], []),
        ("mapped_one_by_one", [1, 2, 3], [11, 12, 13]),
        ("mapped_partly", [1, 2, 3], [1, None, 3]),
    ],
)
def test_outputs_of_elements_are_a_list(launch, finish, workflow, numbers, outputs):
    execution = finish(launch(workflow, {"numbers": numbers}))
    assert execution.outputs["o0"] == outputs


def test_an_element_is_tried_again_by_itself(backend, remote, launch, finish):
    execution = finish(launch("mapped_retried"))
    assert execution.outputs["o0"] == [1, 2]
    phases, told = elements(remote, execution)
    assert phases == [(0, 0, "SUCCEEDED"), (1, 0, "FAILED"), (1, 1, "SUCCEEDED")]
    names = {pod["metadata"]["name"] for pod in pods(backend, execution.id.name)}
    assert {each.external_id for each in told} == names


def test_an_array_fails_with_the_errors_of_its_elements(remote, launch, finish):
    execution = finish(launch("mapped_partly", {"numbers": [2, 4, 5]}), FAILED)
    # A list of nodes has the beginnings of errors.
    message = remote.client.get_node_execution(execution.node_executions["n0"].id).closure.error.message
    assert all(part in message for part in ["[0]: ", "2 is even", "[1]: ", "4 is even"])
    assert "FAILED" in {phase for _, _, phase in elements(remote, execution)[0]}
