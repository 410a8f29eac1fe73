"""What Go Flyte ran, run here: the status of every resource ends as Go's did, but for times."""

import json
import re
from pathlib import Path

import pytest
from conftest import DOMAIN, NAMESPACE, PROJECT
from flytekit.models.core.execution import WorkflowExecutionPhase

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "recorded" / "statuses.jsonl").read_text().splitlines()]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\S+Z")


@pytest.fixture(scope="module")
def executions(pyflyte, remote):
    """All of them at once, under the names that they were recorded with, because paths in status contain these."""
    pyflyte("register", "--project", PROJECT, "--domain", DOMAIN, "--version", "rec1", "recwf.py")
    started = {}
    for recorded in RECORDED:
        plan = remote.fetch_launch_plan(name=f"recwf.{recorded['workflow']}", version="rec1")
        started[recorded["execution"]] = remote.execute(
            plan, inputs=recorded["inputs"], execution_name=recorded["execution"], wait=False
        )
    return started


def comparable(value, key=""):
    """Without what differs from run to run: times, rounds that went wrong, and where Python is installed."""
    if isinstance(value, dict):
        return {name: comparable(inner, name) for name, inner in value.items() if name != "failedAttempts"}
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    if isinstance(value, str) and TIME.fullmatch(value):
        return "a time"
    if key == "message":
        # Only the first and the last line of a traceback are the task's own.
        lines = [line for line in value.splitlines() if line.strip()]
        return [lines[0], lines[-1]] if lines else []
    return value


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["execution"])
def test_a_status_ends_as_in_go(kubectl, executions, finish, recorded):
    failed = "error" in recorded["status"]
    phase = WorkflowExecutionPhase.FAILED if failed else WorkflowExecutionPhase.SUCCEEDED
    finish(executions[recorded["execution"]], phase, sync_nodes=False)
    name = f"flyteworkflow/{recorded['execution']}"
    # Admin hears of the end before the resource says so.
    ended = "--for=jsonpath={.metadata.labels.termination-status}=terminated"
    kubectl("wait", "--namespace", NAMESPACE, ended, "--timeout=30s", name)
    resource = json.loads(kubectl("get", "--namespace", NAMESPACE, name, "--output", "json"))
    assert comparable(resource["status"]) == comparable(recorded["status"])
