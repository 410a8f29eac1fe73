"""A real kube-apiserver with an etcd of its own, for as long as a test run; no container engine.

    with apiserver.running(PROGRAMS, FOLDER) as server: ...

PROGRAMS is the folder that `build.sh` filled. Controllers do not run: nobody collects what lost its owner or ends namespaces.
"""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse
import urllib.request

# What a server may take to start, and an object to go.
PATIENCE_SECONDS = 60
PR_SET_PDEATHSIG = 1


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def dies_with(parent):
    """For `preexec_fn`: the child is told to end when this process is gone, however that ended (Linux)."""

    def ask():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask


class Server:
    """An API server, asked with a token. Without the file of its authority, its certificate is not looked at."""

    def __init__(self, url, token, authority=None, kubeconfig=None, etcd=None):
        self.url, self.token, self.kubeconfig, self.etcd = url, token, kubeconfig, etcd
        self.address = urllib.parse.urlparse(url)
        self.context = ssl.create_default_context(cafile=authority) if authority else ssl._create_unverified_context()

    def connection(self):
        """A connection, for one request after the other."""
        return http.client.HTTPSConnection(self.address.netloc, context=self.context, timeout=30)

    def headers(self, media):
        return {"Authorization": f"Bearer {self.token}", "Content-Type": media, "Accept": "application/json"}

    def open(self, method, path, body=None, media="application/json", **headers):
        """A connection and its answer, unread."""
        connection = self.connection()
        try:
            connection.request(method, path, body, self.headers(media) | headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def ask(self, method, path, body=None, media="application/json", **headers):
        """The code and the JSON of an answer."""
        connection, answer = self.open(method, path, body, media, **headers)
        with contextlib.closing(connection):
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
            time.sleep(0.05)

    def compact(self):
        """Has etcd forget all versions of objects but the last."""
        newest = self._etcd("kv/range", key=base64.b64encode(b"\0").decode())["header"]["revision"]
        self._etcd("kv/compaction", revision=newest, physical=True)

    def _etcd(self, call, **request):
        asked = urllib.request.Request(f"{self.etcd}/v3/{call}", json.dumps(request).encode())
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)


def written_kubeconfig(folder, url, token, authority):
    file = folder / "kubeconfig"
    file.touch(mode=0o600)
    names = {"cluster": "test", "user": "test"}
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": names}],
    }))  # fmt: skip
    return str(file)


def program(programs, name):
    path = pathlib.Path(programs).resolve() / name
    assert os.access(path, os.X_OK), f"{path} is not built: run tests/kubernetes/build.sh {programs} (needs Go)"
    return str(path)


@contextlib.contextmanager
def running(programs, folder):
    """Starts both in `folder`, and ends them, also when this process is killed."""
    assert shutil.which("openssl"), "openssl is not on the PATH, and makes the key of service accounts: install it and try again"
    folder = pathlib.Path(folder)
    etcd, apiserver = program(programs, "etcd"), program(programs, "kube-apiserver")
    store, peer, port = (free_port() for _ in range(3))
    token = secrets.token_hex(16)
    subprocess.run(["openssl", "genrsa", "-out", folder / "key.pem", "2048"], check=True, capture_output=True)
    tokens, authority = folder / "tokens.csv", folder / "certificates" / "apiserver.crt"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{token},admin,1,"system:masters"\n')
    url, store = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{store}"
    processes = []

    with contextlib.ExitStack() as stack:

        def run(*command):
            log = stack.enter_context((folder / f"{pathlib.Path(command[0]).name}.log").open("w"))
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=dies_with(os.getpid()),
            )  # fmt: skip
            processes.append(process)
            # Watches that are open would keep it for a minute; there is nothing to be saved.
            stack.callback(process.wait)
            stack.callback(process.kill)

        run(
            etcd, "--data-dir", str(folder / "etcd"), "--listen-client-urls", store, "--advertise-client-urls", store,
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--unsafe-no-fsync", "--log-level", "warn",
        )  # fmt: skip
        run(
            apiserver, "--etcd-servers", store, "--secure-port", str(port), "--bind-address", "127.0.0.1",
            "--cert-dir", str(authority.parent), "--token-auth-file", str(tokens), "--authorization-mode", "RBAC",
            "--service-account-issuer", "https://example.org", "--service-account-key-file", str(folder / "key.pem"),
            "--service-account-signing-key-file", str(folder / "key.pem"), "--service-cluster-ip-range", "10.0.0.0/24",
            # No controller makes service accounts.
            "--disable-admission-plugins", "ServiceAccount", "--allow-privileged",
            # Names of nodes are not in any DNS.
            "--kubelet-preferred-address-types", "InternalIP",
        )  # fmt: skip

        def ready(server):
            ended = [process.args[0] for process in processes if process.poll() is not None]
            assert not ended, f"{ended} ended"
            return server.ask("GET", "/readyz")[0] == 200 and server.ask("GET", "/api/v1/namespaces/default")[0] == 200

        try:
            unchecked = Server(url, token)
            unchecked.until("the API server is ready", lambda: ready(unchecked))
        except AssertionError as error:
            logs = "\n".join(file.read_text()[-2000:] for file in sorted(folder.glob("*.log")))
            raise AssertionError(f"{error}\n{logs}") from None
        kubeconfig = written_kubeconfig(folder, url, token, authority)
        yield Server(url, token, str(authority), kubeconfig, store)
