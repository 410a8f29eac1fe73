"""Calls of every service on the API's port, from their descriptors."""

from flyteidl.admin import common_pb2, event_pb2, execution_pb2, launch_plan_pb2, project_pb2, task_pb2, workflow_pb2
from flyteidl.core import identifier_pb2, interface_pb2, literals_pb2, tasks_pb2, types_pb2
from flyteidl.core import workflow_pb2 as graph
from flyteidl.event import event_pb2 as events
from flyteidl.service import admin_pb2, auth_pb2, dataproxy_pb2, identity_pb2, signal_pb2
from google.protobuf.message import DecodeError
from protocol import DOMAIN, PROJECT

from . import values
from .lane import Generator
from .messages import Maker, Names, message_class
from .transport import Grpc

SERVICES = (
    (admin_pb2, "AdminService"), (dataproxy_pb2, "DataProxyService"), (signal_pb2, "SignalService"),
    (identity_pb2, "IdentityService"), (auth_pb2, "AuthMetadataService"),
)
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file, name in SERVICES
    for service in [file.DESCRIPTOR.services_by_name[name]]
    for method in service.methods
}
INTEGER = types_pb2.LiteralType(simple=types_pb2.INTEGER)
# Executions run on this machine; so many of a lane are enough, and one more with each so many requests.
LAUNCHES, LAUNCH_EVERY = 40, 60
CREATE = "/flyteidl.service.AdminService/CreateExecution"
LAUNCHING = (CREATE, "/flyteidl.service.AdminService/RelaunchExecution", "/flyteidl.service.AdminService/RecoverExecution")


def resource(kind, name, version="v1"):
    return identifier_pb2.Identifier(resource_type=kind, project=PROJECT, domain=DOMAIN, name=name, version=version)


def interface():
    return interface_pb2.TypedInterface(
        inputs=interface_pb2.VariableMap(variables={"n": interface_pb2.Variable(type=INTEGER)}),
        outputs=interface_pb2.VariableMap(),
    )


def integer(number):
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(primitive=literals_pb2.Primitive(integer=number)))


class Templates:
    """Requests that succeed, as clients send them; the rest is made from descriptors alone."""

    def __init__(self, rng, names):
        self.rng, self.names, self.count = rng, names, 0

    def fresh(self, kind):
        self.count += 1
        return f"fuzz.{kind}{self.count}"

    def task(self):
        key = resource(identifier_pb2.TASK, self.fresh("t"))
        entry = tasks_pb2.Resources.ResourceEntry
        template = tasks_pb2.TaskTemplate(
            id=key, type="container", interface=interface(),
            container=tasks_pb2.Container(
                image="none", command=["/bin/true"],
                resources=tasks_pb2.Resources(requests=[entry(name=1, value="20m"), entry(name=3, value="5Mi")]),
            ),
            metadata=tasks_pb2.TaskMetadata(runtime=tasks_pb2.RuntimeMetadata(type=0, version="1", flavor="sh")),
        )
        return task_pb2.TaskCreateRequest(id=key, spec=task_pb2.TaskSpec(template=template))

    def workflow(self):
        key = resource(identifier_pb2.WORKFLOW, self.fresh("w"))
        task = resource(identifier_pb2.TASK, self.names.any("task", "fuzz.t1"))
        promise = literals_pb2.BindingData(promise=types_pb2.OutputReference(var="n"))
        nodes = [
            graph.Node(
                id=f"n{index}", task_node=graph.TaskNode(reference_id=task),
                upstream_node_ids=[f"n{index - 1}"] if index else [],
                inputs=[literals_pb2.Binding(var="n", binding=promise)],
            )
            for index in range(self.rng.choice((1, 2, 3)))
        ]
        template = graph.WorkflowTemplate(id=key, interface=interface(), nodes=nodes)
        return workflow_pb2.WorkflowCreateRequest(id=key, spec=workflow_pb2.WorkflowSpec(template=template))

    def plan(self):
        key = resource(identifier_pb2.LAUNCH_PLAN, self.fresh("l"))
        workflow = resource(identifier_pb2.WORKFLOW, self.names.any("workflow", "fuzz.w1"))
        fixed = literals_pb2.LiteralMap(literals={"n": integer(1)})
        return launch_plan_pb2.LaunchPlanCreateRequest(
            id=key, spec=launch_plan_pb2.LaunchPlanSpec(workflow_id=workflow, fixed_inputs=fixed)
        )

    def execution(self):
        plan = resource(identifier_pb2.LAUNCH_PLAN, self.names.any("launch_plan", "fuzz.l1"))
        name = self.fresh("x").replace(".", "-")
        return execution_pb2.ExecutionCreateRequest(
            project=PROJECT, domain=DOMAIN, name=name, spec=execution_pb2.ExecutionSpec(launch_plan=plan)
        )

    def execution_id(self):
        return identifier_pb2.WorkflowExecutionIdentifier(
            project=PROJECT, domain=DOMAIN, name=self.names.any("execution", "fuzz-x1")
        )

    def node_id(self):
        node = self.rng.choice(("n0", "n0", "n1", "start-node", "end-node"))
        return identifier_pb2.NodeExecutionIdentifier(node_id=node, execution_id=self.execution_id())

    def task_id(self):
        task = resource(identifier_pb2.TASK, self.names.any("task", "fuzz.t1"))
        return identifier_pb2.TaskExecutionIdentifier(task_id=task, node_execution_id=self.node_id(), retry_attempt=0)

    def workflow_event(self):
        event = events.WorkflowExecutionEvent(execution_id=self.execution_id(), phase=self.rng.randrange(10))
        event.occurred_at.seconds = 1_800_000_000
        return event_pb2.WorkflowExecutionEventRequest(request_id="r", event=event)

    def node_event(self):
        event = events.NodeExecutionEvent(id=self.node_id(), phase=self.rng.randrange(12),
            event_version=self.rng.choice((0, 1)))
        event.occurred_at.seconds = 1_800_000_000
        return event_pb2.NodeExecutionEventRequest(request_id="r", event=event)

    def task_event(self):
        identity = self.task_id()
        event = events.TaskExecutionEvent(
            task_id=identity.task_id, parent_node_execution_id=identity.node_execution_id, phase=self.rng.randrange(8),
            phase_version=self.rng.randrange(3),
        )
        event.occurred_at.seconds = 1_800_000_000
        return event_pb2.TaskExecutionEventRequest(request_id="r", event=event)

    def project(self):
        return project_pb2.ProjectRegisterRequest(
            project=project_pb2.Project(id=f"fuzz-p{self.rng.randrange(6)}", name="a project", description="d")
        )

    def of(self, method):
        """A request for this method; nothing if there is no template."""
        makers = {
            "CreateTask": self.task, "CreateWorkflow": self.workflow, "CreateLaunchPlan": self.plan,
            "CreateExecution": self.execution, "CreateWorkflowEvent": self.workflow_event, "CreateNodeEvent": self.node_event,
            "CreateTaskEvent": self.task_event, "RegisterProject": self.project,
        }
        maker = makers.get(method.name)
        return maker() if maker else None


class Calls:
    """Messages for methods: templates, then what descriptors give, with the identifiers of what there is."""

    def __init__(self, rng):
        self.rng = rng
        self.names = Names(rng, PROJECT, DOMAIN)
        self.maker, self.templates = Maker(rng, self.names), Templates(rng, self.names)

    def plausible(self, method, surely=False):
        """A message that may be refused for what it names, but not for how it is made; `surely` one of a template."""
        made = self.templates.of(method) if surely or self.rng.random() < 0.8 else None
        if made is not None:
            return made
        message = self.maker.make(method.input_type)
        for part in self.maker.parts(message):
            self.identify(method, part)
        return message

    def identify(self, method, part):
        """Identifiers become those of what there is."""
        kinds = {1: "task", 2: "workflow", 3: "launch_plan"}
        if isinstance(part, identifier_pb2.Identifier):
            named = {"Task": 1, "Workflow": 2, "LaunchPlan": 3}
            part.resource_type = next((kind for name, kind in named.items() if name in method.name), part.resource_type or 1)
            part.CopyFrom(resource(part.resource_type, self.names.any(kinds.get(part.resource_type), "fuzz")))
        elif isinstance(part, identifier_pb2.WorkflowExecutionIdentifier):
            part.CopyFrom(self.templates.execution_id())
        elif isinstance(part, common_pb2.NamedEntityIdentifier) and part.name:
            part.name = self.names.any(self.rng.choice(("task", "workflow", "launch_plan")), "fuzz")

    def restrain(self, method, message):
        """Leaves out what is known to go wrong: locations longer than a key of S3 may be, and links to decks whose location
        is none, are answered with INTERNAL; the long error of a signal, which has many characters that take three bytes in a
        header, is more than a client takes, and so is the long name of a producer in the details of its refusal."""
        if method.name == "CreateUploadLocation":
            for part in self.maker.parts(message):
                for field, value in part.ListFields():
                    if isinstance(value, str):
                        setattr(part, field.name, value[:12])
        elif method.name == "CreateNodeEvent":
            message.event.ClearField("deck_uri")
        elif method.name == "CreateWorkflowEvent":
            message.event.producer_id = message.event.producer_id[:200]
        elif method.name in ("GetOrCreateSignal", "SetSignal"):
            for name in ("type", "value"):
                if name in method.input_type.fields_by_name and getattr(message, name).ByteSize() > 3000:
                    message.ClearField(name)

    def learn(self, method, message):
        """What a request made is there from now on."""
        made = {"CreateTask": "task", "CreateWorkflow": "workflow", "CreateLaunchPlan": "launch_plan"}.get(method.name)
        if made:
            self.names.add(made, message.id.name)
            self.names.add("name", message.id.name)
            self.names.add("version", message.id.version)

    def learn_answer(self, method, content):
        answer = message_class(method.output_type)()
        try:
            answer.ParseFromString(content)
        except DecodeError:
            return
        if method.name in ("CreateExecution", "RelaunchExecution", "RecoverExecution"):
            self.names.add("execution", answer.id.name)
            self.names.add("name", answer.id.name)
        elif method.name == "CreateUploadLocation":
            self.names.add("uri", answer.native_url)


class Admin(Generator):
    """gRPC: valid messages first, then mutated ones, raw bytes among them."""

    name = "admin-grpc"

    def __init__(self, rng):
        super().__init__(rng)
        self.calls, self.launched, self.sent, self.first = Calls(rng), 0, 0, []
        self.paths = list(METHODS)

    def prepare(self, send):
        for name in ("CreateTask", "CreateWorkflow", "CreateLaunchPlan", "CreateExecution") * 2:
            request = self.request(self.method(name), True)
            answer = send(request)
            assert answer.status == "OK", f"{name}: {answer}"
            self.learn(request, answer)
        self.first = list(METHODS.values())

    @staticmethod
    def method(name):
        return next(method for method in METHODS.values() if method.name == name)

    def request(self, method, surely=False):
        path = f"/{method.containing_service.full_name}/{method.name}"
        return Grpc(path, self.calls.plausible(method, surely).SerializeToString())

    def next(self):
        self.sent += 1
        if self.first:
            return self.request(self.first.pop(0))
        rng = self.rng
        path = rng.choice(self.paths)
        if path in LAUNCHING and (self.launched >= LAUNCHES or self.sent < self.launched * LAUNCH_EVERY):
            path = "/flyteidl.service.AdminService/GetExecution"
        method = METHODS[path]
        message = self.calls.plausible(method)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            self.calls.maker.mutate(message)
        self.calls.restrain(method, message)
        request = Grpc(path, self.calls.maker.encode(message), self.metadata())
        request.compressed = rng.random() < 0.08
        if rng.random() < 0.008:
            # A bomb, or a message as large: beyond every limit.
            request.zeros, request.compressed = rng.choice((5, 64)) * 2**20, rng.random() < 0.8
        return request

    def metadata(self):
        rng = self.rng
        if rng.random() < 0.9:
            return ()
        names = ("authorization", "x-request-id", "user-agent", "x-forwarded-for", "grpc-timeout-x", "cookie", "fuzz")
        text = "".join(letter for letter in values.text(rng)[:2000] if " " <= letter <= "~")
        return ((rng.choice(names), text),)

    def learn(self, request, answer):
        missing = answer.status == "UNIMPLEMENTED" and not request.compressed
        if missing and request.method in self.paths and self.rng.random() < 0.5:
            # All do this on the way to one that is there; a few more calls are enough.
            self.paths.remove(request.method)
        if answer.status != "OK":
            return
        method = METHODS[request.method]
        message = message_class(method.input_type)()
        try:
            message.ParseFromString(request.message)
        except DecodeError:
            return
        self.launched += request.method in LAUNCHING
        self.calls.learn(method, message)
        self.calls.learn_answer(method, answer.content)

    def finish(self, send):
        terminate(send, self.calls.names)


def terminate(send, names):
    """Ends what was launched, so that the node is free."""
    for name in names.made.get("execution", ()):
        identity = identifier_pb2.WorkflowExecutionIdentifier(project=PROJECT, domain=DOMAIN, name=name)
        message = execution_pb2.ExecutionTerminateRequest(id=identity, cause="the end of a lane")
        send(Grpc("/flyteidl.service.AdminService/TerminateExecution", message.SerializeToString()))
