"""Brings workloads to hosts: placed, sent, started one failure domain at a time, put back where they do not come up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.deploy import record
from skerry.deploy.desired import desired
from skerry.deploy.exchange import SECONDS, Hosts, Side, connect, encoded, lost
from skerry.deploy.kube import Place, cluster_of, places, side_of
from skerry.deploy.load import Submitted
from skerry.deploy.placement import Assignment, Chosen, Passed, candidates, choose, needs_cluster, zone_of
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Fault, Target

#: Seconds beyond a workload's own readiness timeout until a host's answer counts as lost.
_GRACE = 60.0
#: Actions after which a host has the workload, or may have it.
_THERE = ("created", "changed", "repaired", "unchanged", "unknown", "rolled back")


@dataclass(frozen=True)
class Outcome:
    """What became of one workload on one host, or in one cluster (``cluster/NAME``).

    ``action``: created, changed, repaired, unchanged, removed, rolled back, absent, failed, unknown (host not reached),
    held (the roll-out stopped before it); in a plan create, change, repair, unchanged, remove.
    """

    host: str
    name: str
    action: str
    changes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    error: Fault | None = None
    kept: bool = False
    rung: str = ""
    why: str = ""


@dataclass
class Report:
    """What a submission came to."""

    outcomes: list[Outcome] = field(default_factory=list)
    chosen: dict[str, Chosen] = field(default_factory=dict)
    faults: dict[str, SkerryError] = field(default_factory=dict)
    bytes_sent: int = 0
    files_sent: int = 0

    @property
    def failed(self) -> bool:
        """Whether anything is not as it was asked for."""
        bad = any(one.action in ("failed", "held") for one in self.outcomes)
        return bad or any(chosen.short for chosen in self.chosen.values())

    @property
    def exit_code(self) -> Exit:
        """0 all as asked for, 1 something failed, 4 a host was not reached."""
        if self.failed:
            return Exit.FAILED
        unknown = self.faults or any(one.action == "unknown" for one in self.outcomes)
        return Exit.UNREACHABLE if unknown else Exit.OK


def _outcome(host: str, said: Mapping[str, Any], places: Mapping[tuple[str, str], Assignment]) -> Outcome:
    error = said.get("error")
    place = places.get((host, said["name"]))
    return Outcome(said.get("host", host), said["name"], said["action"], said.get("changes", {}),
                   None if error is None else Fault(error["code"], error["cause"], error["remedy"]),
                   bool(said.get("kept")), place.rung if place else "", place.why if place else "")


@dataclass
class Rollout:
    """One submission on its way.

    Attributes:
        prune: also remove what the file's owner no longer names, on every host of the inventory.
        tell: called with each outcome as it comes.
        progress: called with bytes as they are sent.
    """

    targets: Sequence[Target]
    submitted: Sequence[Submitted]
    inventory: Sequence[str]
    prune: bool = False
    seconds: float = SECONDS
    tell: Callable[[Outcome], None] = lambda _: None
    progress: Callable[[int], None] = lambda _: None

    def __post_init__(self) -> None:
        self.report = Report()
        self.owner = self.submitted[0].owner
        self.by_name = {one.name: one for one in self.submitted}
        self.places: dict[tuple[str, str], Assignment] = {}
        self.wanted: dict[str, list[dict[str, Any]]] = {}
        given = record.read(self.inventory).get(self.owner, {})
        self.given = {name: frozenset(given.get(name, [])) for name in self.by_name}
        self.fit = {one.name: candidates(one.workload, self.targets) for one in self.submitted}

    def plan(self) -> Report:
        """What would be done; nothing is changed anywhere."""
        with connect(self._involved(), self.seconds, self._clusters()) as hosts:
            self._place(hosts)
            for host, said in self._planned(hosts).items():
                self.report.outcomes += [_outcome(host, one, self.places) for one in said]
            self._unknown(hosts)
        return self._done()

    def run(self) -> Report:
        """Do it."""
        with connect(self._involved(), self.seconds, self._clusters()) as hosts:
            self._place(hosts)
            self._check_room(hosts)
            planned = self._planned(hosts)
            self._bring_images(hosts, planned)
            for wave in self._waves(planned):
                if not self._wave(hosts, wave):
                    self._put_back(hosts)
                    break
            self._unknown(hosts)
            self.report.bytes_sent = sum(host.sent for host in hosts.open.values())
        self._note()
        return self._done()

    # -- before anything is changed ------------------------------------------------------------------------------------

    def _involved(self) -> list[Target]:
        """Hosts that any workload may go to or was given to; with ``prune`` all of them."""
        names = {host for hosts in self.given.values() for host in hosts}
        names |= {target.name for name, (fit, _) in self.fit.items() for target in fit
                  if self.by_name[name].workload.rung != "pod"}
        return [target for target in self.targets if self.prune or target.name in names]

    def _clusters(self, hosts: Hosts | None = None) -> list[Place]:
        """Clusters that pods go to or were given to; ``hosts``: those that only hosts' words show to be needed."""
        views = {} if hosts is None else {name: host.view for name, host in hosts.open.items()}
        known = {host for given in self.given.values() for host in given}
        needed = {cluster_of(target) for one in self.submitted for target in self.fit[one.name][0]
                  if needs_cluster(one.workload, one.module.form, target, views.get(target.name))}
        there = set() if hosts is None else set(hosts.names)
        return [place for place in places(self.targets)
                if place.side not in there and (self.prune or place.side in known or place.name in needed)]

    def _place(self, hosts: Hosts) -> None:
        hosts.join([], self._clusters(hosts), self.seconds)
        self.report.faults = hosts.faults
        views = {name: host.view for name, host in hosts.open.items()}
        for one in self.submitted:
            fit, passed = self.fit[one.name]
            chosen = choose(one.workload, one.module.form, fit, views, self.given[one.name])
            chosen.passed = [*passed, *chosen.passed]
            self.report.chosen[one.name] = chosen
            for place in chosen.assignments:
                self.places[place.host, one.name] = place
                self.wanted.setdefault(place.host, []).append(desired(one, place))

    def _check_room(self, hosts: Hosts) -> None:
        """Refuse before the first change when a workload has no place at all.

        Raises:
            SkerryError: DEPLOY_021, with the reason of every host that was passed over.
        """
        for name, chosen in self.report.chosen.items():
            asked = {side_of(cluster_of(target)) for target in self.fit[name][0]} | _names(chosen.passed)
            if chosen.short and not chosen.assignments and not asked & set(hosts.faults):
                said = "; ".join(f"{one.host}: {one.reason}" for one in chosen.passed[:8]) or "there are no hosts"
                raise SkerryError("DEPLOY_021", f"{name}: no host can run it ({said})",
                                  "change its placement or rung, or install what is missing", Exit.FAILED)

    def _message(self, op: str, host: Side) -> dict[str, Any]:
        """What a host is told of this submission."""
        return {"op": op, "workloads": self.wanted.get(host.target.name, []), "owner": self.owner,
                "names": sorted(self.by_name), "prune": self.prune}

    def _planned(self, hosts: Hosts) -> dict[str, list[dict[str, Any]]]:
        def ask(host: Side) -> list[dict[str, Any]]:
            return [one["result"] for one in host.ask(self._message("plan", host), self.seconds)]

        return hosts.each(hosts.open, ask)

    def _bring_images(self, hosts: Hosts, planned: Mapping[str, list[dict[str, Any]]]) -> None:
        """See to it that hosts have the images of what is new or changes there."""
        calm = {(host, one["name"]) for host, said in planned.items() for one in said
                if one["action"] in ("unchanged", "failed")}
        wanted = {host: [one for one in mine if one["rung"] == "container" and one["module"]["form"] == "image"
                         and (host, one["name"]) not in calm] for host, mine in self.wanted.items()}
        if any(wanted.values()):
            from skerry.deploy.images import bring_all

            bring_all(hosts, wanted)

    # -- the change ----------------------------------------------------------------------------------------------------

    def _waves(self, planned: Mapping[str, list[dict[str, Any]]]) -> list[list[str]]:
        """Hosts in the order of their change: first all where nothing that runs is replaced, then zone by zone; where
        something goes comes last, when its replacement is up. Where all is as it should be nothing is asked again."""
        zones = {target.name: zone_of(target) for target in self.targets}
        calm: list[str] = []
        leaving: list[str] = []
        by_zone: dict[str, list[str]] = {}
        for host, said in planned.items():
            actions = {one["action"] for one in said}
            if actions <= {"unchanged"}:
                self.report.outcomes += [_outcome(host, one, self.places) for one in said]
            elif "change" in actions:
                by_zone.setdefault(zones.get(host, host), []).append(host)
            elif "remove" in actions:
                leaving.append(host)
            else:
                calm.append(host)
        return [wave for wave in (calm, *by_zone.values(), leaving) if wave]

    def _apply(self, host: Side) -> list[Outcome]:
        """Change one host; what its side refuses as a whole (a full disk) has failed there, and stops the roll-out."""
        try:
            return self._changed(host)
        except SkerryError as error:
            if lost(error):
                raise
            said = Fault(error.code, error.cause, error.remedy)
            name = host.target.name
            return [Outcome(name, one["name"], "failed", error=said) for one in self.wanted.get(name, [])]

    def _changed(self, host: Side) -> list[Outcome]:
        name = host.target.name
        mine = self.wanted.get(name, [])
        blobs: dict[str, Path] = {}
        secrets = {}
        for one in mine:
            submitted = self.by_name[one["name"]]
            blobs |= submitted.blobs
            if submitted.secrets:
                secrets[one["name"]] = encoded(submitted.secrets)
        if blobs:
            self.report.files_sent += host.send_files(blobs, max(self.seconds, 300.0), self.progress)
        patience = sum((one["readiness"] or {}).get("timeout", 30.0) for one in mine) + _GRACE
        said = [one["result"] for one in host.ask({**self._message("apply", host), "secrets": secrets}, patience)]
        return [_outcome(name, one, self.places) for one in said]

    def _wave(self, hosts: Hosts, wave: Iterable[str]) -> bool:
        """Change some hosts at once; whether all came up."""
        done = hosts.each(wave, self._apply)
        fine = True
        for name in wave:
            for one in done.get(name, []):
                self.report.outcomes.append(one)
                self.tell(one)
                fine = fine and one.action != "failed"
            fine = fine and (name in done or name in hosts.faults)
        return fine

    def _put_back(self, hosts: Hosts) -> None:
        """A workload that failed somewhere goes back everywhere to what ran before; the rest of its hosts is held."""
        bad = {one.name for one in self.report.outcomes if one.action == "failed"}
        for at, one in enumerate(self.report.outcomes):
            if one.action == "changed" and one.name in bad and one.host in hosts.open:
                for answer in self._rollback(hosts, one):
                    self.report.outcomes[at] = _outcome(one.host, answer["result"], self.places)
                    self.tell(self.report.outcomes[at])
        seen = {(one.host, one.name) for one in self.report.outcomes}
        for (host, name), place in self.places.items():
            if (host, name) not in seen and host in hosts.open:
                self.report.outcomes.append(Outcome(host, name, "held", rung=place.rung, why="the roll-out stopped"))

    def _rollback(self, hosts: Hosts, one: Outcome) -> list[dict[str, Any]]:
        message = {"op": "rollback", "name": one.name, "revision": ""}
        readiness = self.by_name[one.name].workload.readiness
        patience = (readiness.timeout if readiness else 30.0) + _GRACE
        return hosts.each([one.host], lambda host: list(host.ask(message, patience))).get(one.host, [])

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def _unknown(self, hosts: Hosts) -> None:
        """Hosts that were given a workload before and cannot be asked now: they keep it, and are caught up later."""
        for name, fault in hosts.faults.items():
            for workload in self.by_name:
                if (name, workload) in self.places or name in self.given[workload]:
                    said = Fault(fault.code, fault.cause, fault.remedy)
                    self.report.outcomes.append(Outcome(name, workload, "unknown", error=said))

    def _note(self) -> None:
        sides = {place.side for place in places(self.targets)}
        asked = {target.name for target in self.targets} | sides
        with record.changing(self.inventory) as notes:
            former = notes.get(self.owner, {})
            given = {} if self.prune else former
            for name in self.by_name:
                there = {one.host for one in self.report.outcomes
                         if one.name == name and (one.kept or one.action in _THERE)
                         and (one.rung != "pod" or one.host in sides)}
                given[name] = sorted(there | (set(former.get(name, [])) - asked))
            notes[self.owner] = given

    def _done(self) -> Report:
        order = {target.name: at for at, target in enumerate(self.targets)}
        self.report.outcomes.sort(key=lambda one: (one.name, order.get(one.host, len(order))))
        return self.report


def _names(passed: Iterable[Passed]) -> set[str]:
    return {one.host for one in passed}
