"""Workflows of several shapes whose tasks write a journal, and what must stand in it at the end."""

import collections
import dataclasses

from conftest import DOMAIN, PROJECT
from flyteidl.admin import execution_pb2, launch_plan_pb2, task_pb2, workflow_pb2
from flyteidl.core import condition_pb2, identifier_pb2, interface_pb2, literals_pb2, tasks_pb2, types_pb2
from flyteidl.core import workflow_pb2 as graph
from protocol import Phase, identifier

SCRIPT = "echo $FLYTE_INTERNAL_EXECUTION_ID {step} $FLYTE_ATTEMPT_NUMBER begin >> {journal}; sleep 0.1; {last}"
INTEGER = types_pb2.LiteralType(simple=types_pb2.INTEGER)


@dataclasses.dataclass
class Shape:
    """How workflows of a shape end: their phase, and the steps that run, each once in each attempt; those that may be
    tried again are tried as often as whoever judges the failure says."""

    plan: identifier_pb2.Identifier
    phase: int
    steps: set
    inputs: literals_pb2.LiteralMap
    failing: str = ""

    def fits(self, ran, stopped, interrupted=frozenset()):
        """Whether these steps are those that run. Tasks that are told to end, because all of Flyte is stopped, are tried
        again; those that were `interrupted` may have been before their first line."""
        ran = {step for step in ran if not step.startswith(f"{self.failing}/")}
        if stopped:
            return self.steps - interrupted <= ran and {step.split("/")[0] for step in ran} == {step.split("/")[0] for step in self.steps}
        return ran == self.steps


class Workflows:
    """Registers shapes; steps are the names of tasks."""

    def __init__(self, api, journal):
        self.api, self.journal, self.registered = api, journal, set()

    def interface(self, inputs=False):
        variables = {"n": interface_pb2.Variable(type=INTEGER)} if inputs else {}
        return interface_pb2.TypedInterface(
            inputs=interface_pb2.VariableMap(variables=variables), outputs=interface_pb2.VariableMap()
        )

    def task(self, step, last="true", retries=0):
        key = identifier(identifier_pb2.TASK, f"storm.{step}")
        entry = tasks_pb2.Resources.ResourceEntry
        resources = tasks_pb2.Resources(
            requests=[entry(name=tasks_pb2.Resources.CPU, value="20m"), entry(name=tasks_pb2.Resources.MEMORY, value="5Mi")]
        )
        script = SCRIPT.format(step=step, journal=self.journal, last=last)
        template = tasks_pb2.TaskTemplate(
            id=key, type="container", interface=self.interface(),
            container=tasks_pb2.Container(image="none", command=["/bin/sh", "-c", script], resources=resources),
            metadata=tasks_pb2.TaskMetadata(retries=literals_pb2.RetryStrategy(retries=retries)),
        )
        self.api.call("CreateTask", task_pb2.TaskCreateRequest(id=key, spec=task_pb2.TaskSpec(template=template)))
        return graph.TaskNode(reference_id=key)

    def node(self, name, after=(), **target):
        return graph.Node(id=name, upstream_node_ids=list(after), **target)

    def template(self, name, nodes, inputs=False, on_failure=None):
        return graph.WorkflowTemplate(
            id=identifier(identifier_pb2.WORKFLOW, f"storm.{name}"), interface=self.interface(inputs), nodes=nodes,
            failure_node=on_failure,
        )

    def sub(self, template):
        return graph.WorkflowNode(sub_workflow_ref=template.id)

    def shape(self, template, phase, steps, subs=(), n=None, failing=""):
        spec = workflow_pb2.WorkflowSpec(template=template, sub_workflows=list(subs))
        if template.id.name not in self.registered:
            self.registered.add(template.id.name)
            self.api.call("CreateWorkflow", workflow_pb2.WorkflowCreateRequest(id=template.id, spec=spec))
        plan = identifier(identifier_pb2.LAUNCH_PLAN, template.id.name if n is None else f"{template.id.name}.{n}")
        literals = {}
        if n is not None:
            scalar = literals_pb2.Scalar(primitive=literals_pb2.Primitive(integer=n))
            literals = {"n": literals_pb2.Literal(scalar=scalar)}
        inputs = literals_pb2.LiteralMap(literals=literals)
        needed = {
            name: interface_pb2.Parameter(var=interface_pb2.Variable(type=INTEGER), required=True) for name in literals
        }
        spec = launch_plan_pb2.LaunchPlanSpec(
            workflow_id=template.id, default_inputs=interface_pb2.ParameterMap(parameters=needed)
        )
        self.api.call("CreateLaunchPlan", launch_plan_pb2.LaunchPlanCreateRequest(id=plan, spec=spec))
        return Shape(plan, phase, set(steps), inputs, failing)

    def branch(self, name, cases, otherwise):
        """A node that takes the first case whose bound is below the input `n`."""
        operand = condition_pb2.Operand

        def block(bound, node):
            comparison = condition_pb2.ComparisonExpression(
                operator=condition_pb2.ComparisonExpression.GT, left_value=operand(var=".n"),
                right_value=operand(primitive=literals_pb2.Primitive(integer=bound)),
            )
            return graph.IfBlock(condition=condition_pb2.BooleanExpression(comparison=comparison), then_node=node)

        first, *others = [block(*case) for case in cases]
        promise = types_pb2.OutputReference(node_id="", var="n")
        binding = literals_pb2.Binding(var=".n", binding=literals_pb2.BindingData(promise=promise))
        block = graph.IfElseBlock(case=first, other=others, else_node=otherwise)
        return graph.Node(id=name, inputs=[binding], branch_node=graph.BranchNode(if_else=block))

    def all(self):
        node, task = self.node, self.task
        chain = self.template(
            "chain", [node("n0", task_node=task("chain0")), node("n1", ["n0"], task_node=task("chain1"))]
        )
        yield self.shape(chain, Phase.SUCCEEDED, ["chain0/0", "chain1/0"])

        inner = self.template("inner", [node("n0", task_node=task("inner0")), node("n1", ["n0"], task_node=task("inner1"))])
        middle = self.template(
            "middle", [node("n0", task_node=task("middle0")), node("n1", ["n0"], workflow_node=self.sub(inner))]
        )
        nested = self.template(
            "nested", [node("n0", workflow_node=self.sub(middle)), node("n1", ["n0"], task_node=task("nested1"))]
        )
        steps = ["middle0/0", "inner0/0", "inner1/0", "nested1/0"]
        yield self.shape(nested, Phase.SUCCEEDED, steps, [inner, middle])

        choice = self.template(
            "branch",
            [
                self.branch(
                    "n0",
                    [
                        (20, node("n0", workflow_node=self.sub(inner))),
                        (10, self.branch("n1", [(15, node("n0", task_node=task("deep")))], node("n1", task_node=task("deeper")))),
                    ],
                    node("n2", task_node=task("otherwise")),
                ),
                node("n1", ["n0"], task_node=task("afterwards")),
            ],
            inputs=True,
        )
        for n, steps in [(25, ["inner0/0", "inner1/0"]), (17, ["deep/0"]), (12, ["deeper/0"]), (1, ["otherwise/0"])]:
            yield self.shape(choice, Phase.SUCCEEDED, [*steps, "afterwards/0"], [inner], n)

        failing = self.template(
            "failing",
            [
                node("n0", task_node=task("before")),
                node("n1", ["n0"], task_node=task("boom", "exit 3")),
                node("n2", ["n1"], task_node=task("never")),
            ],
            on_failure=node("fn0", task_node=task("cleaning")),
        )
        yield self.shape(failing, Phase.FAILED, ["before/0", "cleaning/0"], failing="boom")

        again = "test $FLYTE_ATTEMPT_NUMBER -ge 1"
        retried = self.template(
            "retried",
            [node(f"n{index}", task_node=task(f"wide{index}")) for index in range(3)]
            + [node("n3", ["n0", "n1", "n2"], task_node=task("again", again, retries=2))],
        )
        yield self.shape(retried, Phase.SUCCEEDED, [f"wide{index}/0" for index in range(3)] + ["again/0", "again/1"])


def launch(api, shape, name):
    spec = execution_pb2.ExecutionSpec(launch_plan=shape.plan)
    request = execution_pb2.ExecutionCreateRequest(
        project=PROJECT, domain=DOMAIN, name=name, spec=spec, inputs=shape.inputs
    )
    return api.call("CreateExecution", request).id


def ran(journal):
    """How often each step of each execution began, by `step/attempt`."""
    counts = collections.defaultdict(collections.Counter)
    for line in journal.read_text().splitlines():
        execution, step, attempt, _ = line.split()
        counts[execution][f"{step}/{attempt}"] += 1
    return counts
