"""Dynamic tasks: workflows that are made while a workflow runs."""

import pytest
from flytekit.models.core.execution import WorkflowExecutionPhase

pytestmark = pytest.mark.kubernetes

FAILED = WorkflowExecutionPhase.FAILED


def test_what_tasks_make_runs_inside_their_nodes(remote, launch, finish):
    execution = finish(launch("made_at_run_time", {"n": 2}))
    assert execution.outputs["o0"] == [0, 2]
    # inner(1) + inner(2) by an execution of its own, then 1 and 2 on the way back.
    assert execution.outputs["o1"] == 4 + 8 + 1 + 2
    node = execution.node_executions["n0"]
    assert node.metadata.is_dynamic and node.metadata.is_parent_node
    assert sorted(node.subworkflow_node_executions) == ["n0-0-dn0", "n0-0-dn1", "n0-0-end-node", "n0-0-start-node"]


def test_the_error_of_what_a_task_made_is_that_of_its_node(launch, finish):
    execution = finish(launch("made_to_fail"), FAILED)
    assert "7 is not wanted here" in execution.error.message
