"""Runs one program as a child of this process: its own control group and session, its output apart, its limits kept.

The child is forked and made ready first and then waits for "go": making it is not part of what is measured.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import time
from dataclasses import dataclass, field
from typing import Callable, NoReturn

from . import memory, trace
from .cgroups import Group, kill_all
from .faults import ProbeError
from .usage import Usage

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CHUNK = 1 << 16

#: What a child does after "go", given the descriptor on which it may report; it must not return.
Child = Callable[[int], NoReturn]
#: Takes output as it comes: (stream, bytes).
Take = Callable[[str, bytes], None]

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Linux's prctl(2) with one number; a kernel without the option is left as it is."""
    _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def adopt_orphans() -> None:
    """Descendants whose parents end become children of this process, so that none can slip away."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


@dataclass
class Limits:
    """Seconds, bytes, bytes of both streams together, descriptors, bytes written to files; None: no limit."""

    timeout: float | None = None
    memory: int | None = None
    output: int | None = None
    open_files: int | None = None
    disk: int | None = None


@dataclass
class Ended:
    """How a child ended. Times are of the monotonic clock in nanoseconds; ``first_ns`` is the first byte of output."""

    go_ns: int = 0
    first_ns: int | None = None
    end_ns: int = 0
    exit_code: int | None = None
    signal: int | None = None
    limit: str | None = None
    report: bytes = b""
    pss: int | None = None
    maxrss: int = 0
    extra: dict[str, float] = field(default_factory=dict)


class Program:
    """A child that becomes the program at ``path``; a failure to do so is reported with its errno.

    Until it has, its memory is that of this process, and is not counted.
    """

    def __init__(self, path: str, argv: list[str], env: dict[str, str]) -> None:
        self.path, self.argv, self.env = path, argv, env

    def __call__(self, report: int) -> NoReturn:
        try:
            os.execve(self.path, self.argv, self.env)
        except OSError as error:
            os.write(report, b"exec %d" % (error.errno or 0))
        os._exit(127)


def become(
    stdin: int, out: int, err: int, parent: int, group: Group | None, open_files: int | None = None,
    disk: int | None = None,
) -> None:  # fmt: skip
    """Turn a fresh fork into a run's own process: its signals, session, control group, standard descriptors, and what
    the kernel itself holds it to: descriptors and the size of a file (SIGXFSZ, which Python had switched off).

    Raises:
        OSError: the control group does not take it.
    """
    signal.set_wakeup_fd(-1)
    for number in (
        signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGHUP, signal.SIGXFSZ,
    ):  # fmt: skip
        signal.signal(number, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(126)
    os.setsid()
    if group is not None:
        group.enter()
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory runs out it is this program that goes, not the probe
    for source, target in ((stdin, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    for which, limit in ((resource.RLIMIT_NOFILE, open_files), (resource.RLIMIT_FSIZE, disk)):
        if limit is not None:
            hard = resource.getrlimit(which)[1]
            least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(which, (least, least))


class Execution:
    """One child from its fork to its end."""

    def __init__(self, child: Child, stdin: int, limits: Limits, group: Group | None, take: Take, watch: float) -> None:
        """``watch``: seconds between two looks at proportional set sizes (and one at the end), 0 for none."""
        self.limits, self.group, self.take, self.watch = limits, group, take, watch
        self.ended = Ended()
        self.seen = 0
        self.usage = Usage(limits.open_files, limits.disk)
        self.status: int | None = None
        self.pipes: dict[int, str] = {}
        #: Its memory is its own. A program has no use for the report: its end of that pipe closes when it begins.
        self.begun = not isinstance(child, Program)
        self.resident = memory.resident()
        #: Siblings that stay: without a control group, a run's own processes are known only by not being these.
        self.kept = frozenset(memory.descendants(os.getpid())) if group is None else frozenset()
        self.wake, wake_write = os.pipe()
        for end in (self.wake, wake_write):
            os.set_blocking(end, False)
        self.old_wake = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self.old_handler = signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wake_write = wake_write
        self.pid, self.go = self._fork(child, stdin)

    def _fork(self, child: Child, stdin: int) -> tuple[int, int]:
        out, out_write = os.pipe()
        err, err_write = os.pipe()
        report, report_write = os.pipe()
        ready, ready_write = os.pipe()
        go_read, go = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                limits = self.limits
                become(stdin, out_write, err_write, parent, self.group, limits.open_files, limits.disk)
                for fd in (out, err, report, ready, go, out_write, err_write, self.wake, self.wake_write):
                    os.close(fd)
                os.write(ready_write, b"r")
                os.close(ready_write)
                if os.read(go_read, 1) == b"g":
                    child(report_write)
            except BaseException as error:  # nothing of the parent's may run on in this process
                os.write(report_write, (f"setup {error}").encode())
            os._exit(126)
        for fd in (out_write, err_write, report_write, ready_write, go_read):
            os.close(fd)
        self.pipes = {out: "stdout", err: "stderr", report: "report"}
        os.read(ready, 1)  # "r", or nothing when it died: the report says why
        os.close(ready)
        return pid, go

    def run(self) -> Ended:
        """Say "go" and see it through to the end, whatever that is."""
        try:
            if self.watch:
                trace.seize(self.pid)
            self.ended.go_ns = time.monotonic_ns()
            os.write(self.go, b"g")
            self._pump()
            self._finish()
        finally:
            if self.status is None:  # this process is being ended itself
                self._kill()
            self._close()
        self._judge()
        return self.ended

    def _pump(self) -> None:
        poll = select.poll()
        for fd in (*self.pipes, self.wake):
            poll.register(fd, select.POLLIN)
        timeout = self.limits.timeout
        deadline = None if timeout is None else self.ended.go_ns / 1e9 + timeout
        while self.status is None:
            events = poll.poll(self._pause(deadline))
            for fd, _ in events:
                if fd == self.wake:
                    os.read(fd, 4096)
                    self._reap()
                elif not self._read(fd):
                    poll.unregister(fd)
                    self.begun = self.begun or self.pipes[fd] == "report"
            if self.status is None:
                self._look(deadline)
            if self.ended.limit:
                return

    def _pause(self, deadline: float | None) -> float | None:
        """Milliseconds until something has to be looked at though nothing comes."""
        waits = []
        if deadline is not None:
            waits.append(max(0.0, deadline - time.monotonic()))
        if self.watch:
            waits.append(self.watch)
        elif self.limits.memory is not None:
            waits.append(0.05)
        if self.usage.watched:
            waits.append(self.usage.tick)
        return None if not waits else min(waits) * 1000 + 0.5

    def _look(self, deadline: float | None) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            self.ended.limit = "timeout"
            return
        if self.watch and self.begun:
            pids = self.group.pids() if self.group is not None else [self.pid, *memory.descendants(self.pid)]
            use = memory.total(pids)
            self.ended.pss = max(self.ended.pss or 0, use)
            if self.group is None and self.limits.memory is not None and use > self.limits.memory:
                self.ended.limit = "memory"
        if self.group is not None and self.limits.memory is not None and self.group.oom_kills():
            self.ended.limit = "memory"
        if self.usage.watched and self.ended.limit is None:
            self.ended.limit = self.usage.met(self.group.pids() if self.group is not None else [self.pid])

    def _read(self, fd: int) -> bool:
        """Take what is there; False at its end."""
        data = os.read(fd, CHUNK)
        if not data:
            return False
        name = self.pipes[fd]
        if name == "report":
            self.ended.report += data
            return True
        if self.ended.first_ns is None and name == "stdout":
            self.ended.first_ns = time.monotonic_ns()
        limit = self.limits.output
        if limit is not None and self.seen + len(data) > limit:
            data = data[: max(0, limit - self.seen)]
            self.ended.limit = self.ended.limit or "output"
        self.seen += len(data)
        if data:
            self.take(name, data)
        return True

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | trace.WALL)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self.begun = self.begun or (pid == self.pid and trace.became(status))
                size = trace.stopped(pid, status)
                if self.begun:
                    self.ended.pss = max(self.ended.pss or 0, size) or None
            elif pid == self.pid and self.status is None:
                self.ended.end_ns = time.monotonic_ns()
                # The kernel's peak is also that of the fork: only one above it is the program's.
                peak = usage.ru_maxrss * 1024
                self.ended.maxrss = peak if peak > self.resident else 0
                self.status = status

    def _finish(self) -> None:
        """Nothing of the run lives on; what it had written before is read to the end."""
        self._kill()
        deadline = time.monotonic() + 2
        while self.status is None and time.monotonic() < deadline:
            select.select([self.wake], [], [], 0.05)
            self._reap()
        self.ended.end_ns = self.ended.end_ns or time.monotonic_ns()
        for fd in self.pipes:
            os.set_blocking(fd, False)
            try:
                while self._read(fd):
                    continue
            except BlockingIOError:  # some process still holds it open: nothing more is waited for
                continue

    def _kill(self) -> None:
        if self.group is not None:
            if self.status is None or self.group.pids():
                self.group.kill(self._reap)
            return
        for _ in range(50):
            pids = memory.descendants(os.getpid())
            pids = [pid for pid in pids if pid not in self.kept and not (pid == self.pid and self.status is not None)]
            if not pids:
                return
            kill_all(pids)
            time.sleep(0.002)
            self._reap()

    def _reap_rest(self) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return

    def _close(self) -> None:
        signal.set_wakeup_fd(self.old_wake)
        signal.signal(signal.SIGCHLD, self.old_handler)
        for fd in (*self.pipes, self.wake, self.wake_write, self.go):
            os.close(fd)
        self._reap_rest()

    def _judge(self) -> None:
        """From the wait status and the group's counters to what ended it."""
        ended = self.ended
        if ended.report.startswith(b"setup "):
            raise ProbeError(
                "PROBE_002",
                "a run could not be set up: " + ended.report[6:].decode(errors="replace"),
                "look at the host's limits (processes, control groups) and try again",
            )
        if ended.limit is None and self.group is not None and self.group.oom_kills():
            ended.limit = "memory"
        if ended.limit is None and self.status is not None:
            if os.WIFSIGNALED(self.status):
                ended.signal = os.WTERMSIG(self.status)
                if ended.signal == signal.SIGXFSZ and self.limits.disk is not None:
                    ended.limit, ended.signal = "disk", None
            else:
                ended.exit_code = os.WEXITSTATUS(self.status)
        if ended.report.startswith(b"exec "):
            number = int(ended.report[5:])
            raise ProbeError(
                "RUN_010",
                f"the host cannot start the program: {os.strerror(number)}",
                "give a static build for the host's architecture"
                if number in (errno.ENOEXEC, errno.ENOENT)
                else "look at the host's mount options (noexec) and security policy",
            )


def execute(child: Child, stdin: int, limits: Limits, group: Group | None, take: Take, watch: float = 0.0) -> Ended:
    """Run ``child`` to its end; see `Execution`."""
    return Execution(child, stdin, limits, group, take, watch).run()
