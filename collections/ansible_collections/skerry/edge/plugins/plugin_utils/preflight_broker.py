"""Preflight's checks for the broker (role redpanda). Pure Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.broker_host import SLOTS_PER_CORE, unable
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_model import (
    ERROR,
    WARNING,
    Problem,
    Report,
    cluster_check,
    host_check,
)

MB = 1024 * 1024


def obstacles(report: Report) -> list[tuple[str, str]]:
    """[(why the host cannot carry a broker, what to do)]."""
    found, system = report.probe.get("broker") or {}, report.probe["system"]
    remedies = {
        "SSE4.2": "set the virtual machine's processor to x86-64-v2 or host, or name another host in redpanda_hosts",
        "address bits": "boot a kernel with 48 bits (Debian's or Ubuntu's for arm64), or name another host in "
        "redpanda_hosts",
    }
    result = [
        (why, next((text for word, text in remedies.items() if word in why), "name another host in redpanda_hosts"))
        for why in unable(found, system["machine"])
    ]
    have, need = report.probe["memory"]["effective"] // MB, report.settings.get("broker_memory_min_mb", 0)
    if have < need:
        result.append(
            (f"{have} MB of memory, a broker needs a host of {need} MB", "give it more memory, or name another host")
        )
    return result


@host_check("PREFLIGHT_051", ERROR, "Host cannot carry the broker")
def broker_host(report: Report) -> Iterator[Problem]:
    """Redpanda needs x86-64 with SSE4.2, or arm64 with 47 or more address bits (Raspberry Pi OS has 39), and memory.
    Asked of the hosts in `redpanda_hosts`; all others just get no broker."""
    if report.settings.get("broker") == "named":
        for why, remedy in obstacles(report):
            yield Problem(f"no broker can run here: {why}", remedy)


@host_check("PREFLIGHT_052", ERROR, "Too few slots for asynchronous I/O")
def broker_aio(report: Report) -> Iterator[Problem]:
    """Redpanda takes some 11,000 slots for each core (`fs.aio-max-nr`); a container cannot raise the host's number.
    host_tuning raises it on hosts of more than 1100 MB. Asked of the hosts in `redpanda_hosts`."""
    found = report.probe.get("broker") or {}
    if report.settings.get("broker") != "named" or not found.get("aio_max") or report.settings["sysctl_managed"]:
        return
    need = SLOTS_PER_CORE * report.probe["cpu"]["cores"]
    left = found["aio_max"] - found["aio_used"]
    if left < need:
        yield Problem(
            f"{left} slots for asynchronous I/O are free, a broker takes up to {need}",
            "raise fs.aio-max-nr to 1048576, or switch host_tuning's sysctls on",
        )


@cluster_check("PREFLIGHT_053", WARNING, "No host can carry the broker")
def broker_nowhere(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """Redpanda is wanted, no host is named for it, and none of the cluster's suits it: the role would stop later. Shown
    once, at the first of them."""
    possible = [report for report in reports if report.settings.get("broker") == "possible" and report.probe]
    found = {report.name: obstacles(report) for report in possible}
    if possible and all(found.values()):
        reasons = "; ".join(f"{name}: {why[0][0]}" for name, why in list(found.items())[:3])
        yield Problem(
            f"no host of the cluster can carry Redpanda ({reasons})",
            "add a host that can, or set redpanda_state: unmanaged",
            host=possible[0].name,
        )
