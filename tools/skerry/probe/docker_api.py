"""Docker's Engine API over its socket: only what one short container needs; no client, no library."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .faults import ProbeError

SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
LABEL = "dev.skerry.session"
_HEAD_LIMIT = 1 << 16


class DockerError(ProbeError):
    """The daemon refused a request; ``status`` is HTTP's."""

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__(
            "RUN_020",
            f"Docker could not {what}: {said[:500]}",
            "docker info and journalctl -u docker on the host say more",
        )
        self.status = status
        self.said = said


def socket_path() -> str | None:
    """Where the daemon listens; None when there is none."""
    for path in SOCKETS:
        if os.path.exists(path):
            return path
    return None


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=120)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Docker:
    """One daemon. A connection is kept between requests: connecting is not what is measured."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connection = _Connection(path)

    def request(self, method: str, url: str, what: str, body: Any = None, raw: bytes | None = None) -> Any:
        """One request; the decoded JSON answer, None for an empty one.

        Raises:
            DockerError: the daemon said no.
            ProbeError: it cannot be spoken to.
        """
        headers = {"Content-Type": "application/x-tar" if raw is not None else "application/json"}
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        for attempt in (1, 2):
            try:
                self.connection.request(method, url, data, headers)
                response = self.connection.getresponse()
                answer = response.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                self.connection.close()  # an idle connection that the daemon closed; once is normal
                if attempt == 2:
                    raise self._silent(error) from error
            except OSError as error:
                raise self._silent(error) from error
        if response.status >= 400:
            try:
                said = json.loads(answer).get("message", "")
            except ValueError:
                said = answer.decode("utf-8", "replace")
            raise DockerError(what, response.status, said)
        try:
            return json.loads(answer) if answer else None
        except ValueError:  # progress of a load: several objects
            return answer.decode("utf-8", "replace")

    def _silent(self, error: OSError) -> ProbeError:
        return ProbeError(
            "RUN_021",
            f"Docker at {self.path} does not answer: {error}",
            "systemctl status docker on the host; the role docker sets it up",
        )

    def open(self, url: str, upgrade: bool) -> tuple[socket.socket, bytes]:
        """A POST whose answer goes on: (socket after the head of the answer, what came behind the head)."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(30)
        link.connect(self.path)
        more = "Upgrade: tcp\r\nConnection: Upgrade\r\n" if upgrade else ""
        head = f"POST {url} HTTP/1.1\r\nHost: docker\r\n{more}Content-Length: 0\r\n\r\n"
        link.sendall(head.encode())
        if not upgrade:  # its head comes with its answer, or before: both are read by whoever waits for it
            return link, b""
        data = b""
        while b"\r\n\r\n" not in data and len(data) < _HEAD_LIMIT:
            piece = link.recv(4096)
            if not piece:
                break
            data += piece
        first, _, rest = data.partition(b"\r\n\r\n")
        status = first.split(b" ", 2)[1:2]
        if status not in ([b"101"], [b"200"]):
            link.close()
            raise DockerError(
                "attach to the container", int(status[0]) if status else 0, rest.decode("utf-8", "replace")
            )
        return link, rest

    def sweep(self, session: str) -> None:
        """Remove the containers and images of a session."""
        label = quote(json.dumps({"label": [f"{LABEL}={session}"]}))
        for entry in self.request("GET", "/containers/json?all=1&filters=" + label, "list containers"):
            self.remove(entry["Id"])
        for entry in self.request("GET", "/images/json?filters=" + label, "list images"):
            self.remove_image(entry["Id"])

    def remove(self, container: str) -> None:
        """Kill and remove a container; one that is gone already is as wanted."""
        try:
            self.request("DELETE", f"/containers/{container}?force=1&v=1", "remove the container")
        except DockerError as error:
            if error.status not in (404, 409):
                raise

    def remove_image(self, image: str) -> None:
        """Remove an image; one that is gone already is as wanted."""
        try:
            self.request("DELETE", "/images/{}?force=1".format(quote(image, safe="")), "remove the image")
        except DockerError as error:
            if error.status != 404:
                raise


def connect() -> tuple[Docker | None, str | None]:
    """(Docker, None), or (None, reason)."""
    path = socket_path()
    if path is None:
        return None, "no Docker on the host"
    if not os.access(path, os.R_OK | os.W_OK):
        return None, f"no right to speak to Docker at {Path(path)}"
    return Docker(path), None
