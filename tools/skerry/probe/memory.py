"""Proportional set size: what a process really costs, its shared pages divided by the number of their users."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None)


def pss(pid: int) -> int | None:
    """Proportional set size of a process in bytes (smaps_rollup, Linux 4.14); None when it is gone or not ours."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):  # ended between two looks, or another user's
        return None
    return None


def total(pids: Iterable[int]) -> int:
    """Sum over processes; one that is gone counts nothing."""
    return sum(pss(pid) or 0 for pid in pids)


def descendants(ancestor: int) -> list[int]:
    """Every process below ``ancestor``, itself not included, by the parents that /proc names."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text()
        except OSError:  # ended meanwhile
            continue
        parent = int(text[text.rindex(")") + 2 :].split()[1])
        children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    queue = [ancestor]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def trim() -> None:
    """Give back what this process has freed, and keep the collector from touching what it shares with its parent."""
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Give back to the kernel what the C library's allocator has free."""
    if hasattr(_libc, "malloc_trim"):  # glibc's
        _libc.malloc_trim(0)


def resident() -> int:
    """Resident set size of this process in bytes: cheap, and good enough to see that it has grown."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
