"""What Redpanda needs of a host: instructions, address bits, slots for asynchronous I/O.

Sources: Redpanda's requirements (SSE4.2; arm64); Seastar takes its memory from a range of addresses that kernels with
39 bits do not have (Raspberry Pi OS), and some 11,000 slots of asynchronous I/O for each core. Runs on hosts, Python
3.8 or later, standard library only.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.host import Host

ADDRESS_BITS = 47
SLOTS_PER_CORE = 11100
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def look(host: Host) -> dict[str, Any]:
    """``{"sse4_2": bool | None, "address_bits": int, "aio_max": int, "aio_used": int}``; None and 0 are unknown."""
    flags = re.search(r"^flags\s*:\s*(.*)$", host.read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "sse4_2": "sse4_2" in flags.group(1).split() if flags else None,
        "address_bits": address_bits(host),
        "aio_max": _number(host, "/proc/sys/fs/aio-max-nr"),
        "aio_used": _number(host, "/proc/sys/fs/aio-nr"),
    }


def _number(host: Host, name: str) -> int:
    text = host.read(name).strip()
    return int(text) if text.isdigit() else 0


def address_bits(host: Host) -> int:
    """Bits of a process's addresses: by the kernel's configuration, else as far as this process reaches; 0: unknown.

    A program of 32 bits on a kernel of 64 (Raspberry Pi OS) sees its own 32 only, which says nothing.
    """
    release = host.read("/proc/sys/kernel/osrelease").strip()
    for name in (f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        found = re.search(r"^CONFIG_ARM64_VA_BITS=(\d+)$", host.read(name), re.MULTILINE)
        if found:
            return int(found.group(1))
    ends = re.findall(r"^[0-9a-f]+-([0-9a-f]+) .*\[(?:stack|vdso)\]$", host.read("/proc/self/maps"), re.MULTILINE)
    bits = max((int(end, 16).bit_length() for end in ends), default=0)
    return bits if bits > 32 else 0


def unable(found: dict[str, Any], machine: str) -> list[str]:
    """Why the processor or the kernel cannot run a broker; empty when they can, or when it is not known."""
    reasons = []
    if machine not in ARCHITECTURES:
        reasons.append(f"there is no Redpanda for {machine}")
    if machine == "x86_64" and found.get("sse4_2") is False:
        reasons.append("the processor lacks SSE4.2")
    if machine == "aarch64" and 0 < found.get("address_bits", 0) < ADDRESS_BITS:
        reasons.append(f"the kernel has {found['address_bits']} address bits of {ADDRESS_BITS} needed")
    return reasons
