"""Gate nodes: what an execution waits for, and people give."""

import pytest
from conftest import DOMAIN, PROJECT, eventually
from flytekit.models.core.execution import NodeExecutionPhase, WorkflowExecutionPhase

pytestmark = pytest.mark.kubernetes
FAILED = WorkflowExecutionPhase.FAILED


def asked_for(remote, execution, signal):
    """Waits until an execution has asked for a signal."""
    name = execution.id.name
    listed = lambda: [known.id.signal_id for known in remote.list_signals(name, PROJECT, DOMAIN, limit=10)]
    eventually(lambda: signal in listed(), f"the execution asks for {signal}")


@pytest.mark.parametrize("approved", [True, False])
def test_people_give_values_and_approve(remote, launch, finish, approved):
    execution = launch("gated", {"n": 2})
    name = execution.id.name
    asked_for(remote, execution, "number")
    remote.set_input("number", name, value=40, project=PROJECT, domain=DOMAIN, python_type=int)
    asked_for(remote, execution, "approval")
    if approved:
        remote.approve("approval", name, project=PROJECT, domain=DOMAIN)
        execution = finish(execution)
        assert execution.outputs["o0"] == 84
        gates = [node for node in execution.node_executions.values() if node.metadata.spec_node_id != "end-node"]
        assert all(node.closure.phase == NodeExecutionPhase.SUCCEEDED for node in gates)
    else:
        remote.reject("approval", name, project=PROJECT, domain=DOMAIN)
        assert "reject" in finish(execution, FAILED).error.message
