"""Whether a server takes agents in, asked without showing the token to others; the kubeconfig that people get."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.skerry.edge.plugins.action import k3s_kubeconfig
from ansible_collections.skerry.edge.plugins.module_utils import k3s_api
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import secure_token

PASSWORD = "a-token-of-thirty-two-characters"


class Supervisor(http.server.BaseHTTPRequestHandler):
    """A k3s supervisor as far as joining goes."""

    bundle = b""
    status = 200
    seen: tuple[str, ...] = ()

    def do_GET(self) -> None:
        Supervisor.seen += (self.path + " " + self.headers.get("Authorization", "-"),)
        body = self.bundle if self.path == "/cacerts" else b"ok"
        self.send_response(200 if self.path == "/cacerts" else Supervisor.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    Supervisor.bundle, Supervisor.status, Supervisor.seen = certificate.read_bytes(), 200, ()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Supervisor)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def token() -> str:
    return str(secure_token(hashlib.sha256(Supervisor.bundle).hexdigest(), "node", PASSWORD))


def test_a_server_that_is_ready_takes_agents_in(url: str) -> None:
    assert k3s_api.joinable(url, token())
    assert Supervisor.seen[-1].startswith("/v1-k3s/readyz Basic ")


def test_a_server_that_comes_up_does_not(url: str) -> None:
    Supervisor.status = 503
    assert not k3s_api.joinable(url, token())


def test_another_authority_never_sees_the_token(url: str) -> None:
    assert not k3s_api.joinable(url, str(secure_token("ab" * 32, "node", PASSWORD)))
    assert not any("Basic" in seen for seen in Supervisor.seen)


@pytest.mark.parametrize("address", ["", "https://127.0.0.1:1", "nonsense"])
def test_no_server_no_join(address: str) -> None:
    Supervisor.bundle = b"x"
    assert not k3s_api.joinable(address, token())


KUBECONFIG = """apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: default
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
users:
- name: default
  user:
    client-key-data: default
"""


def test_the_kubeconfig_gets_address_and_names_and_keeps_its_data() -> None:
    found = yaml.safe_load(k3s_kubeconfig.rewrite(KUBECONFIG, "https://api.example.org:6443", "site"))
    assert found["clusters"][0]["cluster"]["server"] == "https://api.example.org:6443"
    assert found["clusters"][0]["name"] == found["contexts"][0]["name"] == found["current-context"] == "site"
    assert found["contexts"][0]["context"] == {"cluster": "site", "user": "site"}
    assert found["users"][0]["name"] == "site"
    assert found["users"][0]["user"]["client-key-data"] == "default"
    assert found["clusters"][0]["cluster"]["certificate-authority-data"] == "default"


def test_nobody_else_reads_the_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "kube" / "site.yaml"
    k3s_kubeconfig.write_private(path, KUBECONFIG)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["site.yaml"]


def test_a_kubeconfig_by_way_of_another_server_that_lives_stays() -> None:
    first, second = "https://192.0.2.1:6443", "https://192.0.2.2:6443"
    old = k3s_kubeconfig.rewrite(KUBECONFIG, second, "site")
    new = k3s_kubeconfig.rewrite(KUBECONFIG.replace("client-key-data: default", "client-key-data: x"), first, "site")
    assert k3s_kubeconfig.still_good(old, new, [first, second], 60.0)
    assert not k3s_kubeconfig.still_good(old, new, [first], 60.0)
    assert not k3s_kubeconfig.still_good(old, new, [first, second], 200 * 86400.0)
    another = new.replace("certificate-authority-data: default", "certificate-authority-data: other")
    assert not k3s_kubeconfig.still_good(old, another, [first, second], 60.0)
    assert not k3s_kubeconfig.still_good("", new, [first, second], 60.0)
