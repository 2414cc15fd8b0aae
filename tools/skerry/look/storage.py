"""Network file systems: whether this host can mount them, and whether those that are mounted still answer."""

from __future__ import annotations

import glob
import os
import select
import shutil
from typing import Any

from .services import PATH
from .system import mounts, text_of

#: Seconds that a mounted network file system has to answer.
STAT_SECONDS = 3.0


def _answers(point: str) -> bool:
    """Whether a file system answers: asked by a child, which may hang in the kernel for ever without harm."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.statvfs(point)
            os.write(writing, b"y")
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], STAT_SECONDS)
        return bool(ready) and os.read(reading, 1) == b"y"
    finally:
        os.close(reading)
        os.waitpid(pid, os.WNOHANG)


def network_mounts() -> list[dict[str, Any]]:
    """Mounted NFS: source, mount point, whether it answers."""
    found = []
    for source, point, kind, _ in mounts():
        if kind in ("nfs", "nfs4"):
            found.append({"source": source, "point": point, "answers": _answers(point)})
    return found


def nfs() -> dict[str, Any]:
    """What this host has for NFS: the mount helper, the kernel's part, processes that hang."""
    kinds = (text_of("/proc/filesystems") or "").split()
    stuck = 0
    for path in glob.glob("/proc/[0-9]*/stat"):
        fields = (text_of(path) or "").rpartition(")")[2].split()
        stuck += fields[:1] == ["D"]
    modules = f"/lib/modules/{os.uname().release}/kernel/fs/nfs"
    return {
        "helper": shutil.which("mount.nfs", path=PATH) is not None,
        "kernel": "nfs" in kinds or "nfs4" in kinds or os.path.isdir(modules),
        "mounts": network_mounts(),
        "stuck": stuck,
    }
