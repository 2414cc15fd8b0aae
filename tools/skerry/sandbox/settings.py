"""Kernel settings of this machine: noted before hosts can change them, put back when the last host is gone.

One of them the sandbox changes itself: how far the disk reads ahead.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from skerry.sandbox.engine import RUN, machine_lock
from skerry.sandbox.keys import write_if_changed

NOTE = RUN / "settings.json"
#: kB that the disk reads ahead at most while there are hosts: the kernel's default (VM_READAHEAD_PAGES), which boards
#: have. With the megabytes of some cloud machines every page fault of a program in a full host of 512 MB reads that
#: much and evicts as much, and the host does little else any more.
READ_AHEAD_KB = 128
#: Counters and one-way switches: nothing to put back.
_VOLATILE = re.compile(
    r"kernel/(random/|ns_last_pid|hostname|domainname|pty/nr|perf_event|sched_domain|osrelease|version|tainted|"
    r"cap_last_cap|modules_disabled|kexec_load_disabled|usermodehelper/)|fs/(dentry-state|file-nr|inode-|quota/|binfmt_misc/|"
    r"mqueue/|aio-nr)|vm/(stat_refresh|drop_caches|compact_memory|nr_hugepages)"
)


def sysctls() -> dict[Path, str]:
    """Settings under kernel, fs and vm that a host could change for the whole machine, and their text."""
    base, values = Path("/proc/sys"), {}
    for family in ("kernel", "fs", "vm"):
        for path in sorted((base / family).rglob("*")):
            name = str(path.relative_to(base))
            if (
                _VOLATILE.match(name)
                or not path.is_file()
                or not path.stat().st_mode & 0o200
                or not path.stat().st_mode & 0o400
            ):
                continue
            try:
                values[path] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):  # some refuse to be read: nothing to note
                continue
    return values


def read_ahead(folder: Path) -> Path | None:
    """The setting (kB) of the disk on which ``folder`` lies; None where no single disk has it."""
    try:
        number = folder.stat().st_dev
    except OSError:  # Docker Engine is on another machine, or in another file system than this process
        return None
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    disks = (Path("/sys/block", name, "queue", "read_ahead_kb") for name in (device.name, device.parent.name))
    return next((disk for disk in disks if disk.exists()), None)  # of the device, or of the disk that it is a part of


def prepare(folder: Path) -> list[str]:
    """Note the settings before the first sandbox changes any, and limit the read-ahead of the disk with ``folder``.

    Only root can put them back, so only root notes and changes them.

    Returns:
        ``name: before -> now`` of what was changed, for people to read.
    """
    if os.geteuid() != 0:
        return []
    with machine_lock():  # noted beside another command's change, the changed value would count as the former one
        return _prepare(read_ahead(folder))


def _prepare(ahead: Path | None) -> list[str]:
    noted = _noted() if NOTE.exists() else {str(path): text for path, text in sysctls().items()}
    before = ahead.read_text(encoding="ascii") if ahead else ""
    if ahead:
        noted.setdefault(str(ahead), before)
    NOTE.parent.mkdir(mode=0o755, exist_ok=True)
    write_if_changed(NOTE, json.dumps(noted, indent=1))
    return [_write(ahead, f"{READ_AHEAD_KB}\n")] if ahead and int(before) > READ_AHEAD_KB else []


def _noted() -> dict[str, str]:
    found: dict[str, str] = json.loads(NOTE.read_text(encoding="utf-8"))
    return found


def changed() -> list[str]:
    """``name: before -> now`` of what the sandbox itself has changed and not put back yet."""
    noted = _noted() if NOTE.exists() else {}
    disks = {name: before.strip() for name, before in noted.items() if name.startswith("/sys/")}
    now = {name: Path(name).read_text(encoding="ascii").strip() for name in disks if Path(name).exists()}
    return [f"{name}: {disks[name]} -> {text}" for name, text in now.items() if text != disks[name]]


def restore() -> list[str]:
    """Put back what differs from the note and drop the note.

    Returns:
        ``name: before -> now`` of each, for people to read.
    """
    with machine_lock():
        return _restore() if NOTE.exists() else []


def _restore() -> list[str]:
    restored = []
    for name, before in _noted().items():
        path = Path(name)
        try:
            differs = path.read_text(encoding="utf-8") != before
        except OSError:  # gone with its module or its disk
            continue
        if differs:
            restored.append(_write(path, before))
    NOTE.unlink()
    return restored


def _write(path: Path, text: str) -> str:
    now = path.read_text(encoding="utf-8").strip()
    name = str(path).removeprefix("/proc/sys/")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return f"{name}: stays {now} ({error.strerror})"
    return f"{name}: {now} -> {text.strip()}"
