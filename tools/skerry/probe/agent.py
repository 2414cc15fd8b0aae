"""The agent: the probe's middle. One thread that relays frames between the controller and the runners it forks.

It ends when the controller says so, when its connection closes, or when nothing has been heard for a while; then every
runner is ended. The guard (`guard`) removes what is left whatever happens.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from . import frames, memory, runner
from .faults import ProbeError
from .rungs.all import find
from .rungs.base import Host
from .runner import fault_of

#: Seconds of silence after which the controller counts as gone; it sends a ping every few seconds.
SILENCE = 30.0
#: Seconds between two signs of life.
BEAT = 5.0
#: Bytes that may wait for a slow connection before runners have to wait too.
BACKLOG = 8 << 20


@dataclass
class _Link:
    """A runner and what the controller waits for from it."""

    pid: int
    socket: socket.socket
    decoder: frames.Decoder = field(default_factory=frames.Decoder)
    waiting: set[int] = field(default_factory=set)
    slot: int | None = None


class _DoneError(Exception):
    """The session is over."""


class Agent:
    """Serves the controller on two descriptors."""

    def __init__(self, host: Host, source: int, sink: int) -> None:
        self.host, self.source, self.sink = host, source, sink
        self.decoder = frames.Decoder()
        self.out = bytearray()
        self.links: dict[int, _Link] = {}
        self.selector = selectors.DefaultSelector()
        self.heard = self.spoken = time.monotonic()
        self.paused = False
        os.set_blocking(sink, False)
        self.selector.register(source, selectors.EVENT_READ, "controller")

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        self.out += frames.encode(header, payload)

    def serve(self) -> None:
        """Until the session is over."""
        try:
            while True:
                self._flush()
                for key, _ in self.selector.select(1.0):
                    if key.data == "controller":
                        self._hear()
                    elif key.data == "sink":
                        continue
                    else:
                        self._relay(key.data)
                now = time.monotonic()
                if now - self.heard > SILENCE:
                    return
                if now - self.spoken > BEAT:  # unasked: the controller's own pings may wait behind a long upload
                    self.spoken = now
                    self.send({"op": "pong"})
        except (_DoneError, frames.FrameError, BrokenPipeError, ConnectionResetError):
            return
        finally:
            self._end_runners()

    def _flush(self) -> None:
        while self.out:
            try:
                sent = os.write(self.sink, self.out[: 1 << 18])
            except BlockingIOError:
                break
            del self.out[:sent]
        watched = self.sink in self.selector.get_map()
        if self.out and not watched:
            self.selector.register(self.sink, selectors.EVENT_WRITE, "sink")
        elif not self.out and watched:
            self.selector.unregister(self.sink)
        if (len(self.out) > BACKLOG) != self.paused:
            self.paused = not self.paused
            for fd, link in self.links.items():
                if self.paused:
                    self.selector.unregister(fd)
                else:
                    self.selector.register(fd, selectors.EVENT_READ, link)

    def _hear(self) -> None:
        data = os.read(self.source, 1 << 18)
        if not data:
            raise _DoneError
        self.heard = time.monotonic()
        for header, payload in self.decoder.feed(data):
            self._handle(header, payload)

    def _handle(self, header: dict[str, Any], payload: bytes) -> None:
        operation = header["op"]
        if operation == "ping":
            self.send({"op": "pong"})
        elif operation == "bye":
            raise _DoneError
        elif operation == "has":
            missing = [digest for digest in header["digests"] if not self.host.store.has(digest)]
            self.send({"op": "done", "id": header["id"], "result": {"missing": missing}})
        elif operation == "file":
            self._file(header, payload)
        elif operation in ("run", "prepare", "capabilities"):
            self._fork(header)
        elif operation in ("sample", "release"):
            self._forward(header)
        elif operation == "cancel":
            for link in self.links.values():
                if header["id"] in link.waiting:
                    os.kill(link.pid, signal.SIGTERM)

    def _file(self, header: dict[str, Any], payload: bytes) -> None:
        try:
            if self.host.store.take(header, payload):
                self.send({"op": "done", "id": header["id"], "result": {}})
        except ProbeError as fault:
            self.send({"op": "fault", "id": header["id"], "fault": fault.as_dict()})

    def _fork(self, header: dict[str, Any]) -> None:
        if "spec" in header:
            find(header["spec"]["key"].split("/")[0]).share(self.host)
        memory.give_back()  # what files took on their way; a fork would have it too
        mine, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._become_runner(mine, theirs, header)
        theirs.close()
        link = _Link(pid, mine, waiting={header["id"]}, slot=header.get("slot"))
        self.links[mine.fileno()] = link
        if not self.paused:
            self.selector.register(mine.fileno(), selectors.EVENT_READ, link)

    def _become_runner(self, mine: socket.socket, theirs: socket.socket, header: dict[str, Any]) -> NoReturn:
        try:
            self.selector.close()
            mine.close()
            for link in self.links.values():
                link.socket.close()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (self.source, self.sink):  # the connection shall close with the agent
                os.dup2(null, fd)
            runner.main(theirs, self.host, header)
        finally:
            os._exit(2)

    def _forward(self, header: dict[str, Any]) -> None:
        for link in self.links.values():
            if link.slot == header["slot"]:
                link.waiting.add(header["id"])
                link.socket.sendall(frames.encode(header))
                return
        fault = ProbeError("PROBE_005", "nothing is prepared as slot {}".format(header["slot"]), "prepare it again")
        self.send({"op": "fault", "id": header["id"], "fault": fault.as_dict()})

    def _relay(self, link: _Link) -> None:
        try:
            data = link.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            self._lost(link)
            return
        for header, payload in link.decoder.feed(data):
            if header["op"] in ("done", "fault"):
                link.waiting.discard(header["id"])
            self.send(header, payload)

    def _lost(self, link: _Link) -> None:
        fd = link.socket.fileno()
        if not self.paused:
            self.selector.unregister(fd)
        del self.links[fd]
        link.socket.close()
        _, status = os.waitpid(link.pid, 0)
        for number in link.waiting:
            fault = fault_of(RuntimeError(f"a runner ended with wait status {status}"))
            self.send({"op": "fault", "id": number, "fault": fault})

    def _end_runners(self) -> None:
        for link in self.links.values():
            os.kill(link.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        for link in self.links.values():
            while os.waitpid(link.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(link.pid, signal.SIGKILL)
                    deadline += 1
                time.sleep(0.005)
                link.socket.setblocking(False)
                try:  # one that waits to be read shall not wait for ever
                    while link.socket.recv(1 << 18):
                        continue
                except (BlockingIOError, ConnectionResetError):
                    continue
