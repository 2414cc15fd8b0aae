"""A small client of the Kubernetes API with the certificates that k3s keeps on a host.

``k3s kubectl`` costs a tenth of a second and 50 MB for each question; polling with it would slow the very start that is
waited for. Runs on hosts with Python 3.8, standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import ssl
import urllib.parse

from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_host import DATA_DIR

#: role -> (port on this host, CA, certificate, key). Agents speak through their own load balancer, as their node.
IDENTITIES = {
    "server": (6443, "server/tls/server-ca.crt", "server/tls/client-admin.crt", "server/tls/client-admin.key"),
    "agent": (6444, "agent/server-ca.crt", "agent/client-kubelet.crt", "agent/client-kubelet.key"),
}


class UnavailableError(Exception):
    """The API cannot be asked now: no certificates yet, nobody listening, or an answer of 5xx."""


def unanswered(error):
    """The failure of a task that cannot go on without the API."""
    return K3sError("K3S_020", f"the API does not answer: {error}", "see systemctl status k3s on this server")


class Api:
    """The API server of this host's cluster, with the rights that the host has."""

    def __init__(self, role, port=None, data_dir=DATA_DIR, timeout=10):
        standard, *files = IDENTITIES[role]
        self.port = port or standard
        self.timeout = timeout
        self.authority, self.certificate, self.key = (os.path.join(data_dir, name) for name in files)
        self._context = None
        self._connection = None

    def _connect(self):
        try:
            if self._context is None:
                self._context = ssl.create_default_context(cafile=self.authority)
                self._context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise UnavailableError(f"no certificates yet: {error}") from error
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self._context, timeout=self.timeout)

    def _forget(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = self._context = None

    def _exchange(self, method, path, body, headers):
        self._connection = self._connection or self._connect()
        self._connection.request(method, path, body=body, headers=headers)
        answer = self._connection.getresponse()
        status, text = answer.status, answer.read().decode("utf-8", "replace")
        if status >= 400:
            # While a node joins, its certificate is written twice; the first one stays without rights for ever.
            self._forget()
        return status, text

    def ask(self, method, path, body=None, content_type="application/json"):
        """(status, text) of one request. Raises UnavailableError when nobody answers."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        text = None if body is None else json.dumps(body)
        if self._connection is not None:
            try:
                return self._exchange(method, path, text, headers)
            except (OSError, http.client.HTTPException):  # an idle connection that the server closed meanwhile
                self._forget()
        try:
            return self._exchange(method, path, text, headers)
        except (OSError, http.client.HTTPException) as error:
            self._forget()
            raise UnavailableError(str(error) or type(error).__name__) from error

    def json(self, method, path, body=None, content_type="application/json", missing_ok=False):
        """The decoded answer; None for 404 when ``missing_ok``. Raises K3S_018, and UnavailableError on 5xx."""
        status, text = self.ask(method, path, body, content_type)
        if status == 404 and missing_ok:
            return None
        # A server-side apply with a field that the schema does not have is answered with 500, and will always be.
        hopeless = "typed patch object" in text
        if (status >= 500 and not hopeless) or status == 429:
            raise UnavailableError(f"{method} {path}: {status} {text[:200]}")
        try:
            value = json.loads(text)
        except ValueError:
            value = {"message": text[:200]}
        if status >= 400:
            raise K3sError(
                "K3S_018",
                "the API refused {} {}: {}".format(method, path, value.get("message", status)),
                "correct what the message names, then run again",
            )
        return value

    def healthy(self):
        """Whether /readyz says ok."""
        status, text = self.ask("GET", "/readyz")
        return status == 200 and text.strip() == "ok"

    def node_ready(self, name):
        """(is Ready, why not) of a node."""
        node = self.json("GET", "/api/v1/nodes/" + name, missing_ok=True)
        if node is None:
            return False, f"node {name} is not registered"
        for condition in node.get("status", {}).get("conditions", []):
            if condition.get("type") == "Ready":
                return condition.get("status") == "True", condition.get("message", "")
        return False, "the kubelet has not reported yet"


def joinable(url, token, timeout=3):
    """Whether a server would take an agent in now; the token is shown to a server with the token's CA only."""
    match = re.match(r"^K10(?P<hash>[0-9a-f]{64})::(?P<user>[^:]+):(?P<password>.+)$", token)
    where = urllib.parse.urlsplit(url)
    if not match or not where.hostname:
        return False
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    try:
        bundle = _get(where, "/cacerts", unchecked, {}, timeout)[1]
        if hashlib.sha256(bundle).hexdigest() != match.group("hash"):
            return False
        checked = ssl.create_default_context(cadata=bundle.decode())
        login = "{}:{}".format(match.group("user"), match.group("password"))
        basic = base64.b64encode(login.encode()).decode()
        return _get(where, "/v1-k3s/readyz", checked, {"Authorization": "Basic " + basic}, timeout)[0] == 200
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _get(where, path, context, headers, timeout):
    connection = http.client.HTTPSConnection(where.hostname, where.port or 443, context=context, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
