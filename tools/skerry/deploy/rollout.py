"""Brings workloads to hosts: placed, sent, started one failure domain at a time, put back where they do not come up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skerry.deploy import record, wanted
from skerry.deploy.desired import desired
from skerry.deploy.exchange import SECONDS, Hosts, Side, connect, encoded, lost
from skerry.deploy.kube import Place, cluster_of, places, side_of
from skerry.deploy.load import Submitted
from skerry.deploy.placement import (
    Assignment,
    ByHand,
    Chosen,
    Passed,
    candidates,
    choose,
    needs_cluster,
    zone_of,
)
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Fault, Target

#: Seconds beyond a workload's own readiness timeout until a host's answer counts as lost.
_GRACE = 60.0
#: Actions after which a host has the workload, or may have it.
_THERE = ("created", "changed", "repaired", "unchanged", "unknown", "dead", "rolled back")


@dataclass(frozen=True)
class Outcome:
    """What became of one workload on one host, or in one cluster (``cluster/NAME``).

    ``action``: created, changed, repaired, unchanged, removed, rolled back, absent, failed, unknown (host not reached),
    held (the roll-out stopped before it), dead (declared so and not reached: what it has goes when it is); in a plan
    create, change, repair, unchanged, remove.
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
        owner: whose workloads these are; by default the owner of the first.
        own: host -> workloads that are to be there as they are described here, by the host itself.
        keep: remember what is submitted as what is wanted.
        whole: the targets are all hosts of the inventory.
        by_hand: workload -> what a person says of its hosts, over what was said before.
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
    owner: str = ""
    own: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    keep: bool = True
    whole: bool = True
    by_hand: Mapping[str, ByHand] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.report = Report()
        self.owner = self.owner or self.submitted[0].owner
        self.state = wanted.read(self.inventory)
        self.withheld: set[tuple[str, str]] = set()
        self.unreached: set[str] = set()
        self.by_name = {one.name: one for one in self.submitted}
        self.places: dict[tuple[str, str], Assignment] = {}
        self.wanted: dict[str, list[dict[str, Any]]] = {}
        given = record.read(self.inventory).get(self.owner, {})
        self.given = {name: frozenset(given.get(name, [])) for name in self.by_name}
        self.fit = {one.name: self._candidates(one) for one in self.submitted}

    def _candidates(self, one: Submitted) -> tuple[list[Target], list[Passed]]:
        fit, passed = candidates(one.workload, self.targets)
        dead = [Passed(target.name, f"it was declared dead ({self.state.dead[target.name]})") for target in fit
                if target.name in self.state.dead]
        return [target for target in fit if target.name not in self.state.dead], [*passed, *dead]

    def plan(self) -> Report:
        """What would be done; nothing is changed anywhere."""
        with connect(self._involved(), self.seconds, self._clusters()) as hosts:
            return self.plan_on(hosts)

    def plan_on(self, hosts: Hosts) -> Report:
        """What would be done, asked over connections that are open."""
        self._place(hosts)
        for host, said in self._planned(hosts).items():
            self.report.outcomes += [_outcome(host, one, self.places) for one in said]
        self._unknown(hosts)
        return self._done()

    def run(self) -> Report:
        """Do it, where every workload has a place."""
        with (record.at_work(self.inventory),
              connect(self._involved(), self.seconds, self._clusters()) as hosts):  # fmt: skip
            self._place(hosts)
            self._check_room(hosts)
            self._change(hosts)
        return self._done()

    def reconcile(self, hosts: Hosts) -> Report:
        """Do it over connections that are open, each workload that has a place."""
        self._place(hosts)
        self._change(hosts)
        return self._done()

    def _change(self, hosts: Hosts) -> None:
        planned = self._planned(hosts)
        self._withhold(planned)
        self._bring_images(hosts, planned)
        for wave in self._waves(planned):
            if not self._wave(hosts, wave):
                self._put_back(hosts, planned)
                break
        self._unknown(hosts)
        self.report.bytes_sent = sum(host.sent for host in hosts.open.values())
        self.unreached = set(hosts.faults)
        self._note()

    # -- before anything is changed ------------------------------------------------------------------------------------

    def _involved(self) -> list[Target]:
        """Hosts that any workload may go to or was given to; with ``prune`` all of them."""
        names = {host for hosts in self.given.values() for host in hosts}
        names |= {host for there in self.state.leaving.get(self.owner, {}).values() for host in there}
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
            by_hand = self.by_hand.get(one.name, ByHand(self.state.pinned(self.owner, one.name)))
            chosen = choose(one.workload, one.module.form, fit, views, self.given[one.name], by_hand)
            chosen.passed = [*passed, *chosen.passed]
            self.report.chosen[one.name] = chosen
            for place in chosen.assignments:
                self.places[place.host, one.name] = place
                self.wanted.setdefault(place.host, []).append(desired(one, place))
        for host, there in self.own.items():
            self.wanted.setdefault(host, []).extend(there)

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
        name = host.target.name
        gone = {workload for workload, there in self.state.leaving.get(self.owner, {}).items() if name in there}
        # What has no place any more, or cannot be brought to its new one, stays where it is.
        kept = {workload for workload, chosen in self.report.chosen.items() if chosen.short and not chosen.assignments}
        kept |= {workload for _, workload in self.withheld}
        mine = [one for one in self.wanted.get(name, []) if (name, one["name"]) not in self.withheld]
        return {"op": op, "workloads": mine, "owner": self.owner,
                "names": sorted((set(self.by_name) | gone) - kept), "prune": self.prune}

    def _planned(self, hosts: Hosts) -> dict[str, list[dict[str, Any]]]:
        def ask(host: Side) -> list[dict[str, Any]]:
            return [one["result"] for one in host.ask(self._message("plan", host), self.seconds)]

        return hosts.each(hosts.open, ask)

    def _withhold(self, planned: dict[str, list[dict[str, Any]]]) -> None:
        """Leave hosts without what needs a secret whose value is no longer known here; what they have stays."""
        for host, said in planned.items():
            for one in [one for one in said if one["action"] in ("create", "change") and one["name"] in self.by_name]:
                if lacking := self.by_name[one["name"]].missing:
                    said.remove(one)
                    self.withheld.add((host, one["name"]))
                    fault = Fault("DEPLOY_104", f"{one['name']}: the value of {', '.join(lacking)} is not what was "
                                  "submitted, or not to be had here", "set it, or deploy the workload's file again")
                    kept = one["action"] == "change"
                    self.report.outcomes.append(Outcome(host, one["name"], "failed", error=fault, kept=kept))

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
        message = self._message("apply", host)
        mine = message["workloads"]
        blobs: dict[str, Path] = {}
        secrets = {}
        for one in mine:
            submitted = self.by_name.get(one["name"])
            blobs |= submitted.blobs if submitted else {}
            if submitted and submitted.secrets and not submitted.missing:
                secrets[one["name"]] = encoded(submitted.secrets)
        if blobs:
            self.report.files_sent += host.send_files(blobs, max(self.seconds, 300.0), self.progress)
        patience = sum((one["readiness"] or {}).get("timeout", 30.0) for one in mine) + _GRACE
        said = [one["result"] for one in host.ask({**message, "secrets": secrets}, patience)]
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

    def _put_back(self, hosts: Hosts, planned: Mapping[str, list[dict[str, Any]]]) -> None:
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
        for host, said in planned.items():
            for entry in said:
                if entry["action"] == "remove" and (host, entry["name"]) not in seen and host in hosts.open:
                    why = "the roll-out stopped: it stays"
                    self.report.outcomes.append(Outcome(host, entry["name"], "held", kept=True, why=why))

    def _rollback(self, hosts: Hosts, one: Outcome) -> list[dict[str, Any]]:
        message = {"op": "rollback", "name": one.name, "revision": ""}
        readiness = self.by_name[one.name].workload.readiness if one.name in self.by_name else None
        patience = (readiness.timeout if readiness else 30.0) + _GRACE
        return hosts.each([one.host], lambda host: list(host.ask(message, patience))).get(one.host, [])

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def _unknown(self, hosts: Hosts) -> None:
        """Hosts that were given a workload before and cannot be asked now: they keep it, and are caught up later."""
        for name, fault in hosts.faults.items():
            for workload in self.by_name:
                if name in self.state.dead and name in self.given[workload]:
                    why = "declared dead; what it has goes when it answers"
                    self.report.outcomes.append(Outcome(name, workload, "dead", why=why))
                elif (name, workload) in self.places or name in self.given[workload]:
                    said = Fault(fault.code, fault.cause, fault.remedy)
                    self.report.outcomes.append(Outcome(name, workload, "unknown", error=said))

    def _note(self) -> None:
        sides = {place.side for place in places(self.targets)}
        asked = {target.name for target in self.targets} | sides
        with record.changing(self.inventory) as notes:
            former = notes.get(self.owner, {})
            dropped = [name for name in former if self.prune and name not in self.by_name]
            left = {name: sorted(set(former[name]) & self.unreached) for name in dropped}
            given = {name: left.get(name, there) for name, there in former.items() if left.get(name, there)}
            for name in {*self.by_name, *(one["name"] for there in self.own.values() for one in there)}:
                there = {one.host for one in self.report.outcomes
                         if one.name == name and (one.kept or one.action in _THERE)
                         and (one.rung != "pod" or one.host in sides)}
                given[name] = sorted(there | (set(former.get(name, [])) - asked))
            notes[self.owner] = given
        self._keep(left)

    def _keep(self, left: Mapping[str, Sequence[str]]) -> None:
        """Remember what is wanted; ``left``: what the file no longer names, and hosts that could not be asked."""
        bad = {one.name for one in self.report.outcomes if one.action in ("failed", "held")}
        with wanted.changing(self.inventory) as state:
            for name, there in state.leaving.pop(self.owner, {}).items():
                if still := sorted(set(there) & self.unreached):
                    state.leaving.setdefault(self.owner, {})[name] = still
            for name in [*left, *(state.submitted.get(self.owner, {}) if self.prune else [])]:
                if name not in self.by_name:
                    state.drop(self.owner, name, left.get(name, []))
            for name, one in self.by_name.items():
                if self.keep and name not in bad:
                    if self.whole:
                        state.take(one)
                    elif name not in state.apart.setdefault(self.owner, []):
                        state.apart[self.owner].append(name)
                fit = {target.name for target in self.fit[name][0]}
                if state.pinned(self.owner, name) - fit - set(state.dead):
                    state.pins[self.owner][name] = sorted(state.pinned(self.owner, name) & fit)

    def _done(self) -> Report:
        self.report.faults = {host: fault for host, fault in self.report.faults.items() if host not in self.state.dead}
        for at, one in enumerate(self.report.outcomes):
            if one.action in ("remove", "removed") and not one.why:
                self.report.outcomes[at] = replace(one, why=self._why_gone(one))
        order = {target.name: at for at, target in enumerate(self.targets)}
        self.report.outcomes.sort(key=lambda one: (one.name, order.get(one.host, len(order))))
        return self.report


    def _why_gone(self, one: Outcome) -> str:
        """Why a workload leaves a host, where a person had a hand in it."""
        if one.host in self.state.dead:
            return f"declared dead ({self.state.dead[one.host]})"
        if one.host in self.state.pinned(self.owner, one.name) and one.name in self.fit:
            reason = next((passed.reason for passed in self.fit[one.name][1] if passed.host == one.host), "")
            return f"it was moved here by hand, but {reason}" if reason else ""
        return ""


def _names(passed: Iterable[Passed]) -> set[str]:
    return {one.host for one in passed}
