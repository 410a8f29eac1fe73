"""Requests to the embedded Kubernetes API: objects of every kind, patches, lists, watches and subresources.

Pods run, mutated as they are (see `pods`). Nodes are read here, never written, but for a label that pods ask for.
"""

import copy
import json
import time
from urllib.parse import quote

from . import oracle, pods, values
from .lane import Generator
from .messages import Names, varint
from .transport import Http

NAMESPACE = "fuzz"
# Group and version, plural, kind, whether it has a namespace, and what a valid one has besides its metadata.
POD = {
    "containers": [pods.CONTAINER], "volumes": [{"name": "v", "emptyDir": {}}], "restartPolicy": "Never",
    "tolerations": [{"key": "a", "operator": "Exists"}], "nodeSelector": {"a": "b"}, "terminationGracePeriodSeconds": 1,
}
KINDS = (
    ("v1", "pods", "Pod", True, {"spec": POD}),
    ("v1", "configmaps", "ConfigMap", True, {"data": {"a": "b"}, "binaryData": {"c": "AAA="}, "immutable": False}),
    ("v1", "secrets", "Secret", True, {"data": {"a": "AAA="}, "stringData": {"b": "c"}, "type": "Opaque"}),
    ("v1", "namespaces", "Namespace", False, {"spec": {"finalizers": []}}),
    ("v1", "services", "Service", True, {"spec": {"ports": [{"port": 80, "targetPort": "http"}], "selector": {"a": "b"}}}),
    ("v1", "endpoints", "Endpoints", True, {"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 1}]}]}),
    ("v1", "serviceaccounts", "ServiceAccount", True, {"secrets": [{"name": "a"}]}),
    ("v1", "events", "Event", True, {
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": NAMESPACE}, "reason": "R", "message": "m",
        "type": "Normal", "count": 1,
        "firstTimestamp": "2024-01-01T00:00:00Z",
    }),
    ("v1", "resourcequotas", "ResourceQuota", True, {"spec": {"hard": {"pods": "1000", "requests.cpu": "100",
    "limits.memory": "1Ti"}}}),
    ("v1", "limitranges", "LimitRange", True, {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}}),
    ("v1", "podtemplates", "PodTemplate", True, {"template": {"metadata": {"labels": {"a": "b"}}, "spec": POD}}),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim", True, {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }),
    ("apps/v1", "deployments", "Deployment", True, {
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD}},
    }),
    ("batch/v1", "jobs", "Job", True, {"spec": {"template": {"spec": POD}}}),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", True, {"rules": [{"apiGroups": [""], "resources": ["pods"],
    "verbs": ["get"]}]}),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", False,
    {"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]}),
    ("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", True, {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"},
        "subjects": [{"kind": "User", "name": "a"}],
    }),
    ("coordination.k8s.io/v1", "leases", "Lease", True, {
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2024-01-01T00:00:00.000000Z"},
    }),
    ("events.k8s.io/v1", "events", "Event", True, {
        "regarding": {"kind": "Pod", "name": "a"}, "reason": "R", "note": "n", "type": "Normal",
        "eventTime": "2024-01-01T00:00:00.000000Z",
        "action": "a", "reportingController": "c", "reportingInstance": "i",
    }),
    ("networking.k8s.io/v1", "ingresses", "Ingress", True, {"spec": {"defaultBackend": {"service": {"name": "a",
    "port": {"number": 80}}}}}),
    ("flyte.lyft.com/v1alpha1", "flyteworkflows", "FlyteWorkflow", True,
    {"spec": {"id": "w", "nodes": {}, "connections": {}}, "inputs": {}}),
    ("fuzz.example.com/v1", "widgets", "Widget", True, {"spec": {"size": 1, "parts": [{"a": 1}]}, "status": {"ready": True}}),
)
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.fuzz.example.com"},
    "spec": {
        "group": "fuzz.example.com", "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget",
        "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {},
            "scale": {"specReplicasPath": ".spec.size",
            "statusReplicasPath": ".status.size"}},
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        }],
    },
}
DEFINITIONS = ("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", False, {})
NODES = ("v1", "nodes", "Node", False, {})
PATCHES = (
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
SUBRESOURCES = (
    "status", "log", "binding", "eviction", "exec", "attach", "portforward", "proxy", "scale", "token", "ephemeralcontainers",
    "finalize",
    "resize", "nothing",
)
# `limit` and `continue`, selectors and versions, as they may be and as they may not.
PARAMETERS = {
    "labelSelector": ("a=b", "a!=b", "a in (b,c)", "a notin (b)", "!a", "a", "a=b,c", "a in (", ",", "a==b", "in in (in)",
    "a in ()", "a>1"),
    "fieldSelector": ("metadata.name=a", "metadata.namespace!=x", "status.phase=Running", "spec.nodeName=", "nothing=1",
    "metadata.name", "=", "a=b,c=d"),
    "limit": ("1", "2", "500", "0", "-1", "99999999999999999999", "x", ""),
    "continue": ("x", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0", "%00", "AAAA"),
    "resourceVersion": ("0", "1", "999999999", "-1", "x", "", "18446744073709551616"),
    "resourceVersionMatch": ("Exact", "NotOlderThan", "x"),
    "sendInitialEvents": ("true", "false", "x"),
    "allowWatchBookmarks": ("true", "1", "x"),
    "pretty": ("true", "false", "x"),
    "dryRun": ("All", "x", ""),
    "fieldManager": ("fuzz", "", "ü", "x" * 129),
    "fieldValidation": ("Strict", "Warn", "Ignore", "x"),
    "force": ("true", "false", "x"),
    "gracePeriodSeconds": ("0", "1", "-1", "x", "99999999999999999999"),
    "propagationPolicy": ("Foreground", "Background", "Orphan", "x"),
    "timeoutSeconds": ("1", "0", "-1", "x"),
    "includeObject": ("None", "Metadata", "Object", "x"),
    "previous": ("true", "x"), "tailLines": ("1", "-1", "x"), "limitBytes": ("1", "0", "x"), "sinceSeconds": ("1", "-1", "x"),
    "sinceTime": ("2024-01-01T00:00:00Z", "x"), "timestamps": ("true", "x"), "container": ("c", "x", "../c"),
}
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
ACCEPTS = (
    JSON, "*/*", PROTOBUF, YAML, "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "application/json;as=Nothing", "text/html", "", ";;",
    "application/json;q=x",
)
OTHER_PATHS = (
    "/", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/apis/nothing/v1", "/version", "/healthz", "/livez",
    "/readyz", "/metrics",
    "/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1", "/openapi/v3/apis/apps/v1", "/logs", "/api/v1/namespaces/fuzz",
    "/api/v2/pods", "//api/v1/pods",
    "/api/v1/namespaces//pods", "/api/v1/namespaces/fuzz/pods/", "/api/v1/watch/pods",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/.well-known/openid-configuration", "/api/v1/namespaces/fuzz/pods/a/b/c/d",
)
FIELDS = (
    "metadata", "spec", "status", "name", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "uid",
    "resourceVersion",
    "generateName", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "kind", "apiVersion",
    "creationTimestamp", "generation",
    "containers", "initContainers", "volumes", "nodeName", "$patch", "$setElementOrder/containers", "$retainKeys",
    "$deleteFromPrimitiveList/finalizers",
)


# Seconds, alone on the machine, in which a plain pod runs, and in which what was left of pods is gone.
WITHIN = 20
# All pods are deleted now and then: those that restart for ever would fill the node.
SWEEP_EVERY = 120


def within(condition):
    """Whether a condition comes true in time, however slow the machine is now."""
    until = time.monotonic() + WITHIN * oracle.slowdown()
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


class Kubernetes(Generator):
    """Objects made, changed, watched and deleted; what is said of them mutated."""

    name = "kubernetes"

    def __init__(self, rng):
        super().__init__(rng)
        self.names, self.count, self.tokens, self.versions = Names(rng, "", ""), 0, [], []
        self.first, self.made, self.uids = [], 0, set()

    def prepare(self, send):
        for node in send(Http("kubernetes", "GET", "/api/v1/nodes")).json()["items"]:
            body = json.dumps({"metadata": {"labels": {"a": "b"}}}).encode()
            answer = send(Http("kubernetes", "PATCH", f"/api/v1/nodes/{node['metadata']['name']}",
                [("Content-Type", PATCHES[2])], body))
            assert answer.status == 200, answer
        for namespace in (NAMESPACE, "fuzz2"):
            body = json.dumps({"metadata": {"name": namespace}}).encode()
            answer = send(Http("kubernetes", "POST", "/api/v1/namespaces", [("Content-Type", JSON)], body))
            assert answer.status == 201, answer
        answer = send(Http(
            "kubernetes", "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", [("Content-Type", JSON)],
            json.dumps(DEFINITION).encode(),
        ))
        assert answer.status == 201, answer
        self.first = [kind for kind in KINDS if kind[1] != "namespaces"] * 2

    def finish(self, send):
        for namespace in (NAMESPACE, "fuzz2", "default"):
            for plural in ("pods", "resourcequotas", "limitranges"):
                send(Http("kubernetes", "DELETE", f"/api/v1/namespaces/{namespace}/{plural}?gracePeriodSeconds=0"))
        for pod in send(Http("kubernetes", "GET", "/api/v1/pods")).json()["items"]:
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            body = json.dumps({"metadata": {"finalizers": None}}).encode()
            send(Http("kubernetes", "PATCH", path, [("Content-Type", PATCHES[1])], body))
            send(Http("kubernetes", "DELETE", f"{path}?gracePeriodSeconds=0"))
        left = send(Http("kubernetes", "GET", "/api/v1/pods")).json()["items"]
        assert not left, f"pods that cannot be deleted: {[pod['metadata'] for pod in left][:3]}"

    def troubles(self, backend, send):
        """A plain pod runs, and of all the others nothing is left."""
        path = "/api/v1/namespaces/default/pods"
        body = json.dumps({"metadata": {"name": "plain"}, "spec": pods.PLAIN}).encode()
        made = send(Http("kubernetes", "POST", path, [("Content-Type", JSON)], body))
        if made.status != 201:
            return [f"a plain pod is answered with {made.status}: {made.text[:500]}"]

        def status():
            return (send(Http("kubernetes", "GET", f"{path}/plain")).json() or {}).get("status", {})

        found = []
        if not within(lambda: status().get("phase") == "Succeeded"):
            found.append(f"a plain pod has not run within {WITHIN} s: {json.dumps(status())[:1000]}")
        send(Http("kubernetes", "DELETE", f"{path}/plain?gracePeriodSeconds=0"))
        if not within(lambda: not pods.leftovers(backend, self.uids)):
            found.append(f"of pods that are gone, this is left: {pods.leftovers(backend, self.uids)[:5]}")
        pods.forget_scratch()
        return found

    def object(self, kind, name=None):
        api_version, plural, written, namespaced, body = kind
        if name is None:
            self.count += 1
            name = f"f{self.count}"
        metadata = {"name": name, "labels": {"a": self.rng.choice("bcd")}, "annotations": {"x": "y"}}
        if namespaced:
            metadata["namespace"] = NAMESPACE
        if self.rng.random() < 0.1:
            metadata["finalizers"] = ["fuzz.example.com/hold"]
        if self.rng.random() < 0.1 and (owner := self.names.any("uid")):
            metadata["ownerReferences"] = [{**owner, "blockOwnerDeletion": True, "controller": True}]
        body = {"spec": pods.spec(self.rng)} if plural == "pods" else copy.deepcopy(body)
        return {"apiVersion": api_version, "kind": written, "metadata": metadata, **body}

    def path(self, kind, name=None, subresource=None):
        api_version, plural, _, namespaced, _ = kind
        segments = (["api"] if "/" not in api_version else ["apis"]) + api_version.split("/")
        if namespaced and not (name is None and self.rng.random() < 0.1):
            segments += ["namespaces", NAMESPACE if self.rng.random() < 0.95 else self.rng.choice(("fuzz2", "default",
                "nowhere"))]
        segments += [plural, *([name] if name is not None else []), *([subresource] if subresource else [])]
        return "/" + "/".join(quote(segment, safe="") for segment in segments)

    def query(self, *names, probability=0.3):
        rng, chosen = self.rng, []
        for name in names:
            if rng.random() < probability:
                known = {"continue": self.tokens, "resourceVersion": self.versions}.get(name)
                value = rng.choice(known) if known and rng.random() < 0.7 else rng.choice(PARAMETERS[name])
                value = value if rng.random() < 0.9 else values.text(rng)[:4000]
                chosen.append(f"{name}={quote(value, safe='=,()!')}")
        return f"?{'&'.join(chosen)}" if chosen else ""

    def next(self):
        rng = self.rng
        if self.first:
            kind = self.first.pop(0)
            return self.written("POST", self.path(kind), self.object(kind), mutations=0)
        self.made += 1
        if self.made % SWEEP_EVERY == 0:
            return Http("kubernetes", "DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods?gracePeriodSeconds={rng.choice((0, 1))}")
        if rng.random() < 0.1:
            return self.create(KINDS[0], None)
        kind = rng.choice(KINDS) if rng.random() < 0.93 else rng.choice((DEFINITIONS, NODES))
        name = self.names.any(kind[1], "f1") if rng.random() < 0.93 else values.text(rng)[:3000]
        writes = kind is not NODES
        makers = [self.get, self.list, self.watch, self.subresource, self.other] + [self.create, self.put, self.patch,
            self.patch, self.delete] * writes
        return rng.choice(makers)(kind, name)

    def create(self, kind, name):
        if kind is DEFINITIONS:
            made = copy.deepcopy(DEFINITION)
            self.count += 1
            made["metadata"]["name"] = f"w{self.count}.fuzz.example.com"
            made["spec"]["names"].update(plural=f"w{self.count}", kind=f"W{self.count}", singular=f"w{self.count}",
                listKind=f"W{self.count}List")
        else:
            made = self.object(kind)
        if self.rng.random() < 0.1:
            made["metadata"]["generateName"] = "g-"
            del made["metadata"]["name"]
        return self.written("POST", self.path(kind) + self.query("dryRun", "fieldManager", "fieldValidation", "pretty",
            probability=0.1), made)

    def put(self, kind, name):
        made = copy.deepcopy(DEFINITION) if kind is DEFINITIONS else self.object(kind, name)
        if self.versions and self.rng.random() < 0.5:
            made["metadata"]["resourceVersion"] = self.rng.choice(self.versions)
        return self.written("PUT", self.path(kind, name, self.rng.choice((None, None, "status"))) + self.query("dryRun",
            probability=0.1), made)

    def patch(self, kind, name):
        rng, content = self.rng, self.rng.choice(PATCHES)
        if content == PATCHES[0]:
            pointers = ("/metadata/labels/a", "/spec", "/spec/containers/0/image", "/spec/containers/-", "/data/a", "", "/",
                "/~0/~1", "/a/0/b", "/metadata")
            operations = ("add", "remove", "replace", "move", "copy", "test", "nothing")
            made = [
                {"op": rng.choice(operations), "path": rng.choice(pointers), "from": rng.choice(pointers),
                "value": rng.choice((values.scalar(rng), {"a": {}}, [1]))}
                for _ in range(rng.choice((1, 1, 3, 200)))
            ]
        else:
            made = self.object(kind, name)
            made = made if content == PATCHES[3] or rng.random() < 0.3 else {"metadata": {"labels": {"p": "q", "a": None}},
                "spec": made.get("spec", {})}
            made.get("metadata", {}).pop("finalizers", None)
            if rng.random() < 0.2 and isinstance(made.get("spec"), dict):
                made["spec"]["$patch"] = rng.choice(("replace", "delete", "merge", "x"))
        query = self.query("dryRun", "fieldManager", "force", "fieldValidation",
            probability=0.15 if content != PATCHES[3] else 0.8)
        return self.written("PATCH", self.path(kind, name, rng.choice((None, None, None, "status"))) + query, made, content)

    def written(self, verb, path, made, content=None, mutations=None):
        rng = self.rng
        if content is None:
            content = JSON if rng.random() < 0.85 or mutations == 0 else rng.choice((YAML, PROTOBUF, "text/plain", ""))
        for _ in range(rng.choice((0, 1, 1, 2, 3)) if mutations is None else mutations):
            if isinstance(made, (dict, list)):
                made = values.mutate_json(rng, made, FIELDS + pods.FIELDS if "/pods" in path else FIELDS)
        if "/pods" in path:
            made = pods.tame(rng, made)
        body = values.write(made).encode("utf-8", "surrogatepass")
        if content == PROTOBUF:
            body = self.protobuf()
        elif content == YAML and rng.random() < 0.3:
            odd = (b"a: &a [*a]", b"&a [*a, *a]", b"a: b\n---\nc: d", b"\t", b"? a", b"!!python/object:a {}", b"<<: {a: b}")
            body = rng.choice(odd) + body
        if mutations is None and rng.random() < 0.05:
            body = values.mutate_bytes(rng, body)
        request = Http("kubernetes", verb, path, self.headers(content), body)
        if mutations is None and rng.random() < 0.02:
            request.declared = len(body) + 10
        elif mutations is None and rng.random() < 0.04:
            request.pieces, request.chunked = 4, True
        return request

    def protobuf(self):
        """A config map as kubectl writes it, mutated."""
        def field(number, content):
            return varint(number << 3 | 2) + varint(len(content)) + content

        rng, self.count = self.rng, self.count + 1
        kind = rng.choice((b"ConfigMap", b"Secret", b"Namespace", b"Pod", b"DeleteOptions", b"Nothing"))
        metadata = field(1, f"b{self.count}".encode()) + field(3, NAMESPACE.encode()) + field(11,
            field(1, b"a") + field(2, b"b"))
        raw = field(1, metadata) + field(2, field(1, b"k") + field(2, values.text(rng)[:5000].encode("utf-8", "replace")))
        body = b"k8s\0" + field(1, field(1, b"v1") + field(2, kind)) + field(2, raw)
        return values.mutate_bytes(rng, body) if rng.random() < 0.6 else body

    def headers(self, content=None):
        headers = [("Content-Type", content)] if content is not None else []
        if self.rng.random() < 0.15:
            headers.append(("Accept", self.rng.choice(ACCEPTS)))
        if self.rng.random() < 0.02:
            headers.append(("Authorization", self.rng.choice(("Bearer x", "Bearer", "", "Basic eDp5",
                f"Bearer {'x' * 9000}"))))
        return headers

    def get(self, kind, name):
        return Http("kubernetes", self.rng.choice(("GET", "GET", "HEAD")),
            self.path(kind, name) + self.query("pretty", "resourceVersion", probability=0.1), self.headers())

    def list(self, kind, name):
        query = self.query("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch",
            "includeObject")
        return Http("kubernetes", "GET", self.path(kind) + query, self.headers())

    def watch(self, kind, name):
        query = self.query("labelSelector", "fieldSelector", "resourceVersion", "sendInitialEvents", "allowWatchBookmarks",
            "resourceVersionMatch", "timeoutSeconds")
        return Http("kubernetes", "GET",
            f"{self.path(kind)}{query}{'&' if query else '?'}watch={self.rng.choice(('true', '1', 'x'))}", self.headers(),
            reads=0.1)

    def subresource(self, kind, name):
        rng, subresource = self.rng, self.rng.choice(SUBRESOURCES)
        path = self.path(kind, name, subresource)
        if subresource == "log":
            query = self.query("container", "previous", "tailLines", "limitBytes", "sinceSeconds", "sinceTime", "timestamps")
            return Http("kubernetes", "GET", path + query, self.headers(), reads=0.2)
        verb = rng.choice(("GET", "POST", "PUT", "DELETE"))
        if kind is NODES and verb != "GET":
            verb = "GET"
        made = {"apiVersion": "v1", "kind": rng.choice(("Eviction", "Scale", "TokenRequest", "Status")),
            "metadata": {"name": name}, "spec": {"replicas": 1}}
        if subresource == "binding":
            made["target"] = {"kind": "Node", "name": values.text(rng)[:100]}
        return self.written(verb, path, made) if verb in ("POST", "PUT") else Http("kubernetes", verb, path, self.headers(),
            reads=0.2)

    def delete(self, kind, name):
        rng = self.rng
        query = self.query("gracePeriodSeconds", "propagationPolicy", "dryRun", probability=0.2)
        if rng.random() < 0.05 and kind[1] not in ("namespaces", "customresourcedefinitions"):
            return Http("kubernetes", "DELETE", self.path(kind) + query + self.query("labelSelector",
                probability=0.9).replace("?", "&" if query else "?"), self.headers())
        if rng.random() < 0.5 or kind[1] == "customresourcedefinitions":
            return Http("kubernetes", "GET", self.path(kind, name), self.headers())
        made = {
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": rng.choice((0, 1)),
            "preconditions": {"uid": "x", "resourceVersion": "1"} if rng.random() < 0.3 else {},
            "propagationPolicy": rng.choice(PARAMETERS["propagationPolicy"]),
        }
        return self.written("DELETE", self.path(kind, name) + query, made)

    def other(self, kind, name):
        rng = self.rng
        path = rng.choice(OTHER_PATHS) if rng.random() < 0.7 else values.target(rng,
            ["api", "v1", *(values.text(rng)[:3000] for _ in range(rng.randrange(1, 5)))], 0.3)
        verb = rng.choice(("GET", "GET", "GET", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "FUZZ"))
        return Http("kubernetes", verb, path, self.headers(JSON if verb != "GET" else None), b"{}" if verb != "GET" else b"",
            reads=0.2)

    def learn(self, request, answer):
        if answer.status not in (200, 201) or not answer.content.startswith(b"{"):
            return
        found = answer.json()
        if not isinstance(found, dict) or not isinstance(metadata := found.get("metadata"), dict):
            return
        if token := metadata.get("continue"):
            self.tokens = [*self.tokens[-20:], token]
        if version := metadata.get("resourceVersion"):
            self.versions = [*self.versions[-40:], str(version)]
        plural = next((kind[1] for kind in (*KINDS, DEFINITIONS) if kind[2] == found.get("kind")), None)
        if plural and request.method in ("POST", "PUT", "PATCH") and metadata.get("name"):
            self.names.add(plural, metadata["name"])
            if metadata.get("uid"):
                if plural == "pods":
                    self.uids.add(metadata["uid"])
                owner = {"apiVersion": found.get("apiVersion"), "kind": found["kind"], "name": metadata["name"],
                    "uid": metadata["uid"]}
                self.names.add("uid", owner)
