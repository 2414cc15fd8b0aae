"""The guard: the probe's first process. It makes the session's directory, forks the agent and outlives it.

However the agent ends - told to, its connection lost, killed - the guard removes what the session made: processes,
control groups, containers, images, pods, files. What a guard that was killed itself left is swept by the next one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from . import agent, hostinfo, memory, procs
from .cgroups import Cgroups, Group, find, kill_all
from .rungs.base import Host
from .store import Store

READY = b"SKERRY-READY\n"
_NAME = re.compile(r"skerry-([0-9a-f]{16})")


def _lock(directory: Path) -> int | None:
    """Hold the directory's lock; None when another process holds it."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _outside(session: str, work: Path) -> None:
    """Remove what a session made outside its directory: containers, images, pods, control groups."""
    from .rungs.all import ALL

    for rung in ALL:
        rung.sweep(session, work)
    version, root, _ = find(Path("/proc/self/mountinfo").read_text())
    if root is not None and os.geteuid() == 0:
        Group(version, root, "/skerry-" + session).remove(everywhere=True)


def sweep(parent: Path) -> None:
    """Remove what sessions left whose guard was killed: their directories are there and nobody holds their locks."""
    for entry in parent.glob("skerry-*"):
        found = _NAME.fullmatch(entry.name)
        if not found or not entry.is_dir() or entry.stat().st_uid != os.geteuid():
            continue
        lock = _lock(entry)
        if lock is None:
            continue
        _outside(found.group(1), entry)
        shutil.rmtree(entry, ignore_errors=True)
        os.close(lock)


def _kill_descendants() -> None:
    for _ in range(100):
        below = memory.descendants(os.getpid())
        if not below:
            return
        kill_all(below)
        time.sleep(0.005)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return


def _agent(work: Path, session: str, cgroups: Cgroups, parent: int) -> NoReturn:
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _stop)
        procs.prctl(procs.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        facts: dict[str, Any] = hostinfo.collect(str(work))
        store = Store(work / "files")
        store.directory.mkdir()
        host = Host(session, work, store, cgroups, facts)
        os.write(1, READY)
        server = agent.Agent(host, 0, 1)
        shown = {**facts, "cgroup": cgroups.version, "cgroup_reason": cgroups.reason or None}
        server.send({"op": "hello", "facts": shown, "session": session})
        server.serve()
        code = 0
    except _Stopped:
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Stopped(BaseException):
    """A signal ends the agent."""


def _stop(_number: int, _frame: Any) -> NoReturn:
    raise _Stopped


def main(work: str, session: str) -> NoReturn:
    """The life of a guard; ``work`` is the session's directory, made for it by the bootstrap."""
    directory = Path(work)
    lock = _lock(directory)
    os.umask(0o022)
    procs.adopt_orphans()
    sweep(directory.parent)
    cgroups = Cgroups(session)
    me = os.getpid()
    memory.trim()  # before any fork: a collection in a fork would else make its own copy of every page that it looks at
    pid = os.fork()
    if pid == 0:
        _agent(directory, session, cgroups, me)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(pid, signal.SIGTERM))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    code = 1
    try:
        while True:
            done, status = os.waitpid(-1, 0)
            if done == pid:
                code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
                break
    finally:
        _kill_descendants()
        _outside(session, directory)
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)
    os._exit(code)
