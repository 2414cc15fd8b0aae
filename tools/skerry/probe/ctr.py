"""containerd's events on the node, as ``k3s ctr events`` tells them: when a container was made, started, ended - to the
nanosecond and by the runtime itself, where a pod's status comes a second late and is rounded to seconds."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .crilog import nanoseconds, to_monotonic
from .faults import ProbeError
from .procs import PR_SET_PDEATHSIG, prctl

NAMESPACE = "k8s.io"
#: Seconds after its start by which ``ctr events`` listens; it says nothing when it does.
LISTENS_AFTER = 0.5
_IN_MODIFY = 2
_libc = ctypes.CDLL(None, use_errno=True)
_LINE = re.compile(r"^(\d{4}-\d\d-\d\d) (\S+) ([+-]\d{4}) \S+ k8s\.io (/\S+) (\{.*\})$")


def run(k3s: str, *words: str) -> str:
    """``k3s ctr``; its output. Raises ProbeError when it fails."""
    command = [k3s, "ctr", "-n", NAMESPACE, *words]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-400:]
        raise ProbeError(
            "RUN_025", f"k3s ctr {words[0]} {words[1]} failed: {said}", "journalctl -u k3s on the host says more"
        )
    return done.stdout.decode("utf-8", "replace")


@dataclass
class Event:
    """``at_ns``: of the monotonic clock, when containerd published it."""

    topic: str
    at_ns: int
    body: dict[str, Any]


def parse(line: str) -> Event | None:
    """One line of ``ctr events``; None when it is none."""
    found = _LINE.match(line)
    if found is None:
        return None
    date, clock, zone, topic, body = found.groups()
    stamp = f"{date}T{clock}{zone[:3]}:{zone[3:]}"
    return Event(topic, to_monotonic(nanoseconds(stamp)), json.loads(body))


class Watcher:
    """One ``ctr events`` for a session, whatever the number of its pods: it is a k3s of 22 MB. It writes to a file that
    `Events` follow, and ends with the process that made it."""

    def __init__(self, k3s: str, directory: Path) -> None:
        self.path = directory / "containerd-events"
        self.path.touch()
        self.running = True
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == parent:
                    null, file = os.open(os.devnull, os.O_RDWR), os.open(self.path, os.O_WRONLY | os.O_APPEND)
                    for source, target in ((null, 0), (file, 1), (null, 2)):
                        os.dup2(source, target)
                    os.execv(k3s, [k3s, "ctr", "-n", NAMESPACE, "events"])
            finally:
                os._exit(127)
        self.since = time.monotonic()

    def alive(self) -> bool:
        """Whether it still runs; to be asked by the process that made it."""
        self.running = self.running and os.waitpid(self.pid, os.WNOHANG)[0] == 0
        return self.running


class Events:
    """Follows a watcher's file from its present end; ``fd`` is readable when something was added."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        time.sleep(max(0.0, watcher.since + LISTENS_AFTER - time.monotonic()))
        self.file = os.open(watcher.path, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(self.file, 0, os.SEEK_END)
        self.fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or _libc.inotify_add_watch(self.fd, os.fsencode(watcher.path), _IN_MODIFY) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), "inotify")
        self.rest = b""

    def read(self) -> list[Event]:
        """What has come; [] when nothing has.

        Raises:
            ProbeError: containerd's events have ended.
        """
        with suppress(BlockingIOError):
            os.read(self.fd, 1 << 16)
        data = os.read(self.file, 1 << 20)
        if not data:
            if _ended(self.watcher.pid):
                raise ProbeError(
                    "RUN_025", "containerd's events ended", "systemctl status k3s (or k3s-agent) on the host"
                )
            return []
        *lines, self.rest = (self.rest + data).split(b"\n")
        parsed = (parse(line.decode("utf-8", "replace")) for line in lines)
        return [event for event in parsed if event is not None]

    def close(self) -> None:
        for fd in (self.file, self.fd):
            if fd >= 0:
                os.close(fd)
        self.file = self.fd = -1


def _ended(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
