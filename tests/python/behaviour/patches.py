"""Patches: the four kinds, what they cannot do, and parts of objects with a path of their own."""

from .steps import ABSENT, Case, Keep, Like, Step, configmap, pod, refused

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
CREATED = Step("POST configmaps", configmap("a", k="1", l="2"), 201, {"/metadata/resourceVersion": Keep("first")})
CONTAINERS = [
    {"name": "main", "image": "none", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
    {"name": "side", "image": "none"},
]
TWO = Step("POST pods", pod("p", containers=CONTAINERS), 201)
# Ours says which operation, and why.
REJECTED = Like("the server rejected our request due to an error in our request.*")
ENV = "/spec/containers/0/env"


def applied(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


CASES = [
    Case("a merge patch", [
        CREATED,
        Step("MERGE configmaps/a", {"data": {"k": None, "m": "3"}}, 200, {"/data": {"l": "2", "m": "3"}}),
        Step("MERGE configmaps/a", {}, 200, {"/data": {"l": "2", "m": "3"}}),
        Step("MERGE configmaps/a", {"data": None}, 200, {"/data": ABSENT}),
        Step("MERGE configmaps/b", {"data": {}}, **refused(404, "NotFound", 'configmaps "b" not found')),
    ]),
    Case("a merge patch with a version", [
        CREATED,
        Step("MERGE configmaps/a", {"data": {"k": "5"}, "metadata": {"resourceVersion": "$first"}}, 200),
        Step("MERGE configmaps/a", {"data": {"k": "6"}, "metadata": {"resourceVersion": "$first"}}, **refused(
            409, "Conflict", f'Operation cannot be fulfilled on configmaps "a": {MODIFIED}')),
    ]),
    Case("a merge patch cannot rename", [
        CREATED,
        Step("MERGE configmaps/a", {"metadata": {"name": "b"}}, **refused(
            400, "BadRequest", "the name of the object (b) does not match the name on the URL (a)")),
        Step("MERGE configmaps/a", {"metadata": {"namespace": "default"}}, **refused(
            400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request")),
    ]),
    Case("a JSON patch", [
        CREATED,
        Step("JSON configmaps/a", [
            {"op": "test", "path": "/data/k", "value": "1"}, {"op": "add", "path": "/data/m", "value": "3"},
            {"op": "replace", "path": "/data/l", "value": "4"}, {"op": "copy", "from": "/data/m", "path": "/data/n"},
            {"op": "move", "from": "/data/k", "path": "/data/o"},
        ], 200, {"/data": {"l": "4", "m": "3", "n": "3", "o": "1"}}),
        Step("JSON configmaps/a", [{"op": "remove", "path": "/data/l"}], 200, {"/data": {"m": "3", "n": "3", "o": "1"}}),
    ]),
    Case("JSON patches that do not hold", [
        CREATED,
        Step("JSON configmaps/a", [{"op": "test", "path": "/data/k", "value": "9"}], **refused(
            422, "Invalid", REJECTED)),
        Step("JSON configmaps/a", [{"op": "remove", "path": "/data/none"}], **refused(
            422, "Invalid", REJECTED)),
        Step("JSON configmaps/a", [{"op": "replace", "path": "/none/at/all", "value": 1}], **refused(
            422, "Invalid", REJECTED)),
        Step("JSON configmaps/a", {"op": "add"}, code=400, has={"/reason": "BadRequest"}),
        Step("JSON configmaps/a", "[", code=400, has={"/reason": "BadRequest"}),
        Step("GET configmaps/a", None, 200, {"/metadata/resourceVersion": "$first"}),
    ]),
    Case("a strategic patch merges lists by their keys", [
        TWO,
        Step("STRATEGIC pods/p", {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [
            {"name": "main", "image": "other"}]}}, 200, {
            "/metadata/labels": {"x": "y"}, "/spec/containers/0/image": "other", "/spec/containers/1/name": "side",
            f"{ENV}/1/value": "2", "/spec/containers/2": ABSENT,
        }),
        Step("STRATEGIC pods/p", {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}, code=422, has={
            "/reason": "Invalid", "/message": Like('Pod "p" is invalid: spec.containers: Forbidden: pod updates may not add or '
            "remove containers.*"),
        }),
    ]),
    Case("directives of strategic patches", [
        Step("POST configmaps", configmap("a", k="1", l="2") | {"metadata": {
            "name": "a", "finalizers": ["example.com/a", "example.com/b"], "labels": {"x": "1", "y": "2"}}}, 201),
        Step("STRATEGIC configmaps/a", {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}}, 200, {
            "/metadata/finalizers": ["example.com/b"],
        }),
        Step("STRATEGIC configmaps/a", {"metadata": {"finalizers": ["example.com/c"]}}, 200, {
            "/metadata/finalizers": ["example.com/c", "example.com/b"],
        }),
        Step("STRATEGIC configmaps/a", {"metadata": {
            "$setElementOrder/finalizers": ["example.com/b", "example.com/c"]}}, 200, {
            "/metadata/finalizers": ["example.com/b", "example.com/c"],
        }),
        Step("STRATEGIC configmaps/a", {"metadata": {"labels": {"$patch": "replace", "z": "3"}}}, 200, {
            "/metadata/labels": {"z": "3"},
        }),
        Step("STRATEGIC configmaps/a", {"data": {"$patch": "delete"}}, 200, {"/data": ABSENT}),
        Step("STRATEGIC configmaps/a", {"metadata": {"finalizers": None}}, 200, {"/metadata/finalizers": ABSENT}),
    ]),
    Case("a status has a path of its own", [
        Step("POST pods", pod("p") | {"status": {"phase": "Failed"}}, 201, {"/status/phase": "Pending"}),
        Step("MERGE pods/p", {"status": {"phase": "Failed"}, "metadata": {"labels": {"a": "b"}}}, 200, {
            "/status/phase": "Pending", "/metadata/labels": {"a": "b"}, "/metadata/generation": 1,
        }),
        Step("MERGE pods/p/status", {"status": {"phase": "Running"}, "spec": {"hostname": "x"}}, 200, {
            "/status/phase": "Running", "/spec/hostname": ABSENT, "/metadata/generation": 1,
        }),
        Step("STRATEGIC pods/p/status", {"status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}}, 200),
        Step("STRATEGIC pods/p/status", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, 200, {
            "/status/conditions/0/status": "False", "/status/conditions/1/type": "Other", "/status/conditions/2": ABSENT,
        }),
        Step("GET pods/p/status", None, 200, {"/kind": "Pod", "/status/phase": "Running"}),
        Step("GET configmaps/a/status", None, **refused(
            404, "NotFound", "the server could not find the requested resource")),
    ]),
    Case("patches of unknown kinds", [
        CREATED,
        Step("MERGE configmaps/a", {}, headers={"Content-Type": "application/json"}, **refused(
            415, "UnsupportedMediaType", "415: Unsupported Media Type")),
        Step("POST configmaps", "x", headers={"Content-Type": "text/plain"}, **refused(
            415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml, application/vnd.kubernetes.protobuf")),
    ]),
    Case("server-side apply owns fields", [
        Step("APPLY configmaps/a?fieldManager=one", applied(k="1", l="2"), 201, {
            "/metadata/managedFields/0/manager": "one", "/metadata/managedFields/0/operation": "Apply",
            "/metadata/managedFields/0/fieldsV1": {"f:data": {"f:k": {}, "f:l": {}}},
        }),
        Step("APPLY configmaps/a?fieldManager=one", applied(k="1", l="2"), 200),
        Step("APPLY configmaps/a?fieldManager=two", applied(k="9"), **refused(
            409, "Conflict", 'Apply failed with 1 conflict: conflict with "one": .data.k', **{
                "/details/causes": [
                    {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}]})),
        Step("APPLY configmaps/a?fieldManager=two&force=true", applied(k="9"), 200, {"/data": {"k": "9", "l": "2"}}),
        Step("APPLY configmaps/a?fieldManager=one", applied(), 200, {"/data": {"k": "9"}}),
        Step("APPLY configmaps/a", applied(), **refused(
            422, "Invalid", 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch')),
        Step("MERGE configmaps/a?force=true", {}, **refused(
            422, "Invalid", 'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch')),
    ]),
    Case("unknown fields by what is asked", [
        Step("POST configmaps?fieldValidation=Strict", configmap("a") | {"dta": {}}, **refused(
            400, "BadRequest", 'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"')),
        Step("POST configmaps?fieldValidation=Ignore", configmap("a") | {"dta": {}}, 201, {"/dta": ABSENT}),
        Step("POST configmaps?fieldValidation=Loose", configmap("b"), **refused(
            422, "Invalid", 'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Loose": supported '
            'values: "", "Ignore", "Strict", "Warn"')),
    ]),
    Case("what kubectl sends for an eviction", [
        TWO,
        Step("POST pods/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}, 201, {
            "/kind": "Status", "/status": "Success",
        }),
        Step("GET pods/p", None, 200, {"/metadata/deletionTimestamp": Like(".+")}),
        Step("DELETE pods/p?gracePeriodSeconds=0", None, 200),
    ]),
]  # fmt: skip
