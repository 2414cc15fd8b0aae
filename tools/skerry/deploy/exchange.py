"""One connection to each host's side, and a few words over it: JSON lines both ways, files as zlib streams between.

The host's side (role workload) speaks first: its protocol and what placement needs to know. Then any number of requests
follow; each is answered by messages and a last one. A host that does not answer in time is unknown, with the reason.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from skerry.deploy.kube import Place
from skerry.deploy.placement import HostView
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target
from skerry.targets.connect import Link
from skerry.targets.packing import compressed_file

#: What both sides must agree on (`skerry_host.PROTOCOL`).
PROTOCOL = 1
#: Seconds for a login and for an answer that starts nothing.
SECONDS = 20.0
#: Connections that are made at once: each costs a process here and a key exchange there.
AT_ONCE = 32
_CHUNK = 1 << 16
#: The host's side (role workload).
_SERVE = ("/usr/local/sbin/skerry-host", "serve")
T = TypeVar("T")


class Side(Protocol):
    """Who is asked: a host, or a cluster of them (`skerry.deploy.kube.side`)."""

    target: Target
    view: HostView
    sent: int

    def ask(self, message: Mapping[str, Any], seconds: float | None = SECONDS) -> Iterator[dict[str, Any]]:
        """Send a request; its answers as they come."""

    def send_files(self, blobs: Mapping[str, Path], seconds: float = SECONDS,
                   progress: Callable[[int], None] = lambda _: None) -> int:
        """Send those files that it lacks; how many."""

    def close(self) -> None:
        """End the connection."""


class Host:
    """An open connection. Not for several threads at once.

    Attributes:
        view: what placement needs to know of the host.
        sent: bytes written to the connection so far.
    """

    def __init__(self, target: Target, seconds: float = SECONDS) -> None:
        """Connect and hear the host's first words.

        Raises:
            SkerryError: TARGET_... for a host that cannot be reached or logged in to; DEPLOY_030 where the role
                workload did not run; DEPLOY_031 when its side is of another protocol.
        """
        self.target, self.sent = target, 0
        self._rest, self._link = b"", Link(target, _SERVE)
        try:
            if self._link.first:
                self._write(self._link.first)
            hello = self._hear(time.monotonic() + seconds)
        except BaseException:
            self.close()
            raise
        if hello.get("protocol") != PROTOCOL:
            self.close()
            raise SkerryError("DEPLOY_031", f"host {target.name}: its side speaks protocol {hello.get('protocol')}, "
                              f"not {PROTOCOL}", "run the role workload there: skerry provision --tags workload",
                              Exit.FAILED)
        about = hello["host"]
        self.view = HostView(about["arch"], about["facts"], frozenset(about["running"]))

    def _write(self, data: bytes) -> None:
        try:
            self._link.stdin.write(data)
            self._link.stdin.flush()
        except BrokenPipeError as error:
            raise self._lost() from error
        self.sent += len(data)

    def _lost(self) -> SkerryError:
        """Why the connection ended."""
        self._link.wait()
        fd = self._link.stdout.fileno()
        while select.select([fd], [], [], 0)[0] and (data := os.read(fd, _CHUNK)):
            self._rest += data
        said = self._rest.decode("utf-8", "replace")
        if "SKERRY-NOPROGRAM" in said:
            return SkerryError("DEPLOY_030", f"host {self.target.name}: the role workload did not run there",
                               "skerry provision -i INVENTORY --tags workload", Exit.FAILED)
        for line in said.splitlines():  # its last words before it ended by itself
            if line.startswith('{"error"'):
                return self._refused(json.loads(line)["error"])
        return self._link.lost(self._rest)

    def _refused(self, said: Mapping[str, str]) -> SkerryError:
        """What the host's side would not do, under its own code."""
        return SkerryError(said["code"], f"host {self.target.name}: {said['cause']}", said["remedy"], Exit.FAILED)

    def _hear(self, deadline: float | None) -> dict[str, Any]:
        """The next message."""
        fd = self._link.stdout.fileno()
        while b"\n" not in self._rest:
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or not select.select([fd], [], [], left)[0]:
                raise SkerryError("DEPLOY_032", f"host {self.target.name}: no answer in time",
                                  "check the host, its link and its load; --host-timeout gives it longer",
                                  Exit.UNREACHABLE)
            data = os.read(fd, _CHUNK)
            if not data:
                raise self._lost()
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            self._rest = line + b"\n" + self._rest
            raise self._lost() from None
        return message

    def ask(self, message: Mapping[str, Any], seconds: float | None = SECONDS) -> Iterator[dict[str, Any]]:
        """Send a request; its answers as they come. ``seconds``: until each next one, None for no end.

        Raises:
            SkerryError: what the host's side refused, under its own code; TARGET_... and DEPLOY_032 for a lost host.
        """
        self._write(json.dumps(message).encode() + b"\n")
        fault: SkerryError | None = None
        while True:
            answer = self._hear(None if seconds is None else time.monotonic() + seconds)
            if "done" in answer:
                if fault is not None:
                    raise fault
                return
            if "error" in answer:
                fault = self._refused(answer["error"])
            else:
                yield answer

    def send_files(self, blobs: Mapping[str, Path], seconds: float = SECONDS,
                   progress: Callable[[int], None] = lambda _: None) -> int:
        """Send those files that the host lacks; how many. ``progress`` is told bytes as they go."""
        self._write(json.dumps({"op": "files", "digests": sorted(blobs)}).encode() + b"\n")
        lacking = self._hear(time.monotonic() + seconds)["lacking"]
        for digest in lacking:
            packed = b"".join(compressed_file(blobs[digest], digest))
            self._write(json.dumps({"digest": digest, "packed": len(packed)}).encode() + b"\n")
            for start in range(0, len(packed), _CHUNK):
                piece = packed[start : start + _CHUNK]
                self._write(piece)
                progress(len(piece))
        while True:
            answer = self._hear(time.monotonic() + seconds)
            if "error" in answer:
                raise self._refused(answer["error"])
            if "done" in answer:
                return len(lacking)

    def close(self) -> None:
        """End the connection; what was asked for and answered stays done."""
        self._link.close()


def lost(error: SkerryError) -> bool:
    """Whether an error means that a host cannot be spoken to, and not that its side refused something."""
    return error.code.startswith(("TARGET_", "DEPLOY_03")) or error.code == "DEPLOY_080"


@dataclass
class Hosts:
    """Connections to many hosts and clusters; those that could not be made are in ``faults``."""

    open: dict[str, Side] = field(default_factory=dict)
    faults: dict[str, SkerryError] = field(default_factory=dict)
    #: Of all that were asked, in that order, clusters last.
    names: list[str] = field(default_factory=list)

    def join(self, targets: Sequence[Target], places: Sequence[Place], seconds: float) -> None:
        """Connect to hosts and clusters, all at once."""
        lock = threading.Lock()

        def one(wanted: Target | Place) -> None:
            name = name_of(wanted)
            try:
                side = opened(wanted, seconds)
            except SkerryError as error:
                with lock:
                    self.faults[name] = error
                return
            with lock:
                self.open[name] = side

        asked: list[Target | Place] = [*targets, *places]
        self.names += map(name_of, asked)
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            list(pool.map(one, asked))

    def each(self, names: Iterable[str], work: Callable[[Side], T]) -> dict[str, T]:
        """Do something on several hosts at once; a host that fails goes to ``faults`` and is not asked again."""
        asked = [self.open[name] for name in names if name in self.open]

        def guarded(host: Side) -> tuple[str, T | None]:
            try:
                return host.target.name, work(host)
            except SkerryError as error:
                self.faults[host.target.name] = error
                return host.target.name, None

        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            done = list(pool.map(guarded, asked))
        for name in [name for name in self.faults if name in self.open]:
            if lost(self.faults[name]):
                self.open.pop(name).close()
        return {name: found for name, found in done if found is not None}

    def close(self) -> None:
        """End all connections."""
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            list(pool.map(lambda side: side.close(), self.open.values()))


def name_of(wanted: Target | Place) -> str:
    """What a host or a cluster is called in answers."""
    return wanted.side if isinstance(wanted, Place) else wanted.name


def opened(wanted: Target | Place, seconds: float) -> Side:
    """A connection to a host or a cluster. Raises SkerryError, as `Host` and `skerry.deploy.kube.side.Side` say."""
    if isinstance(wanted, Place):
        from skerry.deploy.kube.side import Side as Cluster  # loads the client of Kubernetes

        return Cluster(wanted, seconds)
    return Host(wanted, seconds)


@contextlib.contextmanager
def connect(targets: Sequence[Target], seconds: float = SECONDS, places: Sequence[Place] = ()) -> Iterator[Hosts]:
    """Connections to hosts and clusters, closed at the end whatever happens."""
    hosts = Hosts()
    try:
        hosts.join(targets, places, seconds)
        yield hosts
    finally:
        hosts.close()


def encoded(secrets: Mapping[str, bytes]) -> dict[str, str]:
    """Secrets as the request carries them."""
    return {name: base64.b64encode(value).decode() for name, value in secrets.items()}
