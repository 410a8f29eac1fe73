"""Watches: which events come, from where on, and when they end."""

from .steps import ABSENT, Case, Keep, Like, Step, Watch, configmap, refused, selected

CREATED = Step("POST configmaps", configmap("a", k="1"), 201, {"/metadata/resourceVersion": Keep("first")})
CHANGED = Step("MERGE configmaps/a", {"data": {"k": "2"}}, 200, {"/metadata/resourceVersion": Keep("second")})
DELETED = Step("DELETE configmaps/a", None, 200)
# Answered when the time is up; everything that is to come has come by then.
SHORT = "timeoutSeconds=1"


def version(name):
    return {"/metadata/resourceVersion": f"${name}"}


CASES = [
    Case("a watch from a version on", [
        CREATED, CHANGED, DELETED,
        Watch(f"configmaps?watch=true&resourceVersion=$first&{SHORT}", [
            ("MODIFIED", version("second") | {"/data": {"k": "2"}}),
            ("DELETED", {"/data": {"k": "2"}, "/metadata/resourceVersion": Keep("third")}),
        ], ends=True),
        Watch(f"configmaps?watch=true&resourceVersion=$second&{SHORT}", [("DELETED", version("third"))], ends=True),
        Watch(f"configmaps?watch=true&resourceVersion=$third&{SHORT}", [], ends=True),
    ]),
    Case("a watch without a version begins with what is there", [
        CREATED, CHANGED,
        Watch(f"configmaps?watch=true&{SHORT}", [("ADDED", version("second"))], ends=True),
        Watch(f"configmaps?watch=true&resourceVersion=0&{SHORT}", [("ADDED", version("second"))], ends=True),
    ]),
    Case("a watch of one object", [
        CREATED,
        Step("POST configmaps", configmap("b"), 201),
        CHANGED,
        Watch(f"configmaps?watch=true&resourceVersion=$first&{selected(fieldSelector='metadata.name=a')}&{SHORT}", [
            ("MODIFIED", version("second")),
        ], ends=True),
    ]),
    Case("objects enter and leave a selection", [
        CREATED,
        Step("MERGE configmaps/a", {"metadata": {"labels": {"in": "yes"}}}, 200, {"/metadata/resourceVersion": Keep("entered")}),
        CHANGED,
        Step("MERGE configmaps/a", {"metadata": {"labels": None}}, 200, {"/metadata/resourceVersion": Keep("left")}),
        DELETED,
        Watch(f"configmaps?watch=true&resourceVersion=$first&{selected(labelSelector='in=yes')}&{SHORT}", [
            ("ADDED", version("entered")), ("MODIFIED", version("second")),
            ("DELETED", version("left") | {"/metadata/labels": {"in": "yes"}}),
        ], ends=True),
    ]),
    Case("a streamed list ends with a marked bookmark", [
        CREATED,
        Watch(
            f"configmaps?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&{SHORT}",
            [
                ("ADDED", version("first")),
                ("BOOKMARK", {
                    "/kind": "ConfigMap", "/metadata/annotations": {"k8s.io/initial-events-end": "true"},
                    "/metadata/resourceVersion": Like(r"\d+"), "/data": ABSENT,
                }),
            ],
        ),
        Step("GET configmaps?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&timeoutSeconds=1", None, **refused(
            422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires '
            "setting resourceVersionMatch to NotOlderThan")),
        Step("GET configmaps?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0", None, **refused(
            422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden '
            "for list")),
        Step("GET configmaps?watch=true&resourceVersionMatch=Exact&resourceVersion=5&timeoutSeconds=1", None, **refused(
            422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is '
            "forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: \"Exact\": supported "
            'values: "NotOlderThan"]')),
    ]),
    Case("a watch of metadata alone", [
        CREATED,
        # What the engine asks for.
        Step("GET configmaps", None, 200, {"/kind": "PartialObjectMetadataList"}, {
            "Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
        }),
    ]),
    Case("a finalizer's end is seen", [
        Step("POST configmaps", {"metadata": {"name": "a", "finalizers": ["example.com/hold"]}}, 201, {
            "/metadata/resourceVersion": Keep("first"),
        }),
        DELETED,
        Step("MERGE configmaps/a", {"metadata": {"finalizers": None}}, 200),
        Watch(f"configmaps?watch=true&resourceVersion=$first&{SHORT}", [
            ("MODIFIED", {"/metadata/deletionTimestamp": Like(".+"), "/metadata/finalizers": ["example.com/hold"]}),
            ("DELETED", {"/metadata/name": "a"}),
        ], ends=True),
    ]),
]  # fmt: skip
