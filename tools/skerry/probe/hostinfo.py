"""What the probe says about its host."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

FACT_FILE = Path("/etc/ansible/facts.d/skerry.fact")

#: ELF machine numbers of the userlands that wasm or native programs are built for.
_MACHINES = {62: "x86_64", 183: "aarch64", 40: "armv7l", 243: "riscv64", 3: "i686"}


def user_arch() -> str:
    """Architecture of the userland: of the Python that runs this, since a 64-bit kernel may carry a 32-bit system."""
    with open("/proc/self/exe", "rb") as file:
        head = file.read(20)
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return _MACHINES.get(machine, platform.machine())


def fact_file(path: Path = FACT_FILE) -> dict[str, Any]:
    """Content of the fact file; {} when there is none or it is no JSON object (then the roles have not run)."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return ""


def memory_total() -> int:
    """Bytes of memory that the host may use: the machine's, or its control group's limit when that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return int(total)


def _os_name() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return platform.system()
    for line in lines:
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def emulated() -> bool:
    """True when this Python runs under qemu-user: the kernel's own architecture shows through in /proc/cpuinfo."""
    arch = user_arch()
    text = Path("/proc/cpuinfo").read_text(errors="replace")
    intel = "vendor_id" in text and ("GenuineIntel" in text or "AuthenticAMD" in text)
    if arch in ("aarch64", "armv7l") and intel:
        return True
    return Path("/proc/self/exe").resolve().name.startswith("qemu-") or "qemu-" in _maps_head()


def _maps_head() -> str:
    with open("/proc/self/maps") as file:
        return file.read(4096)


def find_command(name: str) -> str | None:
    """A command's path, looked for where administrators' PATH has it too."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")


def collect(work_dir: str) -> dict[str, Any]:
    """The fields of `skerry.targets.api.HostFacts` that do not depend on control groups."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "hostname": platform.node(),
        "arch": user_arch(),
        "kernel_arch": platform.machine(),
        "kernel": platform.release(),
        "os_name": _os_name(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": _cpu_model(),
        "memory_bytes": memory_total(),
        "root": os.geteuid() == 0,
        "machine": boot.read_text().strip() if boot.exists() else "",
        "emulated": emulated(),
        "work_dir": work_dir,
        "libc": " ".join(platform.libc_ver()),
        "fact_file": fact_file(),
    }
