"""What is asked of workloads that are deployed: their state, their lines, and small changes by name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skerry.deploy import record
from skerry.deploy.exchange import SECONDS, Side, connect
from skerry.deploy.kube import places
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target

#: Seconds that a change by name may take on a host: readiness and the end of what ran before.
_PATIENCE = 300.0


@dataclass
class Overview:
    """What hosts have.

    ``rows``: the objects of the host's side with ``host``; a host that cannot be asked has one row of state ``unknown``
    for each workload that it was given.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, SkerryError] = field(default_factory=dict)


def given(notes: record.Notes, host: str) -> list[dict[str, Any]]:
    """Rows for what a host was given, while it cannot be asked."""
    return [{"host": host, "name": name, "owner": owner, "state": "unknown"}
            for owner, known in sorted(notes.items()) for name, there in sorted(known.items()) if host in there]


def overview(targets: Sequence[Target], inventory: Sequence[str], names: Sequence[str] = (),
             seconds: float = SECONDS) -> Overview:
    """What runs where. Hosts without the role workload have nothing and are no fault."""
    found = Overview()
    with connect(targets, seconds, places(targets)) as hosts:
        said = hosts.each(hosts.open, lambda host: [row for answer in host.ask({"op": "status"}, seconds)
                                                    for row in answer["workloads"]])
        found.faults = {name: fault for name, fault in hosts.faults.items() if fault.code != "DEPLOY_030"}
    notes = record.read(inventory)
    for name in hosts.names:
        found.rows += [{"host": name, **row} for row in said.get(name, [])]
        if name in found.faults:
            found.rows += given(notes, name)
    if names:
        found.rows = [row for row in found.rows if row["name"] in names]
    found.rows.sort(key=lambda row: row["name"])
    return found


def until_ended(targets: Sequence[Target], inventory: Sequence[str], names: Sequence[str], deadline: float,
                seconds: float = SECONDS) -> Overview:
    """What `overview` says of jobs once their runs have ended, or at ``deadline`` (of `time.monotonic`)."""
    while True:
        found = overview(targets, inventory, names, seconds)
        if all(run_ended(row) for row in found.rows) or time.monotonic() > deadline:
            return found
        time.sleep(1)


def run_ended(row: Mapping[str, Any]) -> bool:
    """Whether a job of `overview` has run; what cannot be asked is not waited for."""
    if row["state"] == "unknown":
        return True
    return row["last"] is not None and row["state"] not in ("starting", "running", "restarting")


@dataclass
class Done:
    """Answers by host or cluster, those that were not reached, and all that were asked."""

    results: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    faults: dict[str, SkerryError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> Exit:
        """0, 1 when something failed or was nowhere, 4 when a host was not reached."""
        if any(said["action"] == "failed" for _, said in self.results) or not (self.touched or self.faults):
            return Exit.FAILED
        return Exit.UNREACHABLE if self.faults else Exit.OK

    @property
    def touched(self) -> list[str]:
        """Hosts that had it."""
        return [host for host, said in self.results if said["action"] not in ("absent", "not a service")]


def everywhere(targets: Sequence[Target], message: Mapping[str, Any], name: str, seconds: float = SECONDS) -> Done:
    """Ask every host that has a workload to do one thing with it."""
    done = Done()

    def ask(host: Side) -> list[Mapping[str, Any]]:
        if name not in host.view.running:
            return []
        return [answer["result"] for answer in host.ask(message, _PATIENCE)]

    with connect(targets, seconds, places(targets)) as hosts:
        said = hosts.each(hosts.open, ask)
        done.faults = {host: fault for host, fault in hosts.faults.items() if fault.code != "DEPLOY_030"}
    done.asked = hosts.names
    for host in hosts.names:
        done.results += [(host, one) for one in said.get(host, [])]
    return done


def undeploy(targets: Sequence[Target], inventory: Sequence[str], name: str, seconds: float = SECONDS) -> Done:
    """Take a workload away from these hosts, whoever owns it. One that cannot be asked is remembered."""
    done = everywhere(targets, {"op": "remove", "names": [name]}, name, seconds)
    gone = set(done.asked) - set(done.faults)
    with record.changing(inventory) as notes:
        for given in notes.values():
            left = [host for host in given.pop(name, []) if host not in gone]
            if left:
                given[name] = left
    return done
