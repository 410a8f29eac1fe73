"""Creating, replacing and deleting: identity, versions, conflicts, dry runs, finalizers."""

from .steps import ABSENT, Case, Keep, Like, Step, configmap, pod, refused

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
CREATED = Step("POST configmaps", configmap("a", k="1"), 201, {
    "/metadata/uid": Keep("uid"), "/metadata/resourceVersion": Keep("first"),
})  # fmt: skip
CHANGED = Step("MERGE configmaps/a", {"data": {"k": "2"}}, 200, {"/metadata/resourceVersion": Keep("second")})
STALE = refused(409, "Conflict", f'Operation cannot be fulfilled on configmaps "a": {MODIFIED}')
OTHER = "11111111-1111-1111-1111-111111111111"
NODE = {"kind": "Node", "name": "elsewhere"}
GONE = refused(404, "NotFound", 'configmaps "a" not found')
MILLI = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def with_metadata(object, **metadata):
    return object | {"metadata": object["metadata"] | metadata}


PROTOBUF = {"Content-Type": "application/vnd.kubernetes.protobuf"}


def field(number, content):
    """A field of bytes in protobuf; short ones alone."""
    content = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(content)]) + content


def protobuf_options(uid=None, dry_run=None, grace=None):
    """`meta/v1.DeleteOptions` as client-go sends it: four bytes, then a `runtime.Unknown`."""
    options = bytes([1 << 3, grace]) if grace is not None else b""
    options += field(2, field(1, uid)) if uid else b""
    options += field(5, dry_run) if dry_run else b""
    return b"k8s\0" + field(1, field(1, "v1") + field(2, "DeleteOptions")) + field(2, options)


CASES = [
    Case("a created object has identity", [
        Step("POST configmaps", configmap("a", k="1"), 201, {
            "/kind": "ConfigMap", "/apiVersion": "v1", "/metadata/namespace": "$ns", "/metadata/generation": ABSENT,
            "/metadata/creationTimestamp": Like(MILLI), "/metadata/uid": Like(r"[0-9a-f-]{36}"),
        }),
    ]),
    Case("two objects of one name", [
        CREATED,
        Step("POST configmaps", configmap("a"), **refused(
            409, "AlreadyExists", 'configmaps "a" already exists', **{"/details": {"name": "a", "kind": "configmaps"}})),
    ]),
    Case("an object in a namespace that is not there", [
        Step("POST /api/v1/namespaces/nowhere-$ns/configmaps", configmap("a"), **refused(
            404, "NotFound", 'namespaces "nowhere-$ns" not found')),
        Step("GET /api/v1/namespaces/nowhere-$ns/configmaps", None, 200, {"/items": []}),
    ]),
    Case("an object of another namespace", [
        Step("POST configmaps", with_metadata(configmap("a"), namespace="default"), **refused(
            400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request")),
    ]),
    Case("an object of another kind", [
        Step("POST configmaps", {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}, **refused(
            400, "BadRequest", Like('Secret in version "v1" cannot be handled as a ConfigMap.*'))),
        Step("POST configmaps", {"kind": "ConfigMap", "apiVersion": "v2", "metadata": {"name": "a"}}, **refused(
            400, "BadRequest", Like('ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered '
            'for version "v2".*'))),
    ]),
    Case("a replacement of an old version", [
        CREATED, CHANGED,
        Step("PUT configmaps/a", with_metadata(configmap("a"), resourceVersion="$first"), **STALE),
        Step("PUT configmaps/a", with_metadata(configmap("a", k="3"), resourceVersion="$second"), 200, {"/data": {"k": "3"}}),
    ]),
    Case("a replacement without a version is not conditional", [
        CREATED, CHANGED,
        Step("PUT configmaps/a", configmap("a", k="3"), 200, {"/data": {"k": "3"}, "/metadata/uid": "$uid"}),
    ]),
    Case("a replacement of what is not there", [
        Step("PUT configmaps/a", configmap("a"), **GONE),
        Step("PUT configmaps/a", with_metadata(configmap("a"), uid=OTHER), **GONE),
    ]),
    Case("a replacement of a predecessor", [
        CREATED,
        Step("PUT configmaps/a", with_metadata(configmap("a"), uid=OTHER), **refused(
            # A real one names etcd's key too.
            409, "Conflict", Like('Operation cannot be fulfilled on configmaps "a": .*Precondition failed: UID in precondition: '
            f"{OTHER}, UID in object meta: $uid"))),
    ]),
    Case("a replacement under another name", [
        CREATED,
        Step("PUT configmaps/a", configmap("b"), **refused(
            400, "BadRequest", "the name of the object (b) does not match the name on the URL (a)")),
    ]),
    Case("a write that changes nothing makes no version", [
        CREATED,
        Step("MERGE configmaps/a", {"data": {"k": "1"}}, 200, {"/metadata/resourceVersion": "$first"}),
        Step("PUT configmaps/a", configmap("a", k="1"), 200, {"/metadata/resourceVersion": "$first"}),
    ]),
    Case("what the server gives is not taken from the client", [
        CREATED,
        Step("MERGE configmaps/a", {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "selfLink": "x"}}, 200, {
            "/metadata/creationTimestamp": Like(r"20[2-9]\d-.*"), "/metadata/selfLink": ABSENT,
        }),
        Step("MERGE configmaps/a", {"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}}, **refused(
            422, "Invalid", 'ConfigMap "a" is invalid: metadata.deletionTimestamp: Invalid value: "2001-01-01T00:00:00Z": field '
            "is immutable")),
        Step("MERGE configmaps/a", {"metadata": {"uid": "other"}}, **refused(
            422, "Invalid", 'ConfigMap "a" is invalid: metadata.uid: Invalid value: "other": field is immutable')),
    ]),
    Case("a deletion tells what went", [
        CREATED,
        Step("DELETE configmaps/a", None, 200, {
            "/kind": "Status", "/status": "Success", "/details": {"name": "a", "kind": "configmaps", "uid": "$uid"},
        }),
        Step("GET configmaps/a", None, **GONE),
        Step("DELETE configmaps/a", None, **GONE),
    ]),
    Case("a deletion with preconditions", [
        CREATED, CHANGED,
        Step("DELETE configmaps/a", {"preconditions": {"uid": "other"}}, **refused(
            409, "Conflict", 'Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match '
            "the UID in record ($uid). The object might have been deleted and then recreated")),
        Step("DELETE configmaps/a", {"preconditions": {"resourceVersion": "$first"}}, **refused(
            409, "Conflict", 'Operation cannot be fulfilled on ConfigMap "a": the ResourceVersion in the precondition ($first) '
            "does not match the ResourceVersion in record ($second). The object might have been modified")),
        Step("DELETE configmaps/a", {"preconditions": {"uid": "$uid", "resourceVersion": "$second"}}, 200),
    ]),
    Case("a deletion with wrong options", [
        CREATED,
        Step("DELETE configmaps/a", {"propagationPolicy": "Sideways"}, **refused(
            422, "Invalid", 'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Sideways": supported '
            'values: "Foreground", "Background", "Orphan", "nil"')),
        Step("DELETE configmaps/a", {"propagationPolicy": "Orphan", "orphanDependents": True}, **refused(
            422, "Invalid", 'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": '
            "orphanDependents and deletionPropagation cannot be both set")),
        Step("DELETE configmaps/a", {"dryRun": ["Some"]}, **refused(
            422, "Invalid", 'DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"')),
    ]),
    Case("a collection is deleted by a selector", [
        Step("POST configmaps", with_metadata(configmap("a"), labels={"go": "yes"}), 201),
        Step("POST configmaps", configmap("b"), 201),
        Step("DELETE configmaps?labelSelector=go%3Dyes", None, 200, {
            "/kind": "ConfigMapList", "/items/0/metadata/name": "a", "/items/1": ABSENT,
        }),
        Step("GET configmaps", None, 200, {"/items/0/metadata/name": "b", "/items/1": ABSENT}),
    ]),
    Case("a dry run changes nothing", [
        Step("POST configmaps?dryRun=All", configmap("a"), 201, {
            "/metadata/uid": Like(".+"), "/metadata/resourceVersion": ABSENT,
        }),
        Step("GET configmaps/a", None, **GONE),
        CREATED,
        Step("POST configmaps?dryRun=All", configmap("a"), **refused(409, "AlreadyExists", 'configmaps "a" already exists')),
        Step("MERGE configmaps/a?dryRun=All", {"data": {"k": "9"}}, 200, {
            "/data": {"k": "9"}, "/metadata/resourceVersion": "$first",
        }),
        Step("PUT configmaps/a?dryRun=All", configmap("a", k="8"), 200, {"/data": {"k": "8"}}),
        Step("DELETE configmaps/a?dryRun=All", None, 200, {"/status": "Success"}),
        Step("DELETE configmaps/a", {"dryRun": ["All"]}, 200, {"/status": "Success"}),
        Step("GET configmaps/a", None, 200, {"/data": {"k": "1"}, "/metadata/resourceVersion": "$first"}),
        Step("PUT configmaps/a?dryRun=Some", configmap("a"), **refused(
            422, "Invalid", 'UpdateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"')),
    ]),
    Case("generated names", [
        Step("POST configmaps", {"metadata": {"generateName": "made-"}}, 201, {
            "/metadata/name": Like("made-[bcdfghjklmnpqrstvwxz2456789]{5}"), "/metadata/generateName": "made-",
        }),
        Step("POST configmaps", {"metadata": {"generateName": "x" * 70}}, 201, {"/metadata/name": Like("x{58}.{5}")}),
        Step("POST configmaps", {"metadata": {"generateName": "made-", "name": "given"}}, 201, {"/metadata/name": "given"}),
        Step("POST configmaps", {"metadata": {}}, **refused(
            422, "Invalid", 'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required')),
        Step("POST configmaps", {"metadata": {"generateName": "No-"}}, **refused(
            422, "Invalid", Like('ConfigMap "No-.{5}" is invalid: .*metadata.generateName: Invalid value: "No-": .*RFC 1123.*'))),
    ]),
    Case("a finalizer holds an object", [
        Step("POST configmaps", with_metadata(configmap("a"), finalizers=["example.com/hold"]), 201),
        Step("DELETE configmaps/a", None, 200, {
            "/kind": "ConfigMap", "/metadata/deletionTimestamp": Like(MILLI), "/metadata/deletionGracePeriodSeconds": 0,
            "/metadata/deletionTimestamp": Keep("since"), "/metadata/resourceVersion": Keep("version"),
        }),
        Step("DELETE configmaps/a", None, 200, {
            "/kind": "ConfigMap", "/metadata/deletionTimestamp": "$since", "/metadata/resourceVersion": "$version",
        }),
        Step("POST configmaps", configmap("a"), **refused(
            409, "AlreadyExists", 'object is being deleted: configmaps "a" already exists')),
        Step("MERGE configmaps/a", {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}, **refused(
            422, "Invalid", 'ConfigMap "a" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the '
            'object is being deleted, found new finalizers []string{"example.com/more"}')),
        Step("MERGE configmaps/a", {"metadata": {"deletionTimestamp": None}}, 200, {"/metadata/deletionTimestamp": "$since"}),
        Step("MERGE configmaps/a", {"metadata": {"finalizers": None}}, 200, {"/metadata/name": "a"}),
        Step("GET configmaps/a", None, **GONE),
    ]),
    Case("options of a deletion in protobuf", [
        CREATED,
        Step("DELETE configmaps/a", protobuf_options(uid="other"), headers=PROTOBUF, **refused(
            409, "Conflict", Like('.*the UID in the precondition \\(other\\) does not match the UID in record.*'))),
        Step("DELETE configmaps/a", protobuf_options(dry_run="All"), 200, {"/status": "Success"}, PROTOBUF),
        Step("GET configmaps/a", None, 200),
        Step("POST pods", pod("p"), 201),
        Step("DELETE pods/p", protobuf_options(grace=7), 200, {"/metadata/deletionGracePeriodSeconds": 7}, PROTOBUF),
    ]),
    Case("a pod on a node has its grace", [
        Step("POST pods", pod("a"), 201, {"/status/phase": "Pending", "/status/qosClass": "BestEffort"}),
        Step("DELETE pods/a", None, 200, {
            "/kind": "Pod", "/metadata/deletionGracePeriodSeconds": 30, "/metadata/deletionTimestamp": Keep("by"),
            "/metadata/generation": 2,
        }),
        Step("DELETE pods/a", {"gracePeriodSeconds": 60}, 200, {"/metadata/deletionGracePeriodSeconds": 30}),
        Step("DELETE pods/a?gracePeriodSeconds=5", None, 200, {"/metadata/deletionGracePeriodSeconds": 5}),
        Step("DELETE pods/a?gracePeriodSeconds=0", None, 200, {"/kind": "Pod"}),
        Step("GET pods/a", None, **refused(404, "NotFound", 'pods "a" not found')),
    ]),
    Case("a pod that waits is deleted at once", [
        Step("POST pods", pod("a", nodeName=None, schedulingGates=[{"name": "example.com/wait"}]), 201),
        Step("DELETE pods/a", None, 200, {"/kind": "Pod"}),
        Step("GET pods/a", None, **refused(404, "NotFound", 'pods "a" not found')),
    ]),
    Case("a binding puts a pod on a node once", [
        Step("POST pods", pod("a", nodeName=None, schedulingGates=[{"name": "example.com/wait"}]), 201),
        Step("POST pods/a/binding", {"metadata": {"name": "a"}, "target": NODE}, **refused(
            409, "Conflict", 'Operation cannot be fulfilled on pods/binding "a": pod a has non-empty .spec.schedulingGates')),
        Step("POST pods", pod("b"), 201),
        Step("POST pods/b/binding", {"target": NODE}, **refused(
            400, "BadRequest", "name in URL does not match name in Binding object")),
        Step("POST pods/b/binding", {"metadata": {"name": "b"}, "target": NODE}, **refused(
            409, "Conflict", 'Operation cannot be fulfilled on pods/binding "b": pod b is already assigned to node "elsewhere"')),
    ]),
    Case("a namespace is there with its label", [
        Step("GET /api/v1/namespaces/$ns", None, 200, {
            "/metadata/labels": {"kubernetes.io/metadata.name": "$ns"}, "/spec": {"finalizers": ["kubernetes"]},
            "/status": {"phase": "Active"},
        }),
    ]),
]  # fmt: skip
