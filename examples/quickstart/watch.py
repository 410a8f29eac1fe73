"""Shows an execution as it goes, and its outputs: python watch.py CONFIG NAME

Prints a line whenever a node enters another phase. It may be started before the execution is.
"""

import sys
import time

from flytekit.configuration import Config
from flytekit.exceptions.user import FlyteEntityNotExistException
from flytekit.models.core.execution import NodeExecutionPhase
from flytekit.models.core.identifier import WorkflowExecutionIdentifier
from flytekit.remote import FlyteRemote

ENDS = {"start-node", "end-node"}
START_WITHIN = 120


def found(remote, name):
    """The execution, once it exists."""
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        try:
            return remote.fetch_execution(name=name)
        except FlyteEntityNotExistException:
            time.sleep(0.5)
    raise SystemExit(f"{name} did not start within {START_WITHIN} s")


def main(config, name):
    remote = FlyteRemote(Config.auto(config), default_project="flytesnacks", default_domain="development")
    execution = found(remote, name)
    begin, phases = time.monotonic(), {}
    while True:
        identifier = WorkflowExecutionIdentifier("flytesnacks", "development", name)
        nodes, _ = remote.client.list_node_executions(identifier, limit=100)
        for node in sorted(nodes, key=lambda node: node.closure.created_at):
            phase = NodeExecutionPhase.enum_to_string(node.closure.phase)
            if node.id.node_id not in ENDS and phases.get(node.id.node_id) != phase:
                phases[node.id.node_id] = phase
                print(f"   {time.monotonic() - begin:5.1f} s  {node.id.node_id:<10} {phase}", flush=True)
        if execution.is_done:
            break
        time.sleep(0.3)
        execution = remote.sync_execution(execution)
    if execution.error:
        raise SystemExit(execution.error.message)
    for output, literal in sorted(execution.outputs.literals.items()):
        blob = literal.scalar.blob if literal.scalar else None
        print(f"   {output} = {blob.uri if blob else execution.outputs.get(output)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
