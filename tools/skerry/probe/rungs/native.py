"""The control: a static native program, started as a process."""

from __future__ import annotations

import os
from typing import Any

from ..procs import Program, Take, execute
from .base import Host, Result, Rung, Slot, Spec, capability, from_ended


def map_arguments(args: list[str], dirs: list[tuple[str, str]]) -> list[str]:
    """Guest paths in arguments become the host's: a native program has no preopened directories."""
    mapped = []
    for arg in args:
        place = arg
        for host, guest in sorted(dirs, key=lambda pair: -len(pair[1])):
            base = guest.rstrip("/")
            if arg == guest or arg.startswith(base + "/"):
                place = host if arg == guest else host + arg[len(base) :]
                break
        mapped.append(place)
    return mapped


class _NativeSlot(Slot):
    def once(self, take: Take, memory: bool) -> Result:
        """See `Slot.once`."""
        spec = self.spec
        argv = [spec.name, *map_arguments(spec.args, self.dirs)]
        child = Program(str(self.program()), argv, dict(spec.env))
        group = self.host.cgroups.new(spec.memory)
        stdin = self.stdin()
        try:
            ended = execute(child, stdin, spec.limits, group, take, self.watch(memory, group))
            return from_ended(ended, group)
        finally:
            os.close(stdin)
            if group is not None:
                group.remove()


class Native(Rung):
    """Needs nothing but a file system that lets programs run."""

    name = "native"

    def capabilities(self, host: Host) -> list[dict[str, Any]]:
        """See `Rung.capabilities`."""
        reason: str | None = None
        if os.statvfs(host.work).f_flag & os.ST_NOEXEC:
            reason = f"{host.work} is mounted noexec; set skerry_run_dir"
        return [capability(self.name, "native", "", "native", reason)]

    def open(self, host: Host, spec: Spec) -> Slot:
        """See `Rung.open`."""
        return _NativeSlot(host, spec)
