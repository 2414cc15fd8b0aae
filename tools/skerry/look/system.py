"""The host itself: system, load, memory, file systems, clock, control groups, kernel settings."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import time
from typing import Any

FACT_FILE = "/etc/ansible/facts.d/skerry.fact"
#: Places whose file system counts, wherever it begins.
PLACES = (
    "/",
    "/boot/firmware",
    "/var",
    "/var/log",
    "/tmp",
    "/var/tmp",
    "/var/lib/rancher",
    "/var/lib/rancher/k3s/storage",
    "/var/lib/kubelet",
    "/var/lib/docker",
    "/var/lib/containerd",
)
#: File systems of a disk, beside those that hold one of the places.
DISKS = frozenset(["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "zfs", "jfs", "tmpfs"])
#: Mount points that come and go with containers, or that the system makes for itself.
PASSING = ("/proc", "/sys", "/dev", "/run", "/var/lib/kubelet/pods", "/var/lib/docker/", "/etc/", "/snap")
SYSCTLS = (
    "net/ipv4/ip_forward",
    "fs/inotify/max_user_instances",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "kernel/pid_max",
)


def text_of(path: str) -> str | None:
    """A file's text; None where it is not there or may not be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return None


def fact_file() -> dict[str, Any]:
    """What the roles recorded on this host; {} when there is nothing, or nothing that can be read."""
    try:
        content = json.loads(text_of(FACT_FILE) or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _os_name() -> str:
    for line in (text_of("/etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def basics() -> dict[str, Any]:
    """Names, versions, load and the fact file."""
    uptime = (text_of("/proc/uptime") or "0").split()[0]
    return {
        "hostname": platform.node(),
        "os": _os_name(),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "cpus": _cpus(),
        "load": list(os.getloadavg()),
        "uptime": float(uptime),
        "root": os.geteuid() == 0,
        "fact_file": fact_file(),
        "sysctls": {name: (text_of("/proc/sys/" + name) or "").strip() for name in SYSCTLS},
        "oom_kills": _oom_kills(),
    }


def _cpus() -> float:
    """Cores that the host may use: a control group may grant less than the kernel shows."""
    shown = float(len(os.sched_getaffinity(0)))
    quota = (text_of("/sys/fs/cgroup/cpu.max") or "").split()
    if not quota:
        both = [text_of("/sys/fs/cgroup/cpu/cpu.cfs_" + name) for name in ("quota_us", "period_us")]
        quota = [(part or "").strip() for part in both]
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]):
        return min(shown, int(quota[0]) / int(quota[1]))
    return shown


def _oom_kills() -> int:
    for line in (text_of("/proc/vmstat") or "").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def memory() -> dict[str, Any]:
    """Bytes: total, available, swap; of the control group's limit where that is lower than the machine's memory."""
    values = {}
    for line in (text_of("/proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024 if rest.split() else 0
    total, available = values.get("MemTotal", 0), values.get("MemAvailable", 0)
    for limit_file, usage_file, stat_file, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        limit = (text_of("/sys/fs/cgroup/" + limit_file) or "").strip()
        usage = (text_of("/sys/fs/cgroup/" + usage_file) or "").strip()
        if limit.isdigit() and usage.isdigit() and int(limit) < total:
            stat = dict(line.split() for line in (text_of("/sys/fs/cgroup/" + stat_file) or "").splitlines())
            total = int(limit)
            available = min(available, total - int(usage) + int(stat.get(cache, 0)))
    swap = values.get("SwapTotal", 0)
    return {"total": total, "available": available, "swap": swap, "swap_free": values.get("SwapFree", 0)}


def _unescaped(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def mounts() -> list[tuple[str, str, str, str]]:
    """(source, mount point, type, options) of every mount."""
    found = []
    for line in (text_of("/proc/self/mounts") or "").splitlines():
        words = line.split()
        if len(words) >= 4:
            found.append((words[0], _unescaped(words[1]), words[2], words[3]))
    return found


def disks() -> list[dict[str, Any]]:
    """File systems that count, each once: sizes in bytes, as df counts them."""
    table = mounts()
    kinds = {point: (kind, options) for _, point, kind, options in table}
    # Asking a network file system whose server is gone would hang: `storage` looks at those.
    remote = [point for _, point, kind, _ in table if kind.startswith(("nfs", "cifs", "fuse.", "9p", "ceph"))]
    more = [point for _, point, kind, _ in table if kind in DISKS and not point.startswith(PASSING)]
    seen: set[int] = set()
    found = []
    for place in [*PLACES, *more]:
        if any(place == point or place.startswith(point.rstrip("/") + "/") for point in remote if point != "/"):
            continue
        try:
            device, sizes = os.stat(place).st_dev, os.statvfs(place)
        except OSError:
            continue
        if device in seen or not sizes.f_blocks or not os.path.isdir(place):
            continue
        seen.add(device)
        point = place
        while point not in kinds and point != "/":
            point = os.path.dirname(point)
        kind, options = kinds.get(point, ("", ""))
        used = sizes.f_blocks - sizes.f_bfree
        found.append(
            {
                "path": point,
                "type": kind,
                "size": sizes.f_blocks * sizes.f_frsize,
                "free": sizes.f_bavail * sizes.f_frsize,
                "used_percent": 100.0 * used / max(1, used + sizes.f_bavail),
                "inodes": sizes.f_files,
                "inodes_free": sizes.f_favail,
                "read_only": "ro" in options.split(","),
            }
        )
    return found


def clock() -> dict[str, Any]:
    """Whether the kernel's clock is kept in step; the time itself is taken when the report is written."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(512)  # struct timex, all zero: a question, no change
    state = libc.adjtimex(timex)
    return {"synchronised": None if state < 0 else state != 5, "timezone": time.strftime("%Z")}


def cgroups() -> dict[str, Any]:
    """The version of control groups, and whether memory can be accounted."""
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    if unified:
        controllers = (text_of("/sys/fs/cgroup/cgroup.controllers") or "").split()
    else:
        lines = (text_of("/proc/cgroups") or "").splitlines()[1:]
        controllers = [line.split()[0] for line in lines if line.split()[3:4] == ["1"]]
    return {"version": 2 if unified else 1, "controllers": controllers}
