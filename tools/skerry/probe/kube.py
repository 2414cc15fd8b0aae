"""A Kubernetes API server over HTTPS: only what one short pod needs; standard library only.

Used at both ends: by the controller with the kubeconfig, to make a namespace and a token for one session, and by
the probe with that token, which reaches no further than the namespace.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import struct
import tempfile
from typing import Any
from urllib.parse import quote, urlsplit

from .faults import ProbeError


class KubeError(ProbeError):
    """The API server refused a request; ``status`` is HTTP's."""

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__(
            "RUN_022",
            f"Kubernetes could not {what}: {said[:500]}",
            "skerry provision checks the cluster; kubectl describe says more",
        )
        self.status = status


def context(ca: str, certificate: bytes | None = None, key: bytes | None = None) -> ssl.SSLContext:
    """A TLS context that trusts ``ca`` (PEM) alone and shows a client certificate where one is given."""
    made = ssl.create_default_context(cadata=ca)
    if certificate is not None and key is not None:
        # ssl loads certificates from files only; this one is private and gone at once.
        with tempfile.NamedTemporaryFile(prefix="skerry-", suffix=".pem") as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            made.load_cert_chain(file.name)
    return made


class Kube:
    """One API server."""

    def __init__(self, server: str, tls: ssl.SSLContext, token: str | None = None, timeout: float = 30) -> None:
        self.server, self.tls, self.token, self.timeout = server, tls, token, timeout
        where = urlsplit(server)
        self.host, self.port = where.hostname or "", where.port or 443
        self.connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=tls)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = "Bearer " + self.token
        return headers

    def request(self, method: str, path: str, what: str, body: Any = None) -> dict[str, Any]:
        """One request; the decoded answer.

        Raises:
            KubeError: the server said no.
            ProbeError: it cannot be reached.
        """
        data = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            try:
                self.connection.request(method, path, data, self._headers())
                response = self.connection.getresponse()
                answer = response.read()
                break
            except (http.client.HTTPException, OSError) as error:
                self.connection.close()
                if attempt == 2:
                    raise ProbeError(
                        "RUN_023",
                        f"the API server {self.server} does not answer: {error}",
                        "check that the server is up and that port 6443 is open to this host",
                    ) from error
        try:
            found: dict[str, Any] = json.loads(answer)
        except ValueError:
            found = {"message": answer.decode("utf-8", "replace")}
        if response.status >= 400:
            raise KubeError(what, response.status, str(found.get("message", "")))
        return found

    def delete(self, path: str, what: str, grace: int = 0) -> None:
        """Delete an object; one that is gone already is as wanted."""
        try:
            self.request("DELETE", path, what, {"gracePeriodSeconds": grace, "propagationPolicy": "Background"})
        except KubeError as error:
            if error.status not in (404, 409):
                raise

    def attach(self, namespace: str, pod: str, container: str) -> Attachment:
        """Standard input of a running container.

        Raises:
            KubeError: the server does not attach.
        """
        query = f"container={quote(container)}&stdin=true&stdout=false&stderr=false&tty=false"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/attach?{query}"
        raw = socket.create_connection((self.host, self.port), self.timeout)
        link = self.tls.wrap_socket(raw, server_hostname=self.host)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
        )
        if self.token is not None:
            head += f"Authorization: Bearer {self.token}\r\n"
        link.sendall(head.encode() + b"\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = link.recv(4096)
            if not piece:
                break
            answer += piece
        status = answer.split(b" ", 2)[1:2]
        if status != [b"101"]:
            link.close()
            raise KubeError("attach to the pod", int(status[0]) if status else 0, answer.decode("utf-8", "replace"))
        return Attachment(link)


class Attachment:
    """A WebSocket with the subprotocol v5.channel.k8s.io: each message begins with its channel's number."""

    STDIN, CLOSE = 0, 255

    def __init__(self, link: ssl.SSLSocket) -> None:
        self.link = link

    def _message(self, payload: bytes) -> None:
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x82, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x82, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x82, 0x80 | 127, size)
        stretched = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")
        self.link.sendall(head + mask + masked)

    def send(self, data: bytes) -> None:
        """A piece of standard input."""
        self._message(bytes([self.STDIN]) + data)

    def end(self) -> None:
        """The end of standard input; the program goes on."""
        self._message(bytes([self.CLOSE, self.STDIN]))

    def close(self) -> None:
        self.link.close()
