"""Asks a Kubernetes API server what it makes of the objects in objects.yaml, and keeps its answers in answers.jsonl.

    record.py --apiserver FILE [--etcd FILE]        starts the two and asks them
    record.py --url URL --token TOKEN               asks one that runs; its namespace `default` is written to
    record.py --check                               asks nobody: whether the answers are those of today's table

`build.sh FOLDER` makes the API server.
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse

import table

ANSWERS = table.FOLDER / "answers.jsonl"
# What a server may take to start, and an object to go.
PATIENCE_SECONDS = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """An API server, asked with a token; its certificate is not looked at."""

    def __init__(self, url, token):
        self.address = urllib.parse.urlparse(url)
        self.token = token

    def ask(self, method, path, body=None, media="application/json"):
        """The code and the JSON of an answer."""
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(self.address.netloc, context=context, timeout=30)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": media, "Accept": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        try:
            return answer.status, json.loads(text)
        except json.JSONDecodeError:
            return answer.status, text

    def until(self, what, condition):
        """Asks again until the condition holds. A server that starts cannot be waited for otherwise."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return
            assert time.monotonic() < end, f"{what}: not within {PATIENCE_SECONDS} s"
            time.sleep(0.1)


@contextlib.contextmanager
def started(apiserver, etcd):
    """An API server with its own etcd. The plugin that asks for service accounts is off, since no controller makes them."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        store, peer, port = free_port(), free_port(), free_port()
        subprocess.run(["openssl", "genrsa", "-out", folder / "key.pem", "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text('token,admin,1,"system:masters"\n')

        def run(*command):
            log = stack.enter_context((folder / f"{pathlib.Path(command[0]).name}.log").open("w"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        run(
            etcd, "--data-dir", str(folder / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{store}",
            "--advertise-client-urls", f"http://127.0.0.1:{store}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
        )  # fmt: skip
        run(
            apiserver, "--etcd-servers", f"http://127.0.0.1:{store}", "--secure-port", str(port),
            "--bind-address", "127.0.0.1", "--cert-dir", str(folder / "certificates"),
            "--token-auth-file", str(folder / "tokens.csv"), "--authorization-mode", "RBAC",
            "--service-account-issuer", "https://example.org", "--service-account-key-file", str(folder / "key.pem"),
            "--service-account-signing-key-file", str(folder / "key.pem"), "--service-cluster-ip-range", "10.0.0.0/24",
            "--disable-admission-plugins", "ServiceAccount", "--allow-privileged",
        )  # fmt: skip
        server = Server(f"https://127.0.0.1:{port}", "token")
        try:
            server.until("the API server is ready", lambda: server.ask("GET", "/readyz")[0] == 200)
            server.until(
                "there is a default namespace", lambda: server.ask("GET", "/api/v1/namespaces/default")[0] == 200
            )
            yield server
        except AssertionError:
            sys.stderr.write((folder / "kube-apiserver.log").read_text()[-4000:])
            raise


def is_established(definition):
    conditions = definition.get("status", {}).get("conditions", [])
    return {"Established": "True"}.items() <= {each["type"]: each["status"] for each in conditions}.items()


def judge(server, request):
    """What the server says to one case."""
    body = request.get("text")
    if body is None and "body" in request:
        body = json.dumps(request["body"])
    first = request.get("first")
    if first:
        server.until(f"{first['at']} is gone", lambda: server.ask("GET", first["at"])[0] == 404)
        code, made = server.ask("POST", first["path"], json.dumps(first["body"]))
        assert code == 201, (first, made)
        if made["kind"] == "CustomResourceDefinition":
            # What may change of a definition depends on whether it is in force.
            server.until(f"{first['at']} is in force", lambda: is_established(server.ask("GET", first["at"])[1]))
    if "change" in request:
        code, current = server.ask("GET", first["at"])
        assert code == 200, current
        body = json.dumps(table.apply(current, request["change"]))
    code, answer = server.ask(request["method"], request["path"], body, request["type"])
    if first:
        server.ask("DELETE", first["at"] + "?gracePeriodSeconds=0")
        # Controllers that would take their finalizers away do not run.
        server.ask("PATCH", first["at"], '{"metadata": {"finalizers": null}}', table.MEDIA["merge"])
    if code < 300:
        return {"code": code}
    if isinstance(answer, str):
        # Not all refusals are a `metav1.Status`.
        return {"code": code, "reason": "", "fields": [], "message": answer.strip()}
    details = answer.get("details") or {}
    fields = sorted({cause.get("field", "") for cause in details.get("causes", [])})
    return {"code": code, "reason": answer.get("reason", ""), "fields": fields, "message": answer["message"]}


def record(server):
    setup, cases = table.read()
    for made in setup:
        code, answer = server.ask("POST", made["at"], json.dumps(made["object"]))
        assert code in (201, 409), answer
        server.until(made["await"], lambda: server.ask("GET", made["await"])[0] == 200)
    with ANSWERS.open("w") as answers:
        for made in setup:
            answers.write(json.dumps({"setup": made}) + "\n")
        for case in cases:
            answers.write(json.dumps({**case, "answer": judge(server, case["request"])}, ensure_ascii=False) + "\n")
    print(f"{len(cases)} answers in {ANSWERS}")


def check():
    """Says what of the table has no answer of its own."""
    setup, cases = table.read()
    lines = [json.loads(line) for line in ANSWERS.read_text().splitlines()]
    answered = [{key: value for key, value in line.items() if key != "answer"} for line in lines]
    asked = [{"setup": made} for made in setup] + cases
    missing = [case for case in asked if case not in answered] + [case for case in answered if case not in asked]
    for case in missing:
        print(f"objects.yaml and answers.jsonl differ: {case.get('case', case)}", file=sys.stderr)
    return not missing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apiserver")
    parser.add_argument("--etcd", default="etcd")
    parser.add_argument("--url")
    parser.add_argument("--token", default="")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.check:
        sys.exit(0 if check() else 1)
    if given.url:
        record(Server(given.url, given.token))
    elif given.apiserver:
        with started(given.apiserver, given.etcd) as server:
            record(server)
    else:
        parser.error("one of --apiserver, --url and --check is needed")


if __name__ == "__main__":
    main()
