"""Pods for the Kubernetes lane. They are mutated as any object and then run, so that what would harm this machine is put back:
the programs that they start and the places where they mount something. What stays of them is looked for at the end.
"""

import copy
import posixpath
import shutil
import tempfile
from pathlib import Path

from . import values

# Mount points are made on this machine, and only below this.
SCRATCH = "/tmp/fuzz-v"
# What may be mounted over besides: a pod has mounts of its own.
PLACES = ("/", "/proc", "/tmp", "/usr/bin", SCRATCH)
# What containers, probes and hooks run: whatever arguments come behind, it ends by itself within a minute, and a container also ends
# badly, late, by nothing but SIGKILL, or leaving somebody behind.
PROGRAMS = (
    ["/bin/true"], ["/bin/true"], ["/bin/true"], ["/bin/false"], ["/nothing/there"],
    *(["/bin/sh", "-c", script] for script in (
        "echo out; echo err >&2", "exit 3", "sleep 0.3", "sleep 40", "trap '' TERM; sleep 40", "sleep 40 & exit 0",
        "kill -9 $$$$",
    )),
)  # fmt: skip
PLAIN = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none", "command": ["/bin/true"]}]}
CONTAINER = {
    "name": "c", "image": "none", "command": ["/bin/true"], "args": ["a"], "env": [{"name": "A", "value": "b"}],
    "resources": {"requests": {"cpu": "10m", "memory": "5Mi"}, "limits": {"cpu": "1", "memory": "50Mi"}},
    "volumeMounts": [{"name": "v", "mountPath": SCRATCH}], "ports": [{"containerPort": 80}],
}  # fmt: skip
EXEC, PORT = {"exec": {"command": ["/bin/true"]}}, {"tcpSocket": {"port": 80}}
# What a container may have besides, and what a pod may.
OF_CONTAINER = (
    {"env": [{"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "Q", "value": "$(P)-$(A)-$$(P)"}]},
    {"env": [{"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}]},
    {"env": [{"name": "M", "valueFrom": {"configMapKeyRef": {"name": "f1", "key": "a", "optional": True}}}]},
    {"envFrom": [{"prefix": "X_", "configMapRef": {"name": "f1", "optional": True}}, {"secretRef": {"name": "f2"}}]},
    {"livenessProbe": {**EXEC, "periodSeconds": 1, "failureThreshold": 1}, "readinessProbe": {**PORT, "periodSeconds": 1}},
    {"startupProbe": {"httpGet": {"port": 80, "path": "/", "httpHeaders": [{"name": "A", "value": "b"}]}, "periodSeconds": 1}},
    {"lifecycle": {"postStart": EXEC, "preStop": EXEC}},
    {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}},
    {"terminationMessagePath": f"{SCRATCH}/message", "terminationMessagePolicy": "FallbackToLogsOnError"},
    {"workingDir": "/tmp"},
    {"volumeMounts": [{"name": "v", "mountPath": f"{SCRATCH}/b", "subPath": "x/y"}, {"name": "m", "mountPath": f"{SCRATCH}/m",
        "readOnly": True}]},
    {"resources": {"limits": {"memory": "1Mi"}}},
    {"securityContext": {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}}},
)  # fmt: skip
OF_POD = (
    {"restartPolicy": "Always"},
    {"restartPolicy": "OnFailure"},
    {"activeDeadlineSeconds": 1},
    {"schedulingGates": [{"name": "a"}, {"name": "b"}]},
    {"nodeSelector": {"a": "c"}},
    {"initContainers": [{"name": "i", "image": "none", "command": ["/bin/true"]}]},
    {"initContainers": [{"name": "s", "image": "none", "command": ["/bin/true"], "restartPolicy": "Always", "startupProbe": EXEC}]},
    {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "configMap": {"name": "f1", "optional": True, "defaultMode": 0o400}}]},
    {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "m", "projected": {"sources": [
        {"secret": {"name": "f2", "optional": True}}, {"configMap": {"name": "f1", "items": [{"key": "a", "path": "b/c"}]}},
        {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.annotations"}}]}},
    ]}}]},
    {"hostNetwork": True, "hostname": "h", "subdomain": "s"},
    {"securityContext": {"runAsNonRoot": True, "fsGroup": 1}},
)  # fmt: skip
FIELDS = (
    "command", "args", "env", "envFrom", "value", "valueFrom", "fieldRef", "restartPolicy", "resources", "requests", "limits",
    "volumeMounts", "mountPath", "subPath", "subPathExpr", "readOnly", "emptyDir", "configMap", "secret", "items", "path",
    "livenessProbe", "startupProbe", "lifecycle", "preStop", "exec", "httpGet", "port", "periodSeconds", "timeoutSeconds",
    "activeDeadlineSeconds", "terminationGracePeriodSeconds", "terminationMessagePath", "schedulingGates", "nodeSelector",
    "tolerations", "workingDir", "optional", "defaultMode",
)  # fmt: skip


def spec(rng):
    """A pod that may run, and now and then has something special."""
    made = {
        "containers": [copy.deepcopy(CONTAINER)], "volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {}}],
        "restartPolicy": "Never", "tolerations": [{"key": "a", "operator": "Exists"}], "nodeSelector": {"a": "b"},
        "terminationGracePeriodSeconds": rng.choice((0, 1, 2)),
    }  # fmt: skip
    for _ in range(rng.choice((0, 0, 1, 2))):
        made.update(copy.deepcopy(rng.choice(OF_POD)))
    if rng.random() < 0.2:
        made["containers"].append({**copy.deepcopy(CONTAINER), "name": "d"})
    for container in made["containers"]:
        for _ in range(rng.choice((0, 1, 2))):
            container.update(copy.deepcopy(rng.choice(OF_CONTAINER)))
    return made


def tame(rng, tree, key=None):
    """The tree of a pod as it may run on this machine."""
    if isinstance(tree, values.Twice):
        return values.Twice(tree.key, [tame(rng, each, key) for each in tree.values])
    if isinstance(tree, list):
        return [tame(rng, each, key) for each in tree]
    if isinstance(tree, str) and key in ("mountPath", "terminationMessagePath"):
        place = posixpath.normpath(posixpath.join("/", tree.partition("\0")[0]))
        return tree if place in PLACES or place.startswith(f"{SCRATCH}/") else f"{SCRATCH}/{len(tree)}"
    if not isinstance(tree, dict):
        return tree
    tamed = {name: tame(rng, value, name) for name, value in tree.items() if name != "hostPath"}
    is_container = key in ("containers", "initContainers", "ephemeralContainers")
    if is_container or "command" in tamed:
        # Without a program, the first argument would be one.
        tamed["command"] = list(rng.choice(PROGRAMS))
    return tamed


def leftovers(backend, uids):
    """What is there of pods that are gone: folders, records, processes, mounts."""
    node = backend.folder / "data" / "node"
    found = [str(path) for name in ("pods", "records") for path in (node / name).iterdir()]
    for uid in uids:
        name = "fl-" + "".join(letter for letter in uid if letter.isalnum())[:12]
        found += [str(base / name) for base in {Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")} if (base / name).exists()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        # Every container is told where the blobs of its platform are; a supervisor, the folder of its pod.
        if f"FLYTE_AWS_ENDPOINT={backend.s3}\0".encode() in environment or f"{node}/pods/".encode() in command:
            found.append(f"process {process.name}: {command!r:.200}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return found + [mount for mount in mounts if str(node) in mount or SCRATCH in mount]


def forget_scratch():
    """Takes away the mount points that pods left, as the ones of an image go with its container."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
