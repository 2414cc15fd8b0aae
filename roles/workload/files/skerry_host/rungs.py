"""What differs between a host's rungs, in one interface; all else is the same whatever runs a workload."""

from __future__ import annotations

from typing import Any, Protocol

from . import containers, units

Desired = dict[str, Any]


class Rung(Protocol):
    """How a workload is run. Its unit, its timer, its records and its ends are systemd's on every rung."""

    def lines(self, desired: Desired) -> list[str]:
        """Lines of the unit's ``[Service]``: what is started, with which limits, kept from what."""

    def user(self, desired: Desired) -> int | None:
        """Whose the files are that the workload may write; None as long as there is no such user."""

    def prepare(self, desired: Desired) -> None:
        """Before each start, with all rights."""

    def take_down(self, desired: Desired) -> None:
        """After each end, with all rights: nothing of it runs on."""

    def address(self, desired: Desired) -> str:
        """Where it is reached from the host; "" while it does not run."""

    def memory(self, desired: Desired, unit: dict[str, str]) -> int | None:
        """Bytes that it takes now, the runtime included; ``unit``: what systemd says of its unit."""


class Process:
    """A runtime's command, in the unit itself."""

    def lines(self, desired: Desired) -> list[str]:
        """See `Rung`."""
        return units.process_lines(desired)

    def user(self, desired: Desired) -> int | None:
        """See `Rung`."""
        from . import systemd

        uid = systemd.call("show", "--property", "UID", "--value", "--", units.service(desired)).strip()
        return int(uid) if uid.isdigit() else None

    def prepare(self, desired: Desired) -> None:
        """See `Rung`."""

    def take_down(self, desired: Desired) -> None:
        """See `Rung`."""

    def address(self, _desired: Desired) -> str:
        """See `Rung`."""
        return "127.0.0.1"

    def memory(self, _desired: Desired, unit: dict[str, str]) -> int | None:
        """See `Rung`."""
        said = unit.get("MemoryCurrent", "")
        return int(said) if said.isdigit() else None


_RUNGS: dict[str, Rung] = {"process": Process(), "container": containers}


def of(desired: Desired) -> Rung:
    """The rung of a desired workload."""
    return _RUNGS[desired["rung"]]
