"""What generated programs of `test_truth.py` are made of: tasks that run `examples/truth`, and ways to say edges and outputs."""

import dataclasses
import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional  # noqa: F401  (for the programs)

from flytekit import WorkflowFailurePolicy, conditional, workflow  # noqa: F401  (for the programs)
from flytekit.core.base_task import PythonTask, TaskMetadata
from flytekit.core.interface import Interface
from flytekit.models import task as models
from flytekit.types.error import FlyteError

IMMEDIATELY = WorkflowFailurePolicy.FAIL_IMMEDIATELY
AFTERWARDS = WorkflowFailurePolicy.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE
PROGRAM = Path(__file__).resolve().parents[2] / "target" / "debug" / "examples" / "truth"


def program():
    """The program that makes programs and runs their tasks."""
    path = Path(os.environ.get("FLYTE_TRUTH", PROGRAM))
    assert path.exists(), f"{path} is not built; run `make test`, or `cargo build --package flyte-tests --example truth`"
    return str(path)


@dataclasses.dataclass
class Record:
    """The dataclass of generated programs; it travels as msgpack."""

    count: int
    name: str
    share: float
    tags: List[str]


class Computed(PythonTask):
    """A container that reads `inputs.pb` and writes `outputs.pb` itself: no interpreter is started for it."""

    def __init__(self, name, behaviour, inputs, outputs, retries):
        self.behaviour = behaviour
        # The error of a failure is not given by whoever calls.
        takes = {key: (kind, None) if kind == Optional[FlyteError] else kind for key, kind in inputs.items()}
        super().__init__(
            task_type="container", name=name, task_config=None, interface=Interface(inputs=takes, outputs=outputs),
            metadata=TaskMetadata(retries=retries),
        )

    def get_container(self, settings):
        entry = models.Resources.ResourceEntry
        name = models.Resources.ResourceName
        requests = [entry(name.CPU, "20m"), entry(name.MEMORY, "30Mi")]
        limits = [entry(name.CPU, "1"), entry(name.MEMORY, "200Mi")]
        return models.Container(
            image="none", command=[program()], args=["task", self.behaviour, "{{.input}}", "{{.outputPrefix}}"],
            resources=models.Resources(requests=requests, limits=limits), env={}, config={},
        )

    def execute(self, **_):
        raise AssertionError("it runs in a container only")


def computed(name, behaviour, inputs, outputs, retries):
    return Computed(name, behaviour, inputs, outputs, retries)


def output(called, name):
    """An output of a call: one that has only one is that. A promise seems to have every attribute."""
    return getattr(called, name) if isinstance(called, tuple) else called


def node(called):
    """The node of a call."""
    return (called[0] if isinstance(called, tuple) else called).ref.node


def before(earlier, later):
    """An edge without data. `>>` says it too, but of calls with several outputs it does nothing."""
    node(earlier).runs_before(node(later))
