"""Stays beside a container while it runs: passes its output on to the journal, and ends with it as it ended."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn
from urllib.parse import quote

from . import counting, docker_api
from .faults import HostError

#: Seconds that an image's program has for its end; then it is killed.
GRACE = 8
#: Docker cannot be spoken to; seconds for it to come back, where containers outlive its restart.
_AWAY, _PATIENCE = "HOST_070", 600.0
#: Seconds in which its end is known after its outputs closed.
_SOON = 2.0
_CHUNK = 1 << 16
_KILLED = 128 + signal.SIGKILL


class Run:
    """One container from its creation to its end."""

    def __init__(self, name: str, body: dict[str, Any], stdin: str | None, limits: dict[str, Any] | None,
                 polite: bool) -> None:
        """``body``: what Docker is asked to create; ``limits``: those that are looked after here (`counting.Watch`);
        ``polite``: its program may clean up before it is killed."""
        self.name, self.body, self.polite = name, body, polite
        self.watch = counting.Watch(limits) if limits is not None else None
        self.output = limits["output"] if limits is not None else None
        self.limit: str | None = None
        self.pid, self.looked, self.said = 0, 0.0, ""
        self.stdin = os.open(stdin, os.O_RDONLY) if stdin is not None else None
        self.asked: list[socket.socket] = []  # requests whose answer nobody waits for
        self.stopped = False
        self.seen, self.pending = 0, b""
        self.wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def go(self) -> NoReturn:
        """Run it; this process ends as it did. Raises HostError when it cannot be started."""
        docker_api.remove(self.name)
        if self.watch is not None and (forbidden := self.watch.before()):
            counting.end(forbidden, self.watch.said)
        begun = int(time.time())
        url = f"/containers/create?name={self.name}"
        container = docker_api.request("POST", url, "create the container", self.body)["Id"]
        try:
            link, rest = docker_api.attach(container, self.stdin is not None)
            docker_api.request("POST", f"/containers/{container}/start", "start the container")
            self.pid = int((docker_api.inspect(container) or {"State": {"Pid": 0}})["State"]["Pid"])
            notify("READY=1")
            self._pump(container, link, rest)
            while (status := self._status(container)) is None:
                try:
                    again = docker_api.attach(container, False)
                except HostError as error:
                    if error.code != _AWAY:
                        raise
                else:
                    self._pump(container, *again)
            if self.limit is None and self._memory(container, status, begun):
                self._meet("memory", f"the kernel ended it at {self.body['HostConfig'].get('Memory')} bytes")
        finally:
            docker_api.remove(container)
        if self.limit is not None:
            counting.end(self.limit, self.said)
        if self.stopped:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(status)

    def _meet(self, limit: str, said: str) -> None:
        self.limit, self.said = limit, said

    def _pump(self, container: str, link: socket.socket, rest: bytes) -> None:
        """Until the container closes its outputs, or Docker the connection."""
        link.setblocking(False)
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        buffer = bytearray(rest)
        self._pass_on(container, buffer)
        while True:
            poll.register(link, select.POLLIN | (select.POLLOUT if self.stdin is not None else 0))
            for fd, what in poll.poll(self.watch.tick * 1000 if self.watch is not None else None):
                if fd == self.wake:
                    os.read(self.wake, 16)
                    self._stop(container)
                    continue
                if what & select.POLLOUT:
                    self._feed(link)
                if what & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    try:
                        data = link.recv(_CHUNK)
                    except BlockingIOError:
                        continue
                    except ConnectionResetError:
                        data = b""
                    if not data:
                        link.close()
                        return
                    buffer += data
                    self._pass_on(container, buffer)
            self._look(container)

    def _look(self, container: str) -> None:
        """End it at the limits that are looked after from outside."""
        watch = self.watch
        if watch is None or self.limit or time.monotonic() - self.looked < watch.tick:
            return
        if found := watch.look(self.pid):
            self._meet(found, watch.said)
            self._kill(container)
        self.looked = time.monotonic()

    def _feed(self, link: socket.socket) -> None:
        if self.stdin is None:
            return
        try:
            self.pending = self.pending or os.read(self.stdin, _CHUNK)
            if self.pending:
                self.pending = self.pending[link.send(self.pending) :]
                return
            link.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            pass  # the program has ended without reading it all
        os.close(self.stdin)
        self.stdin = None

    def _pass_on(self, container: str, buffer: bytearray) -> None:
        """Whole frames of the connection to this process's own outputs: a type, three zeros, four bytes of length."""
        while len(buffer) >= 8:
            size = int.from_bytes(buffer[4:8], "big")
            if len(buffer) < 8 + size:
                return
            data, fd = bytes(buffer[8 : 8 + size]), 2 if buffer[0] == 2 else 1
            del buffer[: 8 + size]
            room = size if self.output is None else max(0, self.output - self.seen)
            self.seen += size
            written = 0
            while written < min(size, room):
                written += os.write(fd, data[written:room])
            if self.output is not None and self.seen > self.output and self.limit is None:
                self._meet("output", f"more than {self.output} bytes")
                self._kill(container)

    def _kill(self, container: str) -> None:
        """Ask for it without waiting: Docker answers only when all output has been taken, which is done here."""
        self.asked.append(docker_api.send("POST", f"/containers/{container}/kill"))

    def _stop(self, container: str) -> None:
        if not self.stopped:
            self.stopped = True
            if self.polite:
                self.asked.append(docker_api.send("POST", f"/containers/{container}/stop?t={GRACE}"))
            else:  # a module has no handler, and the first process of a container ignores what it does not handle
                self._kill(container)

    def _status(self, container: str) -> int | None:
        """Its exit code; None when it runs on and only Docker had closed the connection."""
        begun = time.monotonic()
        while True:
            try:
                state = (docker_api.inspect(container) or {"State": {"Running": False, "ExitCode": 1}})["State"]
            except HostError as error:
                if error.code != _AWAY or time.monotonic() - begun > _PATIENCE:
                    raise
                if select.select([self.wake], [], [], 0.5)[0]:
                    raise  # it is to end, and cannot end the container
                continue
            if not state["Running"]:
                return int(state["ExitCode"])
            if time.monotonic() - begun > _SOON:
                return None
            time.sleep(0.02)

    def _memory(self, container: str, status: int, begun: int) -> bool:
        """Whether the kernel ended it for its memory. Docker misses the notice at times; then a kill that nobody asked
        Docker for was the kernel's."""
        state = (docker_api.inspect(container) or {}).get("State") or {}
        if state.get("OOMKilled"):
            return True
        if status != _KILLED or self.stopped or not self.body["HostConfig"].get("Memory"):
            return False
        wanted = quote(json.dumps({"container": [container], "event": ["kill"]}))
        events = docker_api.request("GET", f"/events?since={begun}&until={int(time.time()) + 1}&filters={wanted}",
                                    "tell what happened")  # fmt: skip
        return not events


def main(fd: int) -> NoReturn:
    """Run what a file describes (`Run`). Raises HostError."""
    with os.fdopen(fd) as file:
        spec = json.load(file)
    Run(**spec).go()


def notify(words: str) -> None:
    """Tell systemd (sd_notify(3))."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto(words.encode(), "\0" + place[1:] if place[0] == "@" else place)
