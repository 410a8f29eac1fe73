"""Custom resources: what their definitions decide of the API's behaviour."""

from .steps import ABSENT, Case, Keep, Like, Step, Watch, refused, selected

BOOKS = "/apis/library.example/v1/namespaces/$ns/books"
SCHEMA = {
    "type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "title": {"type": "string", "maxLength": 5}, "pages": {"type": "integer", "default": 1},
            "tags": {"type": "array", "items": {"type": "string"}},
        }, "required": ["title"]},
        "status": {"type": "object", "properties": {"lent": {"type": "boolean"}}},
    },
}  # fmt: skip
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "books.library.example"},
    "spec": {
        "group": "library.example", "scope": "Namespaced", "names": {"kind": "Book", "plural": "books", "singular": "book"},
        "versions": [{
            "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}, "subresources": {"status": {}},
        }],
    },
}  # fmt: skip


def book(name="a", **spec):
    return {"apiVersion": "library.example/v1", "kind": "Book", "metadata": {"name": name}, "spec": {"title": "T", **spec}}


CREATED = Step(f"POST {BOOKS}", book(), 201, {
    "/metadata/generation": 1, "/spec": {"title": "T", "pages": 1}, "/metadata/resourceVersion": Keep("first"),
    "/metadata/uid": Keep("uid"),
})  # fmt: skip

CASES = [
    Case("generations count changes of the specification", [
        CREATED,
        Step(f"MERGE {BOOKS}/a", {"spec": {"pages": 2}}, 200, {"/metadata/generation": 2}),
        Step(f"MERGE {BOOKS}/a", {"metadata": {"labels": {"a": "b"}}}, 200, {"/metadata/generation": 2}),
        Step(f"MERGE {BOOKS}/a", {"status": {"lent": True}}, 200, {"/metadata/generation": 2, "/status": ABSENT}),
        Step(f"MERGE {BOOKS}/a/status", {"status": {"lent": True}, "spec": {"pages": 9}}, 200, {
            "/metadata/generation": 2, "/status": {"lent": True}, "/spec/pages": 2,
        }),
        Step(f"GET {BOOKS}/a", None, 200, {"/status": {"lent": True}}),
    ]),
    Case("a custom resource is replaced by its version alone", [
        CREATED,
        Step(f"PUT {BOOKS}/a", book(), **refused(
            422, "Invalid", 'books.library.example "a" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified '
            "for an update")),
        Step(f"DELETE {BOOKS}/a", None, 200, {
            "/kind": "Status", "/details": {"name": "a", "group": "library.example", "kind": "books", "uid": "$uid"},
        }),
        Step(f"GET {BOOKS}/a", None, **refused(404, "NotFound", 'books.library.example "a" not found')),
    ]),
    Case("what a schema says", [
        Step(f"POST {BOOKS}", book(title="Too long"), **refused(
            422, "Invalid", 'Book.library.example "a" is invalid: spec.title: Too long: may not be more than 5 bytes')),
        Step(f"POST {BOOKS}", book(pages="many"), **refused(
            422, "Invalid", 'Book.library.example "a" is invalid: spec.pages: Invalid value: "string": spec.pages in body must be '
            'of type integer: "string"')),
        Step(f"POST {BOOKS}", book(pagse=1), 201, {"/spec": {"title": "T", "pages": 1}}),
        Step(f"POST {BOOKS}?fieldValidation=Strict", book("b", pagse=1), **refused(
            400, "BadRequest", 'Book in version "v1" cannot be handled as a Book: strict decoding error: unknown field "spec.pagse"')),
    ]),
    Case("patches of custom resources", [
        CREATED,
        Step(f"STRATEGIC {BOOKS}/a", {}, **refused(
            415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")),
        Step(f"MERGE {BOOKS}/a", {"spec": {"tags": ["x"]}}, 200, {"/spec/tags": ["x"]}),
        Step(f"MERGE {BOOKS}/a", {"spec": {"tags": ["y"]}}, 200, {"/spec/tags": ["y"]}),
        Step(f"JSON {BOOKS}/a", [{"op": "add", "path": "/spec/tags/-", "value": "z"}], 200, {"/spec/tags": ["y", "z"]}),
    ]),
    Case("custom resources are chosen and watched", [
        CREATED,
        Step(f"GET {BOOKS}?{selected(fieldSelector='metadata.name=a')}", None, 200, {"/items/0/metadata/name": "a"}),
        Step(f"GET {BOOKS}?{selected(fieldSelector='spec.title=T')}", None, **refused(
            400, "BadRequest", "field label not supported: spec.title")),
        Step(f"MERGE {BOOKS}/a", {"spec": {"pages": 2}}, 200),
        Watch(f"{BOOKS}?watch=true&resourceVersion=$first&timeoutSeconds=1", [
            ("MODIFIED", {"/kind": "Book", "/spec/pages": 2}),
        ], ends=True),
        Step(f"GET {BOOKS}?limit=1", None, 200, {"/kind": "BookList", "/apiVersion": "library.example/v1"}),
        # Not the words of other paths that are not there.
        Step(f"GET {BOOKS}/a/scale", None, **refused(404, "NotFound", 'books.library.example "a" not found')),
    ]),
]  # fmt: skip
