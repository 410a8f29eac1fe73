"""The language of the tables: a case is a name and its steps, each of which asks once and says what is answered.

Paths are below the case's own namespace in the core group, unless they begin with `/`. Texts may name what earlier steps have
kept: `$uid`; `$ns` is the namespace.
"""

import dataclasses
import json
import re
import string
from contextlib import closing
from urllib.parse import quote

MEDIA = {
    "POST": "application/json",
    "PUT": "application/json",
    "DELETE": "application/json",
    "GET": "application/json",
    "JSON": "application/json-patch+json",
    "MERGE": "application/merge-patch+json",
    "STRATEGIC": "application/strategic-merge-patch+json",
    "APPLY": "application/apply-patch+yaml",
}
# What is not there, as opposed to null.
ABSENT = object()


@dataclasses.dataclass
class Keep:
    """Any value that is there, for later steps."""

    name: str


@dataclasses.dataclass
class Like:
    """A text that matches as a whole."""

    pattern: str


@dataclasses.dataclass
class Step:
    """`ask` is a method or a kind of patch, and a path; `has` names members of the answer by JSON pointers."""

    ask: str
    body: object = None
    code: int = 200
    has: dict = dataclasses.field(default_factory=dict)
    headers: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Watch:
    """Opens a watch and expects events: their types, and members of their objects by JSON pointers. The stream is ended by the
    server if `ends`."""

    path: str
    events: list
    ends: bool = False


@dataclasses.dataclass
class Case:
    name: str
    steps: list


def refused(code, reason, message, **has):
    """The end of a step that is answered with a `metav1.Status`."""
    return {"code": code, "has": {"/kind": "Status", "/code": code, "/reason": reason, "/message": message, **has}}


def configmap(name, **data):
    return {"metadata": {"name": name}, "data": data}


def pod(name, **spec):
    """A pod that no kubelet of these tests touches: it is on another node."""
    container = {"name": "main", "image": "none"}
    return {"metadata": {"name": name}, "spec": {"nodeName": "elsewhere", "containers": [container], **spec}}


def selected(**parameters):
    """A query string."""
    return "&".join(f"{key}={quote(value, safe='$')}" for key, value in parameters.items())


def at(value, pointer):
    """The member that a JSON pointer names (RFC 6901)."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        try:
            value = value[int(part) if isinstance(value, list) else part]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return value


class Run:
    """One run of one case."""

    def __init__(self, server, namespace):
        self.server, self.kept = server, {"ns": namespace}
        code, made = server.ask("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": namespace}}))
        assert code == 201, made

    def fill(self, value):
        """The value with what is kept in place of the names."""
        if isinstance(value, str):
            return string.Template(value).safe_substitute(self.kept)
        if isinstance(value, list):
            return [self.fill(member) for member in value]
        if isinstance(value, dict):
            return {key: self.fill(member) for key, member in value.items()}
        return value

    def path(self, path):
        path = self.fill(path)
        return path if path.startswith("/") else f"/api/v1/namespaces/{self.kept['ns']}/{path}"

    def step(self, step):
        if isinstance(step, Watch):
            return self.watch(step)
        method, _, path = step.ask.partition(" ")
        media, body = MEDIA[method], self.fill(step.body)
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        method = method if method in ("POST", "PUT", "DELETE", "GET") else "PATCH"
        headers = {"Content-Type": media, **step.headers}
        code, answer = self.server.ask(method, self.path(path), body, **headers)
        told = f"{step.ask}: {code} {json.dumps(answer)[:2000]}"
        assert code == step.code, told
        self.check(answer, step.has, told)

    def check(self, answer, has, told):
        for pointer, expected in has.items():
            found = at(answer, pointer) if pointer else answer
            if isinstance(expected, Keep):
                assert found is not ABSENT, f"{pointer}: nothing\n{told}"
                self.kept[expected.name] = found
            elif isinstance(expected, Like):
                pattern = self.fill(expected.pattern)
                assert isinstance(found, str) and re.fullmatch(pattern, found), f"{pointer}: {found!r}\n{told}"
            elif expected is ABSENT:
                assert found is ABSENT, f"{pointer}: {found!r}\n{told}"
            else:
                assert found == self.fill(expected), f"{pointer}: {found!r}, not {self.fill(expected)!r}\n{told}"

    def watch(self, step):
        connection, answer = self.server.open("GET", self.path(step.path))
        with closing(connection):
            assert answer.status == 200, answer.read()
            for kind, has in step.events:
                line = answer.readline()
                assert line, f"{step.path}: ended where {kind} was expected"
                event = json.loads(line)
                assert event["type"] == kind, f"{step.path}: {line.decode()[:2000]}, not {kind}"
                self.check(event["object"], has, f"{step.path}: {line.decode()[:2000]}")
            if step.ends:
                rest = answer.readline()
                assert not rest, f"{step.path}: {rest.decode()[:2000]} after the last event"
