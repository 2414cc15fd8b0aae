"""What modules read of a host: files below a root, commands, memory, block devices.

Runs on the hosts: Python 3.8 or later, standard library only. Every path goes through ``Host.path`` so that tests can
give the tree of another distribution.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NO_LIMIT = 1 << 60  # cgroup v1 says 0x7ffffffffffff000 for "no limit"
SD_CARD = re.compile(r"^mmcblk\d+")
COMMAND_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Host:
    """The host that the module runs on, or a copy of its files below ``root``."""

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)
        self.real = str(self.root) == "/"

    def path(self, name: str) -> Path:
        """Where the absolute path ``name`` lies below the root."""
        return self.root / name.lstrip("/")

    def read(self, name: str, default: Any = "") -> Any:
        """Text of a file; ``default`` where it is absent or may not be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return default

    def exists(self, name: str) -> bool:
        """Whether the path is there, be it a dangling link."""
        return os.path.lexists(self.path(name))

    def run(self, *argv: str, timeout: float = 10) -> tuple[int, str, str]:
        """(return code, standard output, standard error); 127 where the command is absent, 124 where it took too
        long."""
        if not self.real:
            return 127, "", "not a real host"
        environment = dict(os.environ, LC_ALL="C", PATH=":".join(COMMAND_FOLDERS))
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=timeout, check=False, env=environment, errors="replace"
            )
        except FileNotFoundError:
            return 127, "", f"{argv[0]}: not found"
        except subprocess.TimeoutExpired:
            return 124, "", f"{argv[0]}: no answer within {timeout} s"
        except OSError as error:
            return 126, "", str(error)
        return done.returncode, done.stdout, done.stderr

    def feed(self, text: str, *argv: str) -> tuple[int, str]:
        """Run a command with ``text`` on its standard input: (return code, standard error)."""
        environment = dict(os.environ, LC_ALL="C", PATH=":".join(COMMAND_FOLDERS))
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        return done.returncode, done.stderr

    def command(self, name: str) -> bool:
        """Whether a command of that name is installed."""
        return any(os.access(self.path(f"{folder}/{name}"), os.X_OK) for folder in COMMAND_FOLDERS)

    def key_values(self, name: str) -> dict[str, str]:
        """A file of ``KEY=value`` lines (os-release) as a dict, quotes removed."""
        values = {}
        for line in self.read(name).splitlines():
            key, separator, value = line.partition("=")
            if separator and not line.lstrip().startswith("#"):
                values[key.strip()] = value.strip().strip("\"'")
        return values

    def in_container(self) -> str:
        """Kind of container that this host is (``docker``, ``lxc``, ...), '' on a machine of its own."""
        if self.exists("/run/systemd/container"):
            return self.read("/run/systemd/container").strip() or "container"
        for item in self.read("/proc/1/environ").split("\0"):
            if item.startswith("container="):
                return item.partition("=")[2] or "container"
        return "docker" if self.exists("/.dockerenv") else ""

    def machine(self) -> str:
        """Architecture of the kernel, as ``uname -m`` says."""
        return platform.machine() if self.real else self.read("/proc/sys/kernel/arch").strip()

    def board(self) -> str:
        """Model of the board by the device tree, '' elsewhere."""
        return self.read("/proc/device-tree/model").strip("\0\n ")


def memory(host: Host) -> dict[str, int]:
    """Memory in bytes: ``{"total", "effective"}``; effective is what the cgroups around the host leave of it."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", host.read("/proc/meminfo"), re.MULTILINE)
    total = int(found.group(1)) * 1024 if found else 0
    limits = [limit for limit in _cgroup_limits(host) if 0 < limit < NO_LIMIT]
    return {"total": total, "effective": min([total, *limits]) if total else 0}


def _cgroup_limits(host: Host) -> Iterator[int]:
    """Memory limits in bytes of the cgroup of this process and of those above it."""
    for line in host.read("/proc/self/cgroup").splitlines():
        _number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, name = (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("/sys/fs/cgroup", "memory.max")
        )
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            text = host.read("/".join([folder, *parts[:depth], name])).strip()
            if text.isdigit():
                yield int(text)


def cgroup(host: Host) -> dict[str, Any]:
    """``{"version": 1 | 2, "controllers": [...]}`` of the hierarchy that services use."""
    unified = host.read("/sys/fs/cgroup/cgroup.controllers", None)
    if unified is not None:
        return {"version": 2, "controllers": sorted(unified.split())}
    enabled = []
    for line in host.read("/proc/cgroups").splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[3] == "1":
            enabled.append(fields[0])
    return {"version": 1, "controllers": sorted(enabled)}


def mount_of(host: Host, name: str) -> dict[str, str]:
    """Mount that holds ``name``: ``{"mount", "type", "source", "device", "options"}``; the longest mount point wins."""
    best = {"mount": "", "type": "", "source": "", "device": "", "options": ""}
    for line in host.read("/proc/self/mountinfo").splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if not separator or len(fields) < 6 or len(tail) < 3:
            continue
        point = fields[4].replace("\\040", " ")
        inside = point in (name, "/") or name.startswith(point + "/")
        if inside and len(point) >= len(best["mount"]):  # the last mount on a point hides the earlier ones
            options = fields[5] + "," + tail[2]
            best = {"mount": point, "type": tail[0], "source": tail[1], "device": fields[2], "options": options}
    return best


def on_sd_card(host: Host, device: str) -> bool:
    """Whether the block device ``major:minor`` is an SD card or eMMC."""
    link = host.path(f"/sys/dev/block/{device}")
    return bool(device) and bool(SD_CARD.match(Path(os.path.realpath(link)).name))


def listeners(host: Host) -> dict[str, list[str]]:
    """Ports in use: ``{"6443/tcp": [socket inode, ...]}`` from /proc/net, both families."""
    taken: dict[str, list[str]] = {}
    for protocol, wanted in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in host.read(f"/proc/net/{protocol}").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == wanted:
                port = int(fields[1].rpartition(":")[2], 16)
                taken.setdefault(f"{port}/{protocol[:3]}", []).append(fields[9])
    return taken


def holders(host: Host, inodes: list[str]) -> list[str]:
    """Names of the processes that hold these sockets; empty where they may not be seen."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    names = set()
    for process in host.path("/proc").glob("[0-9]*"):
        try:
            if any(str(os.readlink(handle)) in wanted for handle in (process / "fd").iterdir()):
                names.add((process / "comm").read_text(encoding="utf-8").strip())
        except OSError:
            continue  # the process has ended, or belongs to another user
    return sorted(names)
