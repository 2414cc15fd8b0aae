"""The calls of Docker Engine's HTTP interface that the sandbox needs, over its Unix socket (standard library only)."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from skerry.errors import Exit, SkerryError

DEFAULT_SOCKET = "/var/run/docker.sock"


def socket_path() -> str:
    """The engine's socket; ``DOCKER_HOST`` may name another one.

    Raises:
        SkerryError: SANDBOX_001, the engine is named by something else than a Unix socket.
    """
    named = os.environ.get("DOCKER_HOST", "")
    if not named:
        return DEFAULT_SOCKET
    if named.startswith("unix://"):
        return named.removeprefix("unix://")
    raise SkerryError(
        "SANDBOX_001",
        f"DOCKER_HOST is {named}; sandbox hosts live on this machine",
        "unset DOCKER_HOST, or point it at a local unix:// socket",
        Exit.PREREQUISITE,
    )


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(1 << 20):
        yield chunk


class Docker:
    """A client of the local engine. Every call raises SANDBOX_004 with the engine's own words when it is refused."""

    def __init__(self, path: str | None = None, timeout: float = 600.0) -> None:
        self.path = path or socket_path()
        self._timeout = timeout

    def ping(self) -> bool:
        """Whether the engine answers.

        Raises:
            PermissionError: it may be there, and this user may not talk to it.
        """
        connection = _Connection(self.path, 5.0)
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().status == http.client.OK
        except PermissionError:
            raise
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: object = None, missing_ok: bool = False
    ) -> Any:
        """One request; the decoded JSON answer, or None for an empty one (or a 404 with ``missing_ok``)."""
        url = path + ("?" + urlencode(query) if query else "")
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection = _Connection(self.path, self._timeout)
        try:
            connection.request(method, url, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise SkerryError(
                "SANDBOX_004",
                f"Docker Engine does not answer {method} {path}: {error}",
                "look at its log: journalctl -u docker, or /var/log/skerry-dockerd.log",
                Exit.PREREQUISITE,
            ) from error
        finally:
            connection.close()
        if missing_ok and answer.status == http.client.NOT_FOUND:
            return None
        if answer.status >= http.client.BAD_REQUEST:
            raise SkerryError(
                "SANDBOX_004",
                f"Docker Engine refused {method} {path}: {text.decode(errors='replace')[:400]}",
                "docker ps -a and the engine's log say more",
                Exit.FAILED,
            )
        return json.loads(text) if text.strip() else None

    def by_label(self, kind: str, label: str) -> list[dict[str, Any]]:
        """All containers (also stopped ones), ``networks``, ``volumes`` or ``images`` that carry ``label``."""
        query = {"filters": json.dumps({"label": [label]})}
        if kind == "containers":
            return list(self.call("GET", "/containers/json", {**query, "all": "1"}))
        found = self.call("GET", f"/{kind}" + ("/json" if kind == "images" else ""), query)
        return list((found["Volumes"] if kind == "volumes" else found) or [])

    def image_labels(self, name: str) -> dict[str, str] | None:
        """Labels of an image, or None when there is no such image."""
        image = self.call("GET", f"/images/{quote(name, safe='')}/json", missing_ok=True)
        return None if image is None else dict(image["Config"].get("Labels") or {})

    def image_platform(self, name: str) -> str:
        """The platform that the engine believes an image to be for (20.10 calls every import its own)."""
        image = self.call("GET", f"/images/{quote(name, safe='')}/json")
        return f"{image['Os']}/{image['Architecture']}"

    def import_image(self, tar: IO[bytes], repository: str, tag: str, changes: list[str], platform: str) -> None:
        """Make an image of a root file system's tar; it gets its name only when the whole stream was accepted."""
        query = [("fromSrc", "-"), ("repo", repository), ("tag", tag), ("platform", platform)]
        query += [("changes", change) for change in changes]
        connection = _Connection(self.path, self._timeout)
        try:
            connection.request(
                "POST",
                "/images/create?" + urlencode(query),
                body=_chunks(tar),
                headers={"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"},
                encode_chunked=True,
            )
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if answer.status != http.client.OK or '"error"' in text:
            raise SkerryError(
                "SANDBOX_004",
                f"Docker Engine did not import {repository}:{tag}: {text[-400:]}",
                "check free disk space under Docker's data directory",
                Exit.FAILED,
            )

    def remove_image(self, name: str) -> bool:
        """Remove an image; False when a container still uses it, or when there is none."""
        try:
            return self.call("DELETE", f"/images/{quote(name, safe='')}", missing_ok=True) is not None
        except SkerryError as error:
            if "conflict" in error.cause:
                return False
            raise

    def remove_container(self, identity: str) -> None:
        """Kill and remove a container with its anonymous volumes."""
        self.call("DELETE", f"/containers/{identity}", {"force": "1", "v": "1"}, missing_ok=True)


def engine_log() -> Path:
    """Where the engine that we start writes."""
    return Path("/var/log/skerry-dockerd.log")
