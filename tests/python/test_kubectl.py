"""Stock kubectl against the embedded Kubernetes API."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAMESPACE, eventually


POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "by-hand", "namespace": NAMESPACE, "labels": {"made": "by-hand"}},
    "spec": {
        "restartPolicy": "Never",
        "containers": [{
            "name": "main", "image": "none", "command": ["/bin/sh", "-c", "echo first; echo second"],
            "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}},
        }],
    },
}

WATCHED = {
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "watched", "namespace": NAMESPACE}, "data": {"a": "b"},
}


@pytest.mark.kubernetes
def test_kubectl_sees_namespaces_nodes_and_definitions(kubectl):
    assert NAMESPACE in kubectl("get", "namespaces")
    assert "Ready" in kubectl("get", "nodes")
    assert "flyteworkflows.flyte.lyft.com" in kubectl("get", "customresourcedefinitions")
    assert "Server Version" in kubectl("version")


@pytest.mark.kubernetes
def test_kubectl_runs_describes_logs_and_deletes_a_pod(kubectl):
    kubectl("apply", "--filename", "-", text_in=json.dumps(POD))
    kubectl("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s", "pod/by-hand")
    assert "Completed" in kubectl("get", "pods", "--namespace", NAMESPACE, "--selector", "made=by-hand")
    assert "by-hand" in kubectl("describe", "pod", "by-hand", "--namespace", NAMESPACE)
    assert kubectl("logs", "by-hand", "--namespace", NAMESPACE) == "first\nsecond\n"
    assert kubectl("logs", "by-hand", "--tail=1", "--namespace", NAMESPACE) == "second\n"
    kubectl("delete", "pod", "by-hand", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")
    assert "by-hand" not in kubectl("get", "pods", "--namespace", NAMESPACE, "--output", "name")


@pytest.mark.kubernetes
def test_kubectl_follows_a_log_to_its_end(backend, kubectl, tmp_path):
    pod = json.loads(json.dumps(POD))
    pod["metadata"] |= {"name": "talks", "labels": {"made": "to-talk"}}
    script = f"echo first; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo second"
    pod["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", script]
    kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
    kubectl("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Running", "--timeout=30s", "pod/talks")
    follow = subprocess.Popen(
        [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", backend.kubeconfig, "logs", "--follow", "talks",
         "--namespace", NAMESPACE],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        assert follow.stdout.readline() == "first\n"
        (tmp_path / "go").touch()
        assert follow.stdout.read() == "second\n"
        assert follow.wait(timeout=30) == 0
    finally:
        follow.kill()
        follow.wait()
        follow.stdout.close()
    kubectl("delete", "pod", "talks", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")


@pytest.mark.kubernetes
def test_kubectl_shows_the_log_of_the_container_before(kubectl):
    pod = json.loads(json.dumps(POD))
    pod["metadata"] |= {"name": "again", "labels": {"made": "again"}}
    pod["spec"]["restartPolicy"] = "OnFailure"
    script = "if [ -e once ]; then echo second; else touch once; echo first; exit 3; fi"
    pod["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", script]
    kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
    kubectl("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "pod/again")
    assert kubectl("logs", "again", "--namespace", NAMESPACE) == "second\n"
    assert kubectl("logs", "--previous", "again", "--namespace", NAMESPACE) == "first\n"
    kubectl("delete", "pod", "again", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("configmap", ("--from-literal=mode=fast",)),
        ("secret", ("--from-literal=key=value",)),
        ("serviceaccount", ()),
    ],
)
def test_kubectl_creates_by_flags(kubectl, kind, arguments):
    words = (kind, "generic") if kind == "secret" else (kind,)
    kubectl("create", *words, "by-flags", "--namespace", NAMESPACE, *arguments)
    assert f"{kind}/by-flags" in kubectl("get", kind, "by-flags", "--namespace", NAMESPACE, "--output", "name")
    kubectl("delete", kind, "by-flags", "--namespace", NAMESPACE)


@pytest.mark.kubernetes
def test_kubectl_tells_why_a_pod_waits(kubectl):
    pod = json.loads(json.dumps(POD))
    pod["metadata"] |= {"name": "too-large", "labels": {"made": "too-large"}}
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "4000", "memory": "10Mi"}}
    kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
    about = ("--namespace", NAMESPACE, "--field-selector", "involvedObject.name=too-large")
    eventually(lambda: "FailedScheduling" in kubectl("get", "events", *about), "an event")
    described = kubectl("describe", "pod", "too-large", "--namespace", NAMESPACE)
    assert "FailedScheduling" in described and "default-scheduler" in described
    assert "requested cpu 4000 and memory 10Mi, available cpu" in described
    listed = kubectl("get", "events", *about)
    assert "Warning" in listed and "FailedScheduling" in listed and "pod/too-large" in listed
    modern = kubectl("get", "events.events.k8s.io", "--namespace", NAMESPACE, "--field-selector", "regarding.name=too-large",
                     "--output", "jsonpath={.items[*].reason}")
    assert modern == "FailedScheduling"
    kubectl("delete", "pod", "too-large", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")


@pytest.mark.parametrize(
    ("kind", "patch", "expected"),
    [
        ("merge", {"data": {"b": "c"}}, {"a": "b", "b": "c"}),
        ("json", [{"op": "remove", "path": "/data/a"}], None),
        ("strategic", {"data": {"a": "d"}}, {"a": "d"}),
    ],
)
def test_kubectl_patches(kubectl, kind, patch, expected):
    name = f"patched-{kind}"
    changed = json.loads(json.dumps(WATCHED))
    changed["metadata"]["name"] = name
    kubectl("apply", "--server-side", "--filename", "-", text_in=json.dumps(changed))
    kubectl("patch", "configmap", name, "--namespace", NAMESPACE, "--type", kind, "--patch", json.dumps(patch))
    found = json.loads(kubectl("get", "configmap", name, "--namespace", NAMESPACE, "--output", "json"))
    assert found.get("data") in (expected, expected or {})
    kubectl("delete", "configmap", name, "--namespace", NAMESPACE)


@pytest.mark.kubernetes
def test_kubectl_watches(backend, kubectl):
    watch = subprocess.Popen(
        [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", backend.kubeconfig, "get", "configmaps",
         "--namespace", NAMESPACE, "--watch", "--output", "name"],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        kubectl("apply", "--filename", "-", text_in=json.dumps(WATCHED))
        lines = iter(watch.stdout.readline, "")
        assert any(line.strip() == "configmap/watched" for line in lines)
    finally:
        watch.kill()
        watch.wait()
        watch.stdout.close()
    kubectl("delete", "configmap", "watched", "--namespace", NAMESPACE)


@pytest.mark.kubernetes
def test_kubectl_lists_workflows(kubectl, launch, finish):
    name = finish(launch("chain")).id.name
    listed = eventually(lambda: kubectl("get", "flyteworkflows", "--namespace", NAMESPACE, "--output", "name"), "a list")
    assert f"flyteworkflow.flyte.lyft.com/{name}" in listed


@pytest.mark.kubernetes
def test_kubectl_asks_what_it_may_do(kubectl):
    assert kubectl("auth", "can-i", "create", "pods", "--namespace", NAMESPACE).strip() == "yes"


def refused(backend, *arguments, text_in=None):
    """What kubectl says when the API refuses."""
    answer = subprocess.run(
        [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", backend.kubeconfig, *arguments],
        input=text_in, capture_output=True, text=True, timeout=60,
    )
    assert answer.returncode != 0, answer.stdout
    return answer.stderr


def test_a_manifest_with_a_number_for_a_text_is_refused_by_its_field(backend, kubectl):
    pod = json.loads(json.dumps(POD))
    pod["metadata"]["name"] = "wrong"
    pod["spec"]["containers"][0]["env"] = [{"name": "PORT", "value": 8080}]
    told = refused(backend, "create", "--validate=false", "--filename", "-", text_in=json.dumps(pod))
    assert "spec.containers[0].env[0].value" in told
    pod["spec"]["containers"][0]["env"] = [{"name": "A=B", "value": "x"}]
    told = refused(backend, "create", "--filename", "-", text_in=json.dumps(pod))
    assert "printable ASCII" in told
    assert "wrong" not in kubectl("get", "pods", "--namespace", NAMESPACE, "--output", "name")


def test_what_nothing_would_run_is_refused_with_a_sentence(backend):
    told = refused(backend, "create", "job", "j", "--image", "i", "--namespace", NAMESPACE)
    assert "Jobs are not run by the embedded Kubernetes API" in told
    told = refused(backend, "create", "deployment", "d", "--image", "i", "--namespace", NAMESPACE)
    assert "Deployments are not run" in told


@pytest.mark.kubernetes
def test_a_node_is_drained_and_takes_pods_again(kubectl):
    node = kubectl("get", "nodes", "--output", "jsonpath={.items[0].metadata.name}")
    pod = json.loads(json.dumps(POD))
    pod["metadata"] |= {"name": "drained", "labels": {"made": "drained"}}
    pod["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "sleep 600"]
    pod["spec"]["terminationGracePeriodSeconds"] = 1
    kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
    kubectl("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Running", "--timeout=30s", "pod/drained")
    try:
        kubectl("drain", node, "--pod-selector", "made=drained", "--force", "--timeout=30s")
        assert "drained" not in kubectl("get", "pods", "--namespace", NAMESPACE, "--output", "name")
        assert "SchedulingDisabled" in kubectl("get", "nodes")
        pod["metadata"]["name"] = "later"
        pod["spec"]["containers"][0]["command"] = ["/bin/true"]
        kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
        about = ("--namespace", NAMESPACE, "--field-selector", "involvedObject.name=later")
        eventually(lambda: "were unschedulable" in kubectl("get", "events", *about), "an event")
    finally:
        kubectl("uncordon", node)
    kubectl("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s", "pod/later")
    kubectl("delete", "pod", "later", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")


@pytest.mark.kubernetes
def test_kubectl_shows_when_lines_were_written(kubectl):
    pod = json.loads(json.dumps(POD))
    pod["metadata"] |= {"name": "timed", "labels": {"made": "timed"}}
    kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
    kubectl("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s", "pod/timed")
    lines = kubectl("logs", "timed", "--timestamps", "--namespace", NAMESPACE).splitlines()
    assert [line.split(" ")[1] for line in lines] == ["first", "second"]
    started = kubectl("get", "pod", "timed", "--namespace", NAMESPACE, "--output", "jsonpath={.status.startTime}")
    assert kubectl("logs", "timed", f"--since-time={started}", "--namespace", NAMESPACE) == "first\nsecond\n"
    assert kubectl("logs", "timed", "--since-time=2100-01-01T00:00:00Z", "--namespace", NAMESPACE) == ""
    assert kubectl("logs", "timed", "--since=1h", "--tail=1", "--namespace", NAMESPACE) == "second\n"
    kubectl("delete", "pod", "timed", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")


@pytest.mark.kubernetes
def test_kubectl_waits_until_a_pod_is_ready(kubectl):
    pod = json.loads(json.dumps(POD))
    pod["metadata"] |= {"name": "probed", "labels": {"made": "probed"}}
    pod["spec"]["terminationGracePeriodSeconds"] = 1
    pod["spec"]["containers"][0] |= {
        "command": ["/bin/sh", "-c", "touch ready; sleep 600"],
        "readinessProbe": {"exec": {"command": ["test", "-e", "ready"]}, "periodSeconds": 1},
    }
    kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
    kubectl("wait", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=30s", "pod/probed")
    assert "exec [test -e ready]" in kubectl("describe", "pod", "probed", "--namespace", NAMESPACE)
    kubectl("delete", "pod", "probed", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")


def test_kubectl_debug_is_refused_with_a_sentence(backend, kubectl):
    pod = json.loads(json.dumps(POD))
    pod["metadata"] |= {"name": "debugged", "labels": {"made": "debugged"}}
    kubectl("apply", "--filename", "-", text_in=json.dumps(pod))
    why = refused(backend, "debug", "debugged", "--image", "busybox", "--namespace", NAMESPACE)
    assert "ephemeral containers cannot be added" in why
    kubectl("delete", "pod", "debugged", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")


def test_kubectl_explains_kinds_and_checks_objects_by_their_schema(backend, kubectl):
    assert "nodeSelector" in kubectl("explain", "pod.spec")
    assert "initialDelaySeconds" in kubectl("explain", "pods.spec.containers.readinessProbe")
    assert "storedVersions" in kubectl("explain", "crd.status")
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "books.library.example"},
        "spec": {
            "group": "library.example", "scope": "Namespaced", "names": {"kind": "Book", "plural": "books"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "required": ["title"], "properties": {
                    "title": {"type": "string", "description": "What is on the cover."},
                    "pages": {"type": "integer", "minimum": 1, "default": 100},
                }}},
            }}}],
        },
    }
    kubectl("apply", "--filename", "-", text_in=json.dumps(definition))
    try:
        eventually(lambda: "What is on the cover." in kubectl("explain", "books.spec.title"), "an explanation")
        book = {
            "apiVersion": "library.example/v1", "kind": "Book", "metadata": {"name": "one", "namespace": NAMESPACE},
            "spec": {"title": "One"},
        }
        kubectl("apply", "--filename", "-", text_in=json.dumps(book))
        pages = kubectl("get", "book", "one", "--namespace", NAMESPACE, "--output", "jsonpath={.spec.pages}")
        assert pages == "100"
        book["spec"] |= {"tilte": "Two"}
        assert 'unknown field "spec.tilte"' in refused(backend, "apply", "--filename", "-", text_in=json.dumps(book))
        del book["spec"]["tilte"]
        book["spec"]["pages"] = 0
        why = refused(backend, "apply", "--filename", "-", text_in=json.dumps(book))
        assert "spec.pages in body should be greater than or equal to 1" in why
    finally:
        kubectl("delete", "crd", "books.library.example")
