"""Stock kubectl, boto3 and s3fs against the embedded platform."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import s3fs
from botocore.exceptions import ClientError
from conftest import NAMESPACE, eventually

KEYS = {"aws_access_key_id": "minio", "aws_secret_access_key": "miniostorage", "region_name": "us-east-1"}


@pytest.fixture(scope="session")
def kubectl(backend):
    def run(*arguments, text_in=None):
        answer = subprocess.run(
            [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", backend.kubeconfig, *arguments],
            input=text_in, capture_output=True, text=True, timeout=60,
        )
        assert answer.returncode == 0, f"kubectl {arguments}: {answer.stdout}{answer.stderr}"
        return answer.stdout

    return run


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


def test_kubectl_sees_namespaces_nodes_and_definitions(kubectl):
    assert NAMESPACE in kubectl("get", "namespaces")
    assert "Ready" in kubectl("get", "nodes")
    assert "flyteworkflows.flyte.lyft.com" in kubectl("get", "customresourcedefinitions")
    assert "Server Version" in kubectl("version")


def test_kubectl_runs_describes_logs_and_deletes_a_pod(kubectl):
    kubectl("apply", "--filename", "-", text_in=json.dumps(POD))
    kubectl("wait", "--namespace", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s", "pod/by-hand")
    assert "Completed" in kubectl("get", "pods", "--namespace", NAMESPACE, "--selector", "made=by-hand")
    assert "by-hand" in kubectl("describe", "pod", "by-hand", "--namespace", NAMESPACE)
    assert kubectl("logs", "by-hand", "--namespace", NAMESPACE) == "first\nsecond\n"
    assert kubectl("logs", "by-hand", "--tail=1", "--namespace", NAMESPACE) == "second\n"
    kubectl("delete", "pod", "by-hand", "--namespace", NAMESPACE, "--wait=true", "--timeout=30s")
    assert "by-hand" not in kubectl("get", "pods", "--namespace", NAMESPACE, "--output", "name")


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


def test_kubectl_lists_workflows(kubectl, launch, finish):
    name = finish(launch("chain")).id.name
    listed = eventually(lambda: kubectl("get", "flyteworkflows", "--namespace", NAMESPACE, "--output", "name"), "a list")
    assert f"flyteworkflow.flyte.lyft.com/{name}" in listed


def test_boto3_works_with_the_bucket(backend):
    client = boto3.client("s3", endpoint_url=backend.s3, **KEYS)
    client.put_object(Bucket="my-s3-bucket", Key="boto/a b", Body=b"x" * 1000, Metadata={"k": "v"}, ContentType="text/plain")
    head = client.head_object(Bucket="my-s3-bucket", Key="boto/a b")
    assert (head["ContentLength"], head["Metadata"], head["ContentType"]) == (1000, {"k": "v"}, "text/plain")
    assert client.get_object(Bucket="my-s3-bucket", Key="boto/a b", Range="bytes=10-19")["Body"].read() == b"x" * 10
    listed = client.list_objects_v2(Bucket="my-s3-bucket", Prefix="boto/")
    assert [entry["Key"] for entry in listed["Contents"]] == ["boto/a b"]
    client.delete_object(Bucket="my-s3-bucket", Key="boto/a b")
    wrong = boto3.client("s3", endpoint_url=backend.s3, **{**KEYS, "aws_secret_access_key": "wrong"})
    with pytest.raises(ClientError) as refused:
        wrong.list_objects_v2(Bucket="my-s3-bucket")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_s3fs_lists_trees(backend):
    files = s3fs.S3FileSystem(
        key="minio", secret="miniostorage", endpoint_url=backend.s3, client_kwargs={"region_name": "us-east-1"},
        skip_instance_cache=True, use_listings_cache=False,
    )
    for name in ("tree/a", "tree/a/b", "tree/c/d/e"):
        with files.open(f"my-s3-bucket/{name}", "wb") as target:
            target.write(name.encode())
    assert sorted(files.find("my-s3-bucket/tree/")) == [
        "my-s3-bucket/tree/a", "my-s3-bucket/tree/a/b", "my-s3-bucket/tree/c/d/e",
    ]
    assert files.cat("my-s3-bucket/tree/a/b") == b"tree/a/b"
    files.rm("my-s3-bucket/tree", recursive=True)
    assert files.find("my-s3-bucket/tree/") == []
