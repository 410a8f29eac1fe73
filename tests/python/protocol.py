"""Container tasks without flytekit: registered and launched with nothing but the published protocol."""

import grpc
from conftest import DOMAIN, PROJECT
from flyteidl.admin import (
    execution_pb2,
    launch_plan_pb2,
    node_execution_pb2,
    task_execution_pb2,
    task_pb2,
    workflow_pb2,
)
from flyteidl.core import execution_pb2 as phases
from flyteidl.core import identifier_pb2, interface_pb2, tasks_pb2
from flyteidl.core import workflow_pb2 as graph
from flyteidl.service import admin_pb2_grpc

Phase = phases.WorkflowExecution


class Api:
    """The gRPC API at an address; calls wait for a server that is just starting."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, options=[("grpc.initial_reconnect_backoff_ms", 50)])
        self.stub = admin_pb2_grpc.AdminServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def call(self, method, request):
        return getattr(self.stub, method)(request, timeout=15, wait_for_ready=True)

    def register_chain(self, name, scripts):
        """A workflow whose tasks run `scripts` with /bin/sh, one after the other."""
        empty = interface_pb2.TypedInterface(inputs=interface_pb2.VariableMap(), outputs=interface_pb2.VariableMap())
        nodes, before = [], None
        for index, script in enumerate(scripts):
            task = identifier(identifier_pb2.TASK, f"{name}.step{index}")
            resources = tasks_pb2.Resources(
                requests=[
                    tasks_pb2.Resources.ResourceEntry(name=tasks_pb2.Resources.CPU, value="50m"),
                    tasks_pb2.Resources.ResourceEntry(name=tasks_pb2.Resources.MEMORY, value="20Mi"),
                ]
            )
            container = tasks_pb2.Container(image="none", command=["/bin/sh", "-c", script], resources=resources)
            template = tasks_pb2.TaskTemplate(
                id=task, type="container", interface=empty, container=container,
                metadata=tasks_pb2.TaskMetadata(
                    runtime=tasks_pb2.RuntimeMetadata(type=tasks_pb2.RuntimeMetadata.OTHER, version="1", flavor="sh")
                ),
            )
            self.call("CreateTask", task_pb2.TaskCreateRequest(id=task, spec=task_pb2.TaskSpec(template=template)))
            nodes.append(
                graph.Node(
                    id=f"n{index}", task_node=graph.TaskNode(reference_id=task), upstream_node_ids=[before] if before else []
                )
            )
            before = f"n{index}"
        workflow = identifier(identifier_pb2.WORKFLOW, name)
        template = graph.WorkflowTemplate(id=workflow, interface=empty, nodes=nodes)
        self.call(
            "CreateWorkflow",
            workflow_pb2.WorkflowCreateRequest(id=workflow, spec=workflow_pb2.WorkflowSpec(template=template)),
        )
        plan = identifier(identifier_pb2.LAUNCH_PLAN, name)
        self.call(
            "CreateLaunchPlan",
            launch_plan_pb2.LaunchPlanCreateRequest(
                id=plan, spec=launch_plan_pb2.LaunchPlanSpec(workflow_id=workflow)
            ),
        )
        return plan

    def launch(self, plan, name):
        request = execution_pb2.ExecutionCreateRequest(
            project=PROJECT, domain=DOMAIN, name=name, spec=execution_pb2.ExecutionSpec(launch_plan=plan)
        )
        return self.call("CreateExecution", request).id

    def execution(self, execution):
        return self.call("GetExecution", execution_pb2.WorkflowExecutionGetRequest(id=execution))

    def outputs(self, execution):
        """The outputs of an execution, as literals by name."""
        answer = self.call("GetExecutionData", execution_pb2.WorkflowExecutionGetDataRequest(id=execution))
        return answer.full_outputs.literals

    def attempts(self, execution, node):
        """Task executions of a node, the first attempt first."""
        of = identifier_pb2.NodeExecutionIdentifier(node_id=node, execution_id=execution)
        request = task_execution_pb2.TaskExecutionListRequest(node_execution_id=of, limit=100)
        found = self.call("ListTaskExecutions", request).task_executions
        return sorted(found, key=lambda attempt: attempt.id.retry_attempt)

    def interrupted(self, execution):
        """Attempts that ended because their node did, as `step/attempt`; tasks are named after steps."""
        found, parents = set(), [""]
        while parents:
            request = node_execution_pb2.NodeExecutionListRequest(
                workflow_execution_id=execution, limit=100, unique_parent_id=parents.pop()
            )
            for node in self.call("ListNodeExecutions", request).node_executions:
                if node.metadata.is_parent_node:
                    parents.append(node.id.node_id)
                request = task_execution_pb2.TaskExecutionListRequest(node_execution_id=node.id, limit=100)
                for attempt in self.call("ListTaskExecutions", request).task_executions:
                    if attempt.closure.error.code == "Interrupted":
                        found.add(f"{attempt.id.task_id.name.split('.')[-1]}/{attempt.id.retry_attempt}")
        return found

    def terminate(self, execution, cause):
        self.call("TerminateExecution", execution_pb2.ExecutionTerminateRequest(id=execution, cause=cause))

    def ended(self, execution):
        """The execution once it has ended, else None."""
        found = self.execution(execution)
        running = (Phase.UNDEFINED, Phase.QUEUED, Phase.RUNNING, Phase.SUCCEEDING, Phase.FAILING, Phase.ABORTING)
        return None if found.closure.phase in running else found


def execution_identifier(name):
    return identifier_pb2.WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)


def identifier(kind, name):
    return identifier_pb2.Identifier(resource_type=kind, project=PROJECT, domain=DOMAIN, name=name, version="v1")
