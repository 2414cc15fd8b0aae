"""What is asked of workloads that are deployed: their state, their lines, and small changes by name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skerry.deploy import record, wanted
from skerry.deploy.exchange import SECONDS, Hosts, Side, connect
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
    ``dead``: hosts that a person declared dead, and since when; those that cannot be asked are no fault.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, SkerryError] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether all is well that can be asked."""
        return all(row.get("ready") for row in self.rows if row["state"] != "unknown" and "dead" not in row)


def given(notes: record.Notes, host: str, dead: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Rows for what a host was given, while it cannot be asked. ``dead``: hosts that were declared so."""
    more = {"dead": dead[host]} if dead and host in dead else {}
    return [{"host": host, "name": name, "owner": owner, "state": "dead" if more else "unknown", **more}
            for owner, known in sorted(notes.items()) for name, there in sorted(known.items()) if host in there]


def overview(targets: Sequence[Target], inventory: Sequence[str], names: Sequence[str] = (),
             seconds: float = SECONDS) -> Overview:
    """What runs where. Hosts without the role workload have nothing and are no fault."""
    with connect(targets, seconds, places(targets)) as hosts:
        return _looked(hosts, inventory, names, seconds)


def _looked(hosts: Hosts, inventory: Sequence[str], names: Sequence[str], seconds: float) -> Overview:
    """`overview` over connections that are open."""
    found = Overview()
    said = hosts.each(hosts.open, lambda host: [row for answer in host.ask({"op": "status"}, seconds)
                                                for row in answer["workloads"]])
    found.faults = {name: fault for name, fault in hosts.faults.items() if fault.code != "DEPLOY_030"}
    notes = record.read(inventory)
    found.dead = {name: since for name, since in wanted.read(inventory).dead.items() if name in hosts.names}
    for name in hosts.names:
        more = {"dead": found.dead[name]} if name in found.dead else {}
        found.rows += [{"host": name, **row, **more} for row in said.get(name, [])]
        if name in found.faults:
            found.rows += given(notes, name, found.dead)
    found.faults = {name: fault for name, fault in found.faults.items() if name not in found.dead}
    if names:
        found.rows = [row for row in found.rows if row["name"] in names]
    found.rows.sort(key=lambda row: row["name"])
    return found


def settled(targets: Sequence[Target], inventory: Sequence[str], names: Sequence[str], deadline: float,
            seconds: float = SECONDS) -> Overview:
    """What `overview` says once services and schedules are ready and jobs have run, or at ``deadline`` (of
    `time.monotonic`)."""
    with connect(targets, seconds, places(targets)) as hosts:
        while True:
            found = _looked(hosts, inventory, names, seconds)
            if all(well(row) or _over(row) for row in found.rows) or time.monotonic() > deadline:
                return found
            time.sleep(1)


def well(row: Mapping[str, Any]) -> bool:
    """Whether a row of `overview` is as its file wants it: a service or schedule ready, a job's run ended well. What
    cannot be asked counts as that."""
    if row["state"] in ("unknown", "dead"):
        return True
    return bool(row["state"] == "done" if row["kind"] == "job" else row.get("ready") or "dead" in row)


def _over(row: Mapping[str, Any]) -> bool:
    """Whether it is a job that has run, well or not."""
    return bool(row["kind"] == "job" and row["last"] and row["state"] not in ("starting", "running", "restarting"))


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
    with record.at_work(inventory):
        done = everywhere(targets, {"op": "remove", "names": [name]}, name, seconds)
        gone = set(done.asked) - set(done.faults)
        away: dict[str, list[str]] = {}
        with record.changing(inventory) as notes:
            for owner, known in notes.items():
                there = known.pop(name, None)
                left = [host for host in there or [] if host not in gone]
                if left:
                    known[name] = left
                if there is not None:
                    away[owner] = left
        with wanted.changing(inventory) as state:
            for owner in {*away, *state.submitted, *state.apart}:
                if set(left := away.get(owner, [])) <= set(done.faults):
                    state.drop(owner, name, left)
    return done


def rollback(targets: Sequence[Target], inventory: Sequence[str], name: str, revision: str,
             seconds: float = SECONDS) -> Done:
    """Bring a former revision into force wherever the workload is. From then on it is the one that is wanted."""
    with record.at_work(inventory):
        done = everywhere(targets, {"op": "rollback", "name": name, "revision": revision}, name, seconds)
        back = {host for host, said in done.results if said["action"] == "rolled back"}
        with wanted.changing(inventory) as state:
            for owner, known in record.read(inventory).items():
                if back & set(known.get(name, [])) and name not in state.by_hand.setdefault(owner, []):
                    state.by_hand[owner].append(name)
    return done
