"""Control groups, versions 1 and 2: one for each run, made by root; limits, peaks and a sure kill come from them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

#: Exit code of a process that SIGKILL ended, as a shell, Docker and containerd give it.
KILLED = 128 + signal.SIGKILL
#: Part of a limit that counts as all of it: the kernel charges memory in batches of 64 pages a core.
_FULL = 0.98


def full(peak: int | None, limit: int | None) -> bool:
    """Whether a group came to its memory limit: a kill that nobody here asked for was the kernel's then."""
    return peak is not None and limit is not None and peak >= limit * _FULL


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL to each; one that has ended meanwhile is passed over."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:  # the file belongs to another kernel's version, or the group is gone: both mean "not known"
        return None


def _number(text: str | None, key: str = "") -> int | None:
    """A number alone in a file, or the one after ``key`` in a file of pairs."""
    if text is None:
        return None
    if not key:
        text = text.strip()
        return int(text) if text.isdigit() else None
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[0] == key and parts[1].isdigit():
            return int(parts[1])
    return None


def find(mountinfo: str) -> tuple[int, Path | None, str]:
    """(version, mount point of the memory controller, reason when none) from the text of /proc/self/mountinfo."""
    unified: Path | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup" and "memory" in kind[2].split(","):
            return 1, Path(fields[4]), ""
        if kind[0] == "cgroup2":
            unified = Path(fields[4])
    if unified is None:
        return 0, None, "no control group file system is mounted"
    if "memory" not in (_read(unified / "cgroup.controllers") or "").split():
        return (
            0,
            None,
            "the kernel's memory controller is switched off (cgroup_enable=memory on the kernel command line)",
        )
    return 2, unified, ""


def mounts(mountinfo: str) -> list[Path]:
    """Mount points of every control group hierarchy."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith(("cgroup ", "cgroup2 ")):
            found.append(Path(before.split()[4]))
    return found


def _remove(path: Path) -> None:
    """Remove a group and those below; a group is busy for some milliseconds after its last process."""
    deadline = time.monotonic() + 5
    while path.exists():
        for directory, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                continue
            except OSError:
                if time.monotonic() > deadline:
                    raise
        if path.exists():
            time.sleep(0.002)


class Group:
    """One control group. ``relative`` is its path below the hierarchy's root, as Docker's CgroupParent wants it."""

    def __init__(self, version: int, root: Path, relative: str) -> None:
        self.version = version
        self.root = root
        self.relative = relative
        self.path = root / relative.lstrip("/")

    def make(self, memory: int | None = None) -> Group:
        """Make it, with a limit in bytes where one is given (swap included).

        Raises:
            OSError: not allowed here, or the name is taken.
        """
        self.path.mkdir()
        if self.version == 2 and self.path.parent == self.root:
            (self.path / "cgroup.subtree_control").write_text("+memory")
        if memory is not None:
            self._limit(memory)
        return self

    def _limit(self, memory: int) -> None:
        if self.version == 1:
            (self.path / "memory.limit_in_bytes").write_text(str(memory))
            swap = self.path / "memory.memsw.limit_in_bytes"
            if swap.exists():  # absent when the kernel does not account swap
                swap.write_text(str(memory))
            return
        (self.path / "memory.max").write_text(str(memory))
        (self.path / "memory.oom.group").write_text("1")
        swap = self.path / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")

    def enter(self) -> None:
        """Move the calling process into it."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self) -> list[int]:
        """Every process in it and in the groups below."""
        found: list[int] = []
        for directory, _, files in os.walk(self.path):
            if "cgroup.procs" in files:
                found += [int(pid) for pid in (_read(Path(directory) / "cgroup.procs") or "").split()]
        return found

    def peak(self) -> int | None:
        """Highest use in bytes since it was made; None where the kernel does not say (version 2 before 5.19)."""
        return _number(_read(self.path / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")))

    def current(self) -> int | None:
        return _number(_read(self.path / ("memory.usage_in_bytes" if self.version == 1 else "memory.current")))

    def oom_kills(self) -> int:
        """How many processes of it, and of groups below, the kernel killed because of a memory limit."""
        total = 0
        for directory, _, files in os.walk(self.path):
            name = "memory.oom_control" if self.version == 1 else "memory.events.local"
            if name in files:
                total += _number(_read(Path(directory) / name), "oom_kill") or 0
        if self.version == 2:
            total = max(total, _number(_read(self.path / "memory.events"), "oom_kill") or 0)
        return total

    def kill(self, reap: Callable[[], None] | None = None) -> None:
        """Kill all in it, descendants that appear meanwhile included; returns when it is empty (or after 5 s).

        ``reap`` is called between two looks: a tracer has to let its processes end.
        """
        everything = self.path / "cgroup.kill"
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            pids = self.pids()
            if not pids:
                return
            if everything.exists():
                everything.write_text("1")
            kill_all(pids)
            time.sleep(0.002)
            if reap is not None:
                reap()

    def remove(self, everywhere: bool = False) -> None:
        """Kill what is in it, then remove it and the groups below; nothing happens when it is gone already.

        Args:
            everywhere: also the groups of the same name in version 1's other hierarchies (Docker makes them).
        """
        if self.path.exists():
            self.kill()
            _remove(self.path)
        if everywhere and self.version == 1:
            for mount in mounts(Path("/proc/self/mountinfo").read_text()):
                other = mount / self.relative.lstrip("/")
                if other.exists():
                    _remove(other)


class Cgroups:
    """The groups of one session: ``skerry-<session>`` at the hierarchy's root, one group below it for each run."""

    def __init__(self, session: str) -> None:
        self.version, root, self.reason = find(Path("/proc/self/mountinfo").read_text())
        self.session: Group | None = None
        self._count = 0
        if root is None:
            return
        if os.geteuid() != 0:
            self.version, self.reason = 0, "only root can make control groups"
            return
        group = Group(self.version, root, "/skerry-" + session)
        try:
            if self.version == 2:
                (root / "cgroup.subtree_control").write_text("+memory")
            group.make()
        except OSError as error:
            self.version, self.reason = 0, f"a control group cannot be made: {error}"
            if group.path.exists():
                os.rmdir(group.path)
            return
        self.session = group

    def new(self, memory: int | None = None) -> Group | None:
        """A fresh group for one run; None when this session has none (`reason` says why)."""
        if self.session is None:
            return None
        self._count += 1
        name = f"{self.session.relative}/{os.getpid()}-{self._count}"
        return Group(self.session.version, self.session.root, name).make(memory)

    def remove(self) -> None:
        """Kill everything of the session and remove its groups."""
        if self.session is not None:
            self.session.remove(everywhere=True)
