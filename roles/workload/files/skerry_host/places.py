"""Where everything of a workload lies on its host."""

from __future__ import annotations

import os
from pathlib import Path

#: Moved by tests only.
_ROOT = os.environ.get("SKERRY_HOST_ROOT", "")
#: A folder of its own: what other roles note lies beside it.
STATE = Path(_ROOT + "/var/lib/skerry/deployed")
STORE = STATE / "store"
WORKLOADS = STATE / "workloads"
LOCK = STATE / "lock"
UNITS = Path(_ROOT + "/etc/systemd/system")
RUN = Path(_ROOT + "/run/skerry/deployed")
FACTS = Path(_ROOT + "/etc/ansible/facts.d/skerry.fact")
COMMAND = "/usr/local/sbin/skerry-host"
#: First line of every unit that is ours.
MARK = "# Written by Skerry for a deployed workload; changes are lost.\n"


def folder(name: str) -> Path:
    """All of one workload."""
    return WORKLOADS / name


def write(path: Path, text: str, mode: int = 0o644) -> bool:
    """Write a file beside its place and rename it there; False when it had that content and mode already."""
    data = text.encode()
    if path.exists() and path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(fd, mode)
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    part.replace(path)
    return True
