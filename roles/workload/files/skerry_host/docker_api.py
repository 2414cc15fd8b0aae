"""Docker's Engine API over its socket: what keeping containers needs; no client, no library, and little memory."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from .faults import HostError

SOCKET = "/run/docker.sock"
#: Seconds for an answer, or for the next piece of one that goes on.
SECONDS = 120.0
_CHUNK = 1 << 16


class DockerError(HostError):
    """Docker refused something; ``status`` is HTTP's."""

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__("HOST_071", f"Docker could not {what}: {said[:500]}",
                         "docker info and journalctl -u docker on the host say more")  # fmt: skip
        self.status = status


def _silent(error: OSError) -> HostError:
    return HostError("HOST_070", f"Docker does not answer at {SOCKET}: {error.strerror or error}",
                     "systemctl status docker on the host; the role docker sets it up")  # fmt: skip


class _Answer:
    """An HTTP answer: its status, then its body piece by piece."""

    def __init__(self, link: socket.socket) -> None:
        """Read the head. Raises HostError (HOST_070) when Docker ends the connection before, as one that stops does."""
        self.link, self.stream = link, link.makefile("rb")
        self.headers: dict[str, str] = {}
        try:
            words = self.stream.readline().split(b" ", 2)
            if len(words) < 2 or not words[1].isdigit():
                raise ConnectionResetError("it ended the connection")
            self.status = int(words[1])
            for line in iter(self.stream.readline, b""):
                name, colon, value = line.decode("latin-1").partition(":")
                if not colon:
                    break
                self.headers[name.strip().lower()] = value.strip()
        except OSError as error:
            self.close()
            raise _silent(error) from error

    def pieces(self) -> Iterator[bytes]:
        """The body, as it comes."""
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while True:
                size = int(self.stream.readline().split(b";")[0] or b"0", 16)
                piece = self.stream.read(size)
                self.stream.readline()
                if not piece:
                    return
                yield piece
        left = int(self.headers["content-length"]) if "content-length" in self.headers else None
        while left is None or left:
            piece = self.stream.read(_CHUNK if left is None else min(_CHUNK, left))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece

    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces())

    def close(self) -> None:
        """End the connection."""
        self.stream.close()
        self.link.close()


def send(method: str, url: str, data: bytes = b"", headers: dict[str, str] | None = None,
         seconds: float = SECONDS) -> socket.socket:
    """A request on a connection of its own, whose answer is not read yet. Raises HostError (HOST_070)."""
    lines = {"Host": "docker", "Content-Length": str(len(data)), "Connection": "close", **(headers or {})}
    head = f"{method} {url} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items()) + "\r\n"
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(seconds)
    try:
        link.connect(SOCKET)
        link.sendall(head.encode("latin-1") + data)
    except OSError as error:
        link.close()
        raise _silent(error) from error
    return link


def _refused(what: str, answer: _Answer) -> DockerError:
    body = answer.body()
    try:
        said = str(json.loads(body).get("message", ""))
    except ValueError:
        said = body.decode("utf-8", "replace")
    return DockerError(what, answer.status, said)


def request(method: str, url: str, what: str, body: Any = None, raw: bytes | None = None,
            headers: dict[str, str] | None = None, seconds: float = SECONDS) -> Any:
    """One request; the decoded answer, None for an empty one.

    Raises:
        DockerError: it said no (HOST_071).
        HostError: HOST_070 it cannot be spoken to.
    """
    data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json" if raw is None else "application/x-tar", **(headers or {})}
    answer = _Answer(send(method, url, data, kind, seconds))
    try:
        if answer.status >= 400:
            raise _refused(what, answer)
        said = answer.body()
    except OSError as error:
        raise _silent(error) from error
    finally:
        answer.close()
    try:
        return json.loads(said) if said else None
    except ValueError:  # progress: several objects
        return said.decode("utf-8", "replace")


def progress(url: str, what: str, headers: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """What Docker says while it does something long. Raises DockerError, HostError."""
    answer = _Answer(send("POST", url, headers=headers, seconds=300))
    try:
        if answer.status >= 400:
            raise _refused(what, answer)
        rest = b""
        for piece in answer.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in filter(bytes.strip, lines):
                said = json.loads(line)
                if "error" in said:
                    raise DockerError(what, 0, str(said["error"]))
                yield said
    except OSError as error:
        raise _silent(error) from error
    finally:
        answer.close()


def attach(container: str, stdin: bool) -> tuple[socket.socket, bytes]:
    """The multiplexed connection to a container, and what came with the head of the answer.

    Raises:
        DockerError: it said no (HOST_071).
        HostError: HOST_070 it cannot be spoken to.
    """
    link = send("POST", f"/containers/{container}/attach?stream=1&stdout=1&stderr=1&stdin={int(stdin)}",
                headers={"Upgrade": "tcp", "Connection": "Upgrade"})  # fmt: skip
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            piece = link.recv(4096)
            if not piece:
                raise ConnectionResetError("it ended the connection")
            head += piece
    except OSError as error:
        link.close()
        raise _silent(error) from error
    first, _, rest = head.partition(b"\r\n\r\n")
    if first.split(b" ", 2)[1:2] not in ([b"101"], [b"200"]):
        link.close()
        raise DockerError("attach to the container", 0, rest.decode("utf-8", "replace"))
    return link, rest


def remove(container: str) -> None:
    """Kill and remove a container; one that is gone already is as wanted."""
    try:
        request("DELETE", f"/containers/{container}?force=1&v=1", "remove the container")
    except DockerError as error:
        if error.status not in (404, 409):
            raise


def inspect(container: str) -> dict[str, Any] | None:
    """A container, None when there is none of that name."""
    try:
        found: dict[str, Any] = request("GET", f"/containers/{container}/json", "describe the container")
    except DockerError as error:
        if error.status == 404:
            return None
        raise
    return found


def image(name: str) -> dict[str, Any] | None:
    """An image by name or digest, None when it is not here."""
    try:
        found: dict[str, Any] = request("GET", f"/images/{quote(name, safe='/:@')}/json", "describe the image")
    except DockerError as error:
        if error.status == 404:
            return None
        raise
    return found
