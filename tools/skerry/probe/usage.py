"""What a run takes of its host beside time and memory: descriptors, and bytes written to file systems."""

from __future__ import annotations

import os
from collections.abc import Iterable

#: Seconds between two looks at a run that has such a limit, and at one that writes as fast as it can.
TICK, HURRY = 0.1, 0.02
#: Bytes between two looks that are as fast as it can.
_FAST = 4 << 20


def written(pid: int) -> int:
    """Bytes that a process has caused to be written to file systems so far (proc(5), ``io``); 0 once it has ended."""
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


class Usage:
    """Looks at the processes of one run."""

    def __init__(self, open_files: int | None, disk: int | None) -> None:
        self.open_files, self.disk = open_files, disk
        self.tick = TICK
        self._written: dict[int, int] = {}

    @property
    def watched(self) -> bool:
        """Whether there is anything to look for."""
        return self.open_files is not None or self.disk is not None

    def met(self, pids: Iterable[int]) -> str | None:
        """The limit that a run of these processes has come to: open_files or disk."""
        before = sum(self._written.values())
        for pid in pids:
            if self.open_files is not None and descriptors(pid) >= self.open_files:
                return "open_files"
            if self.disk is not None:
                self._written[pid] = max(self._written.get(pid, 0), written(pid))
        after = sum(self._written.values())
        self.tick = HURRY if after - before > _FAST else TICK
        return "disk" if self.disk is not None and after > self.disk else None
