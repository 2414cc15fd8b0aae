"""The limits at which neither systemd nor the kernel ends a run: output, descriptors, what its directories hold."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import subprocess

#: How the watcher ends itself when it ended a run: limit -> signal. Nothing else ends it so (`_as_it_did`).
SIGNALS = {"output": signal.SIGUSR2, "memory": signal.SIGUSR1, "disk": signal.SIGPROF, "open_files": signal.SIGVTALRM,
           "file_size": signal.SIGXFSZ}
TOO_MUCH = SIGNALS["output"]
#: Seconds between two looks at a run, at one that writes as fast as it can, and between two measurements of directories
#: whatever it wrote.
TICK, HURRY, MEASURE = 0.1, 0.02, 2.0
#: Bytes between two looks that are as fast as it can.
_FAST = 4 << 20
#: Bytes that a file or a folder counts at least: even an empty one takes an inode and a place in its folder.
ENTRY = 4096
_CHUNK = 1 << 16
#: More than any disk has.
_ENDLESS = 1 << 62


def held(directories: list[str], limit: int, large: int) -> tuple[int, int]:
    """(bytes that directories take on disk, how many files in them have ``large`` bytes).

    Counting ends above ``limit``; what cannot be followed counts as all of it. Links are counted, not followed; a file
    with several names is counted once.
    """
    total, found, rest, seen = 0, 0, list(directories), set()
    while rest and total <= limit:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    about = entry.stat(follow_symlinks=False)
                    if about.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if about.st_ino in seen:
                            continue
                        seen.add(about.st_ino)
                    total += about.st_blocks * 512 + ENTRY
                    found += about.st_size >= large and entry.is_file(follow_symlinks=False)
                    if total > limit:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        rest.append(entry.path)
        except (FileNotFoundError, PermissionError):  # gone meanwhile; or not this workload's to fill
            continue
        except OSError:  # a path that became too long on purpose
            return limit + 1, found
    return total, found


def written(pid: int) -> int:
    """Bytes that a process has caused to be written to file systems so far; 0 once it has ended."""
    try:
        with open(f"/proc/{pid}/io") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("write_bytes:")), 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0


def descriptors(pid: int) -> int:
    """How many descriptors a process has open; 0 once it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0


class Watch:
    """Looks at one run. ``limits``: output, open_files, disk, file_size (None lifts one), directories that it may fill.

    The kernel ends what writes beyond file_size with a signal, but not the first process of a container: that gets an
    error and may go on. Here it is known by a file that has become as large.
    """

    def __init__(self, limits: dict[str, Any]) -> None:
        self.limits = limits
        self.directories = limits["directories"]
        self.disk, self.large = (_ENDLESS if limits[key] is None else limits[key] for key in ("disk", "file_size"))
        self.measured = bool(self.directories) and min(self.disk, self.large) < _ENDLESS
        self.had = 0  # files of that size before it started
        self.room = 0  # bytes that may still be written before directories have to be measured again
        self.at_measure = self.sofar = 0
        self.tick = TICK
        self.next = 0.0
        self.said = ""

    def before(self) -> str | None:
        """The limit that forbids to start."""
        self.had = held(self.directories, self.disk, self.large)[1] if self.measured else 0
        return self._measure(0)

    def look(self, pid: int) -> str | None:
        """The limit that the run has come to."""
        files = self.limits["open_files"]
        if files is not None and descriptors(pid) >= files:
            self.said = f"all of its {files} descriptors are in use"
            return "open_files"
        if not self.measured:
            return None
        sofar = written(pid)
        self.tick = HURRY if sofar - self.sofar > _FAST else TICK
        self.sofar = sofar
        if sofar - self.at_measure > self.room or time.monotonic() > self.next:
            return self._measure(sofar)
        return None

    def _measure(self, sofar: int) -> str | None:
        if not self.measured:
            return None
        begun = time.monotonic()
        found, large = held(self.directories, self.disk, self.large)
        took = time.monotonic() - begun
        self.next = begun + max(MEASURE, 20 * took)
        self.room, self.at_measure = self.disk - found, sofar
        where = ", ".join(self.directories)
        if found > self.disk:
            self.said = f"{where}: more than {self.disk} bytes"
            return "disk"
        if large > self.had:
            self.said = f"{where}: a file of {self.large} bytes"
            return "file_size"
        return None


def end(limit: str, why: str) -> NoReturn:
    """End this process in the way that says which limit it was."""
    sys.stderr.write(f"skerry: limits.{limit} ended it: {why}\n")
    sys.stderr.flush()
    signal.signal(SIGNALS[limit], signal.SIG_DFL)
    os.kill(os.getpid(), SIGNALS[limit])
    raise AssertionError("a signal ended it")


def _as_it_did(status: int) -> NoReturn:
    """End as the run did; a signal that would say that it met a limit becomes a shell's exit code for it."""
    if status >= 0 or (-status in SIGNALS.values() and -status != signal.SIGXFSZ):
        os._exit(status if status >= 0 else 128 - status)
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    raise AssertionError("a signal ended it")


def run(argv: list[str], limits: dict[str, Any]) -> NoReturn:
    """Become the parent of ``argv``, pass its output on, end it at its limits (`Watch`); exits as it does.

    Without a limit of its output it keeps this process's descriptors: nothing is passed on.
    """
    import subprocess  # what watches a container does without it

    watch = Watch(limits)
    if limit := watch.before():
        end(limit, watch.said)
    pipe = subprocess.PIPE if limits["output"] is not None else None
    try:
        child = subprocess.Popen(argv, stdin=0, stdout=pipe, stderr=pipe)
    except OSError as error:  # no process is left to it, or the command went
        sys.stderr.write(f"skerry: {argv[0]} cannot be started: {error.strerror}\n")
        os._exit(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda which, _: child.send_signal(which))
    limit = _see_through(child, watch)
    if limit is not None:
        child.kill()
        child.wait()
        end(limit, watch.said)
    _as_it_did(child.wait())


def _see_through(child: subprocess.Popen[bytes], watch: Watch) -> str | None:
    """Until the run has ended and all of its output is passed on; the limit that it met before."""
    counted = watch.limits["output"]
    sinks = {pipe.fileno(): at for at, pipe in enumerate((child.stdout, child.stderr), 1) if pipe is not None}
    ends = [*sinks, os.pidfd_open(child.pid)]  # its end too: it may close its output and go on
    seen, looked = 0, time.monotonic()
    while ends:
        for fd in select.select(ends, [], [], watch.tick)[0]:
            data = os.read(fd, _CHUNK) if fd in sinks else b""
            if not data:
                ends.remove(fd)
                continue
            os.write(sinks[fd], data[: max(0, counted - seen)])
            seen += len(data)
            if seen > counted:
                watch.said = f"more than {counted} bytes"
                return "output"
        if time.monotonic() - looked >= watch.tick:
            if limit := watch.look(child.pid):
                return limit
            looked = time.monotonic()
    return None
