"""Whether network policies are enforced: told from the packet filter, in time and not before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.modules import policy_probe

Answer = tuple[int, str, str]
MISSING = (1, "", "iptables: No chain/target/match by that name.\n")
NO_TABLE = (1, "", "iptables v1.8.9 (nf_tables): table `filter' does not exist\n")
NO_RIGHT = (4, "", "iptables v1.8.11 (nf_tables): Could not fetch rule set generation id: Permission denied\n")
NO_COMMAND = (257, "", "[Errno 2] No such file or directory: b'iptables'")


def host(filters: list[Answer], seconds: float | None, unit: str = "k3s") -> Callable[[list[str]], Answer]:
    """A host whose packet filter gives these answers, one after another, and whose k3s runs for so long."""

    def run(command: list[str]) -> Answer:
        if command[0] == "iptables":
            return filters.pop(0) if len(filters) > 1 else filters[0]
        running = seconds is not None and command[2] == unit
        since = int((time.monotonic() - (seconds or 0)) * 1e6)
        return 0, f"ActiveState={'active' if running else 'inactive'}\nActiveEnterTimestampMonotonic={since}\n", ""

    return run


@pytest.mark.parametrize(
    ("filters", "seconds", "enforced"),
    [
        ([(0, "-N KUBE-ROUTER-FORWARD\n", "")], 3600, True),
        ([MISSING], 3600, False),
        ([NO_TABLE], 3600, False),
        ([NO_RIGHT], 3600, None),
        ([NO_COMMAND], 3600, None),
        ([MISSING], None, None),
    ],
    ids=["there", "absent", "no table", "no right", "no iptables", "no k3s"],
)
def test_what_the_packet_filter_says(filters: list[Answer], seconds: float | None, enforced: bool | None) -> None:
    assert policy_probe.probe(host(filters, seconds)) is enforced


def test_an_agent_is_asked_as_well() -> None:
    assert policy_probe.probe(host([MISSING], 3600, "k3s-agent")) is False


def test_a_k3s_that_has_just_started_gets_time() -> None:
    naps: list[Any] = []
    assert policy_probe.probe(host([MISSING, MISSING, (0, "", "")], 2), naps.append) is True
    assert len(naps) == 2
