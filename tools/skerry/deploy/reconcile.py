"""Every workload of an inventory in its wanted state again, without its file: from what was submitted (`wanted`), else
from what each host says that it was told to have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from skerry.deploy import record, wanted
from skerry.deploy.exchange import SECONDS, Host, Hosts, connect
from skerry.deploy.kube import places
from skerry.deploy.load import Submitted
from skerry.deploy.rollout import Report, Rollout
from skerry.deploy.wanted import Wanted
from skerry.errors import SkerryError
from skerry.targets.api import Target

Desired = dict[str, Any]
#: host -> workload -> what it was told to have.
Own = Mapping[str, Mapping[str, Desired]]


def declare(targets: Sequence[Target], inventory: Sequence[str], dead: Iterable[str], alive: Iterable[str]) -> None:
    """Remember hosts that a person declares dead, or alive again.

    Raises:
        SkerryError: DEPLOY_101 for a host that the inventory does not have, DEPLOY_102 for one that is both.
    """
    dead, alive = set(dead), set(alive)
    state = wanted.read(inventory)
    known = {target.name for target in targets}
    if strangers := sorted((dead - known) | (alive - known - set(state.dead))):
        raise SkerryError("DEPLOY_101", f"the inventory has no host {', '.join(strangers)}",
                          "skerry inventory graph shows the names")
    if both := sorted(dead & alive):
        raise SkerryError("DEPLOY_102", f"{', '.join(both)} cannot be dead and alive", "name it once")
    if dead or alive:
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        with wanted.changing(inventory) as changed:
            changed.dead = {host: changed.dead.get(host, now)
                            for host in sorted((set(changed.dead) | dead) - alive)}


def reconcile(targets: Sequence[Target], inventory: Sequence[str], seconds: float = SECONDS,
              dry_run: bool = False) -> Report:
    """Bring everything about that was submitted from here, and repair what only hosts know of.

    A host that is declared dead and answers loses what it has, once others have it. Hosts that do not answer are
    unknown, as ever; they are caught up by the next one.
    """
    report = Report()
    with record.at_work(inventory), connect(targets, seconds, places(targets)) as hosts:
        for name in [name for name, fault in hosts.faults.items() if fault.code == "DEPLOY_030"]:
            if not any(name in there for given in record.read(inventory).values() for there in given.values()):
                del hosts.faults[name]  # it never had a workload
        own = _own(hosts, seconds)
        for rollout in _rollouts(targets, inventory, own, seconds):
            _add(report, rollout.plan_on(hosts) if dry_run else rollout.reconcile(hosts))
        if not report.faults:
            dead = wanted.read(inventory).dead
            report.faults = {name: fault for name, fault in hosts.faults.items() if name not in dead}
        report.bytes_sent = sum(side.sent for side in hosts.open.values())
    return report


def _own(hosts: Hosts, seconds: float) -> Own:
    """What each host was told to have; clusters keep their revisions to themselves."""
    names = [name for name, side in hosts.open.items() if isinstance(side, Host)]
    said = hosts.each(names, lambda side: [one["desired"] for one in side.ask({"op": "desired"}, seconds)])
    return {host: {one["name"]: one for one in there} for host, there in said.items()}


def _rollouts(targets: Sequence[Target], inventory: Sequence[str], own: Own, seconds: float) -> Iterator[Rollout]:
    """One for each owner, of what is wanted and of what hosts alone know."""
    state = wanted.read(inventory)
    owners = {one["owner"] for there in own.values() for one in there.values()}
    for owner in sorted(owners | set(state.submitted) | set(state.leaving)):
        submitted = list(_submitted(state, owner, own))
        known = {one.name for one in submitted}
        theirs: dict[str, list[Desired]] = {}
        for host, there in own.items():
            if host in state.dead:
                continue
            leaving = {name for name, left in state.leaving.get(owner, {}).items() if host in left}
            theirs[host] = [one for name, one in there.items()
                            if one["owner"] == owner and name not in known | leaving]
        if submitted or any(theirs.values()) or state.leaving.get(owner):
            yield Rollout(targets, submitted, inventory, seconds=seconds, owner=owner, own=theirs, keep=False)


def _submitted(state: Wanted, owner: str, own: Own) -> Iterator[Submitted]:
    """What is wanted of an owner's; of what was rolled back, the submission that hosts went back to."""
    for name, documents in sorted(state.submitted.get(owner, {}).items()):
        if name in state.apart.get(owner, []):
            continue
        if name in state.by_hand.get(owner, []):
            there = [one[name] for one in own.values() if name in one and one[name]["owner"] == owner]
            if (found := wanted.in_force(owner, documents, there)) is not None:
                yield found
        else:
            yield wanted.restore(owner, documents[0])


def _add(report: Report, more: Report) -> None:
    report.outcomes += more.outcomes
    report.chosen |= more.chosen
    report.faults = dict(more.faults)
    report.files_sent += more.files_sent
