"""One fork in which an engine stays loaded and runs a module again and again: how time is sampled on rung embedded."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from .. import memory
from ..procs import CHUNK, Take, become
from ..traps import from_signal
from .base import Result
from .outcomes import fill

if TYPE_CHECKING:
    from .embedded import _EmbeddedSlot


#: Seconds after "go" during which output is left in the pipe.
QUIET = 0.001
#: Bytes by which the fork may stay larger between two runs: an interpreter's form of a large module is 100 MB, and the
#: other rungs of a small host need them.
GROWN = 24 << 20


class Resident:
    """The fork and the descriptors to it."""

    def __init__(self, slot: _EmbeddedSlot) -> None:
        self.slot = slot
        self.group = slot.host.cgroups.new(slot.spec.memory)
        self.pid = 0
        self._start()

    def _start(self) -> None:
        out, out_write = os.pipe()
        err, err_write = os.pipe()
        self.link, theirs = socket.socketpair()
        gc.collect()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                null = os.open(os.devnull, os.O_RDONLY)
                become(null, out_write, err_write, parent, self.group)
                self.link.close()
                self._serve(theirs)
            finally:
                os._exit(125)
        for fd in (out_write, err_write):
            os.close(fd)
        theirs.close()
        self.pipes = {out: "stdout", err: "stderr"}
        for fd in self.pipes:
            os.set_blocking(fd, False)
        self.link.recv(1)  # it has warmed up

    def _serve(self, link: socket.socket) -> NoReturn:
        slot = self.slot
        slot.warm()
        gc.disable()
        size = memory.resident()
        link.sendall(b"r")
        while link.recv(1) == b"g":
            stdin = slot.stdin()
            os.dup2(stdin, 0)
            os.close(stdin)
            slot.warm()  # the sleep before has cooled the caches: the engine, not this module, is woken here
            outcome = slot.engine.invoke(slot.module, slot.spec.mode, slot.wasi, False)
            link.sendall(json.dumps(vars(outcome)).encode() + b"\n")
            if memory.resident() > size + GROWN:
                memory.give_back()
        os._exit(0)

    def sample(self, take: Take) -> Result:
        """One run; a limit or a crash ends the fork, and the next sample gets a new one."""
        if self.pid == 0:
            self._start()
        result = Result(started_ns=time.monotonic_ns())
        try:
            self.link.sendall(b"g")
        except BrokenPipeError:  # ended between two samples: a host out of memory takes it first
            self.close()
            self._start()
            result = Result(started_ns=time.monotonic_ns())
            self.link.sendall(b"g")
        answer, first = self._wait(result, take)
        end = time.monotonic_ns()
        result.seconds = (end - result.started_ns) / 1e9
        result.cold_seconds = ((first or end) - result.started_ns) / 1e9
        if answer is None:
            self._lost(result)
        else:
            fill(result, answer)
        return result

    def _wait(self, result: Result, take: Take) -> tuple[dict[str, Any] | None, int | None]:
        limits = self.slot.spec.limits
        deadline = None if limits.timeout is None else time.monotonic() + limits.timeout
        poll = select.poll()
        for fd in (*self.pipes, self.link.fileno()):
            poll.register(fd, select.POLLIN)
        # Being woken by output would take the processor from a program of some tens of microseconds: for the first
        # millisecond only the end is waited for, and a run shorter than that has its first byte there.
        select.select([self.link], [], [], QUIET)
        line, seen, first = b"", 0, None
        while not line.endswith(b"\n"):
            wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = poll.poll(wait)
            now = time.monotonic_ns()
            if not events:
                result.limit = "timeout"
                return None, first
            ready = [fd for fd, _ in events]
            if first is None and any(self.pipes.get(fd) == "stdout" for fd in ready):
                first = now
            if self.link.fileno() in ready:
                piece = self.link.recv(CHUNK)
                if not piece:
                    self._drain(take, None)
                    return None, first
                line += piece
            seen += self._drain(take, None if limits.output is None else limits.output - seen)
            if limits.output is not None and seen > limits.output:
                result.limit = "output"
                return None, first
        self._drain(take, None)
        return json.loads(line), first

    def _drain(self, take: Take, room: int | None) -> int:
        """Take what lies in the pipes; its size."""
        size = 0
        for fd, name in self.pipes.items():
            try:
                while data := os.read(fd, CHUNK):
                    size += len(data)
                    take(name, data)
                    if room is not None and size > room:
                        return size
            except BlockingIOError:
                continue
        return size

    def _lost(self, result: Result) -> None:
        """The fork is to go, or has gone: of the limit that was noticed, of the kernel's, or of a signal."""
        if result.limit is None and self.group is not None and self.group.oom_kills():
            result.limit = "memory"
        status = self.close()
        if result.limit is None:
            result.trap = from_signal(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None
            result.exit_code = None if result.trap else os.WEXITSTATUS(status)
        self.group = self.slot.host.cgroups.new(self.slot.spec.memory)

    def close(self) -> int:
        """End the fork; its wait status."""
        if self.pid == 0:
            return 0
        pid, self.pid = self.pid, 0
        for fd in self.pipes:
            os.close(fd)
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            time.sleep(0.002)  # one that died by itself shall keep its own status
            done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        self.link.close()
        if self.group is not None:
            self.group.remove()
        return status
