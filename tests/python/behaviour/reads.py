"""Lists and what chooses from them: selectors, pages, versions, representations."""

from .steps import ABSENT, Case, Keep, Like, Step, configmap, pod, refused, selected


def named(*names):
    return {f"/items/{index}/metadata/name": name for index, name in enumerate(names)} | {f"/items/{len(names)}": ABSENT}


def labelled(name, **labels):
    return {"metadata": {"name": name, "labels": labels}}


LABELLED = [
    Step("POST configmaps", labelled("a", tier="web", env="prod"), 201),
    Step("POST configmaps", labelled("b", tier="db", env="prod"), 201),
    Step("POST configmaps", labelled("c", tier="db"), 201),
    Step("POST configmaps", configmap("d"), 201),
]
SELECTORS = [
    ("tier=db", "bc"), ("tier==web", "a"), ("tier!=db", "ad"), ("env", "ab"), ("!env", "cd"), ("tier in (web,db),env", "ab"),
    ("tier notin (web)", "bcd"), ("tier=db,env!=prod", "c"), ("tier=", ""), ("", "abcd"), ("tier in (db, none)", "bc"),
]  # fmt: skip
PODS = [
    Step("POST pods", pod("a"), 201),
    Step("POST pods", pod("b", nodeName="other"), 201),
    Step("MERGE pods/b/status", {"status": {"phase": "Running"}}, 200),
]
FIELDS = [
    ("metadata.name=a", "a"), ("metadata.name!=a", "b"), ("spec.nodeName=other", "b"), ("status.phase=Running", "b"),
    ("status.phase!=Running", "a"), ("spec.nodeName=elsewhere,status.phase=Pending", "a"), ("metadata.namespace=$ns", "ab"),
    ("spec.restartPolicy=Always", "ab"), ("metadata.name=a,metadata.name=b", ""), ("", "ab"),
]  # fmt: skip
SEVEN = [Step("POST configmaps", configmap(f"m{index}"), 201) for index in range(7)]

CASES = [
    Case("labels choose", [
        *LABELLED,
        *(Step(f"GET configmaps?{selected(labelSelector=selector)}", None, 200, named(*names)) for selector, names in SELECTORS),
    ]),
    Case("selectors of labels that cannot be read", [
        Step(f"GET configmaps?{selected(labelSelector='tier in db')}", None, **refused(
            400, "BadRequest", "unable to parse requirement: found 'db' expected: '('")),
        Step(f"GET configmaps?{selected(labelSelector='-a=b')}", None, **refused(
            400, "BadRequest", Like("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of .*"))),
        Step(f"GET configmaps?{selected(labelSelector='a=b=c')}", None, **refused(
            400, "BadRequest", "found '=', expected: ',' or 'end of string'")),
        Step(f"GET configmaps?{selected(labelSelector='a,,b')}", None, **refused(
            400, "BadRequest", "found ',', expected: identifier after ','")),
    ]),
    Case("fields choose", [
        *PODS, *(Step(f"GET pods?{selected(fieldSelector=selector)}", None, 200, named(*names)) for selector, names in FIELDS),
    ]),
    Case("selectors of fields that are not there", [
        Step(f"GET configmaps?{selected(fieldSelector='data.k=1')}", None, **refused(
            400, "BadRequest", '"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"')),
        Step(f"GET pods?{selected(fieldSelector='spec.hostname=x')}", None, **refused(
            400, "BadRequest", "field label not supported: spec.hostname")),
        Step(f"GET pods?{selected(fieldSelector='status.phase')}", None, **refused(
            400, "BadRequest", "invalid selector: 'status.phase'; can't understand 'status.phase'")),
    ]),
    Case("pages show one version", [
        *SEVEN,
        Step("GET configmaps?limit=3", None, 200, named("m0", "m1", "m2") | {
            "/metadata/remainingItemCount": 4, "/metadata/continue": Keep("next"), "/metadata/resourceVersion": Keep("version"),
        }),
        Step("DELETE configmaps/m4", None, 200),
        Step("POST configmaps", configmap("m9"), 201),
        Step("GET configmaps?limit=3&continue=$next", None, 200, named("m3", "m4", "m5") | {
            "/metadata/remainingItemCount": 1, "/metadata/continue": Keep("next"), "/metadata/resourceVersion": "$version",
        }),
        Step("GET configmaps?limit=3&continue=$next", None, 200, named("m6") | {
            "/metadata/continue": ABSENT, "/metadata/remainingItemCount": ABSENT, "/metadata/resourceVersion": "$version",
        }),
        Step("GET configmaps?limit=7", None, 200, {"/metadata/continue": ABSENT, "/items/6/metadata/name": "m9"}),
    ]),
    Case("pages of a selection do not count the rest", [
        *LABELLED,
        Step(f"GET configmaps?limit=1&{selected(labelSelector='env=prod')}", None, 200, named("a") | {
            "/metadata/continue": Keep("next"), "/metadata/remainingItemCount": ABSENT,
        }),
        Step(f"GET configmaps?limit=1&{selected(labelSelector='env=prod')}&continue=$next", None, 200, named("b")),
    ]),
    Case("what a page cannot be asked with", [
        *SEVEN,
        Step("GET configmaps?limit=3", None, 200, {"/metadata/continue": Keep("next")}),
        Step("GET configmaps?continue=nonsense", None, **refused(
            400, "BadRequest", Like("invalid continue token: continue key is not valid: .*"))),
        Step("GET configmaps?limit=3&continue=$next&resourceVersion=5", None, **refused(
            400, "BadRequest", "specifying resource version is not allowed when using continue")),
        Step("GET configmaps?limit=-1", None, 200, {"/items/6/metadata/name": "m6"}),
        Step("GET configmaps?limit=many", None, **refused(
            400, "BadRequest", 'strconv.ParseInt: parsing "many": invalid syntax')),
    ]),
    Case("versions of a list", [
        Step("POST configmaps", configmap("a"), 201, {"/metadata/resourceVersion": Keep("first")}),
        Step("POST configmaps", configmap("b"), 201),
        Step("GET configmaps?resourceVersion=0", None, 200, {"/kind": "ConfigMapList"}),
        Step("GET configmaps?resourceVersion=$first", None, 200, named("a", "b")),
        Step("GET configmaps?resourceVersion=$first&resourceVersionMatch=NotOlderThan", None, 200, named("a", "b")),
        Step("GET configmaps?resourceVersion=$first&resourceVersionMatch=Exact", None, 200, named("a") | {
            "/metadata/resourceVersion": "$first",
        }),
        Step("GET configmaps?resourceVersionMatch=Exact", None, **refused(
            422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is '
            "forbidden unless resourceVersion is provided")),
        Step("GET configmaps?resourceVersion=0&resourceVersionMatch=Exact", None, **refused(
            422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch '
            '"exact" is forbidden for resourceVersion "0"')),
        Step("GET configmaps?resourceVersion=5&resourceVersionMatch=Some", None, **refused(
            422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Some": supported '
            'values: "Exact", "NotOlderThan", ""')),
        Step("GET configmaps?resourceVersion=word", None, **refused(
            400, "BadRequest", 'invalid resource version: resourceVersion: Invalid value: "word": strconv.ParseUint: parsing "word": invalid syntax')),
    ]),
    Case("an object and its metadata alone", [
        Step("POST configmaps", configmap("a", k="1"), 201),
        Step("GET configmaps/a", None, 200, {"/kind": "PartialObjectMetadata", "/data": ABSENT, "/metadata/name": "a"}, {
            "Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        }),
        Step("GET configmaps", None, 200, named("a") | {"/kind": "PartialObjectMetadataList", "/items/0/data": ABSENT}, {
            "Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        }),
        Step("GET configmaps", None, 200, {
            "/kind": "Table", "/columnDefinitions/0/name": "Name", "/columnDefinitions/1/name": "Data", "/rows/0/cells/0": "a",
            "/rows/0/cells/1": 1, "/rows/0/object/kind": "PartialObjectMetadata",
        }, {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}),
        Step("GET configmaps/a", None, headers={"Accept": "text/html"}, **refused(
            406, "NotAcceptable", Like("406: Not Acceptable\n\nAvailable representations: application/json.*"))),
    ]),
    Case("what is not served", [
        Step("GET nothings/a", None, **refused(404, "NotFound", "the server could not find the requested resource")),
        Step("POST configmaps/a", configmap("a"), **refused(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource")),
        Step("PUT configmaps", configmap("a"), **refused(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource")),
        Step("POST /api/v1/configmaps", configmap("a"), **refused(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource")),
        Step("GET configmaps/a", None, **refused(
            404, "NotFound", 'configmaps "a" not found', **{"/details": {"name": "a", "kind": "configmaps"}})),
        Step("GET /apis/apps/v1/namespaces/$ns/deployments/a", None, **refused(
            404, "NotFound", 'deployments.apps "a" not found',
            **{"/details": {"name": "a", "group": "apps", "kind": "deployments"}})),
    ]),
]  # fmt: skip
