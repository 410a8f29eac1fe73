"""Launch plan nodes: executions that an execution launches."""

import pytest
from conftest import DOMAIN, PROJECT, eventually, processes_of
from flyteidl.admin.execution_pb2 import ExecutionMetadata
from flytekit.models.core.execution import WorkflowExecutionPhase

pytestmark = pytest.mark.kubernetes
FAILED, ABORTED = WorkflowExecutionPhase.FAILED, WorkflowExecutionPhase.ABORTED


def child_of(execution, node):
    """The id of the execution that a node has launched."""
    return execution.node_executions[node].closure.workflow_node_metadata.execution_id


def test_outputs_of_children_are_those_of_their_nodes(remote, launch, finish):
    execution = finish(launch("launching", {"n": 3}))
    assert execution.outputs["o0"] == 55
    for node, output in (("n0", 13), ("n1", 52)):
        child = remote.fetch_execution(project=PROJECT, domain=DOMAIN, name=child_of(execution, node).name)
        child = remote.sync_execution(child)
        assert child.closure.phase == WorkflowExecutionPhase.SUCCEEDED
        assert child.outputs["o0"] == output
        metadata = child.spec.metadata
        assert metadata.mode == ExecutionMetadata.CHILD_WORKFLOW
        assert metadata.parent_node_execution.node_id == node
        assert metadata.parent_node_execution.execution_id.name == execution.id.name


def test_the_error_of_a_child_is_that_of_its_node(remote, launch, finish):
    execution = finish(launch("launching_what_fails"), FAILED)
    assert "7 is not wanted here" in execution.error.message
    # Lists show the beginnings of errors alone.
    node = remote.client.get_node_execution(execution.node_executions["n0"].id)
    assert "7 is not wanted here" in node.closure.error.message


def test_terminating_an_execution_terminates_its_children(remote, launch, finish):
    execution = launch("launching_what_never_ends")

    def launched():
        synced = remote.sync_execution(execution, sync_nodes=True)
        node = synced.node_executions.get("n0")
        metadata = node and node.closure.workflow_node_metadata
        return metadata and metadata.execution_id

    name = eventually(launched, "the child is launched").name
    eventually(lambda: processes_of(name), "the child's task starts")
    remote.terminate(execution, "no longer wanted")
    finish(execution, ABORTED)
    child = finish(remote.fetch_execution(project=PROJECT, domain=DOMAIN, name=name), ABORTED)
    assert execution.id.name in child.closure.abort_metadata.cause
    eventually(lambda: not processes_of(name), "its process ends")
