"""The control group that the kubelet makes for a pod, found by the pod's uid, whatever driver and version made it."""

from __future__ import annotations

import os
from pathlib import Path

from .cgroups import Group, find


class PodGroup:
    """Looked for when the container has started; its figures are kept when it goes."""

    def __init__(self) -> None:
        self.uid = ""
        self.version, self.root, _ = find(Path("/proc/self/mountinfo").read_text())
        self.group: Group | None = None
        self.peak: int | None = None
        self.oom_kills = 0

    def find(self) -> None:
        """cgroupfs: ``kubepods/<class>/pod<uid>``; systemd: ``kubepods.slice/.../kubepods-<class>-pod<uid>.slice``."""
        if self.root is None or not self.uid or self.group is not None:
            return
        names = (f"pod{self.uid}", f"pod{self.uid.replace('-', '_')}.slice")
        for top in ("kubepods", "kubepods.slice"):
            for directory, below, _ in os.walk(self.root / top):
                for name in below:
                    if name.endswith(names):
                        relative = "/" + str(Path(directory, name).relative_to(self.root))
                        self.group = Group(self.version, self.root, relative)
                        return

    def of_process(self, pid: int, container: str) -> None:
        """Where the kubelet's group is not above the container (a runtime with another driver): the container's own.

        Its name has the container's id. A process that has ended meanwhile is shown in the root of a hierarchy of
        version 1, and its number may be another's by now: neither is the container.
        """
        if self.root is None:
            return
        try:
            text = Path("/proc", str(pid), "cgroup").read_text()
        except OSError:  # it has ended already
            return
        for line in text.splitlines():
            _, controllers, relative = line.split(":", 2)
            mine = "memory" in controllers.split(",") if self.version == 1 else not controllers
            if not mine or container not in relative:
                continue
            if not (self.group is not None and relative.startswith(self.group.relative + "/")):
                self.group = Group(self.version, self.root, relative.removesuffix(" (deleted)"))
                return

    def look(self) -> None:
        """Note the peak so far: a container's own group goes with it."""
        if self.group is not None:
            self.peak = max(self.peak or 0, self.group.peak() or 0) or None

    def pids(self) -> list[int]:
        self.find()
        return [] if self.group is None else self.group.pids()

    def last_look(self) -> None:
        """Read what can be read before the kubelet removes it."""
        self.find()
        if self.group is not None:
            self.look()
            self.oom_kills = max(self.oom_kills, self.group.oom_kills())
