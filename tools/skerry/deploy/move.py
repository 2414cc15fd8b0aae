"""One replica from one host to another, by hand and without a gap: the new one is ready before the old one goes."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.deploy import record, wanted
from skerry.deploy.exchange import SECONDS, Hosts
from skerry.deploy.load import Submitted
from skerry.deploy.placement import ByHand
from skerry.deploy.rollout import Report, Rollout
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target


class _Move(Rollout):
    """A roll-out of what is there already that differs in one place."""

    source: str
    to: str

    def _check_room(self, hosts: Hosts) -> None:
        """Refuse before the first change.

        Raises:
            SkerryError: the reason why a host cannot be asked; DEPLOY_114 where the new host cannot take it.
        """
        for host in (self.source, self.to):
            if host in hosts.faults:
                raise hosts.faults[host]
        [(name, chosen)] = self.report.chosen.items()
        going = {place.host for place in chosen.assignments}
        if self.to not in going or self.source in going:
            said = {passed.host: passed.reason for passed in chosen.passed}
            reason = said.get(self.to, chosen.short or "there are not enough hosts for its replicas")
            raise SkerryError("DEPLOY_114", f"{name} cannot go to {self.to}: {reason}",
                              "skerry deploy FILE --dry-run shows which hosts it may have", Exit.FAILED)


def move(targets: Sequence[Target], inventory: Sequence[str], name: str, source: str, to: str,
         seconds: float = SECONDS) -> Report:
    """Move a replica. Where the new one does not come up, the old one stays and nothing is noted.

    Raises:
        SkerryError: DEPLOY_110 to DEPLOY_114, and those of hosts that cannot be asked: nothing was changed.
    """
    one = _movable(inventory, name, source, to, {target.name for target in targets})
    pinned = wanted.read(inventory).pinned(one.owner, name)
    by_hand = ByHand((pinned - {source}) | {to}, frozenset({source}))
    rollout = _Move(targets, [one], inventory, seconds=seconds, keep=False, by_hand={name: by_hand})
    rollout.source, rollout.to = source, to
    report = rollout.run()
    if not report.failed:
        with wanted.changing(inventory) as state:
            state.pins.setdefault(one.owner, {})[name] = sorted(by_hand.to)
    return report


def _movable(inventory: Sequence[str], name: str, source: str, to: str, known: set[str]) -> Submitted:
    """The workload on ``source`` as it was submitted, where moving it makes sense."""
    if strangers := [host for host in (source, to) if host not in known]:
        raise SkerryError("DEPLOY_110", f"the inventory has no host {', '.join(strangers)}",
                          "skerry inventory graph shows the names")
    state, notes = wanted.read(inventory), record.read(inventory)
    owners = [owner for owner, given in notes.items() if source in given.get(name, [])]
    if not owners or name not in state.submitted.get(owners[0], {}):
        raise SkerryError("DEPLOY_111", f"nobody gave {source} a workload {name} from here",
                          "skerry ps shows what there is; deploy its file from here first", Exit.FAILED)
    owner = owners[0]
    if state.of_hosts(owner, name):
        raise SkerryError("DEPLOY_112", f"{name} was rolled back, or deployed to some hosts only",
                          "deploy its file to all of its hosts, then move it", Exit.FAILED)
    one = wanted.restore(owner, state.submitted[owner][name][0])
    taken = to in notes[owner][name]
    reason = ("one is on each host that fits: there is nothing to choose" if one.workload.placement.replicas == "each"
              else "its pods are where Kubernetes places them" if one.workload.rung == "pod"
              else "a job has run: skerry job run starts it again" if one.workload.kind == "job"
              else f"{to} was declared dead" if to in state.dead
              else f"{to} has one already" if taken or source == to else "")
    if reason:
        raise SkerryError("DEPLOY_113", f"{name} cannot be moved to {to}: {reason}",
                          "give its placement a number of replicas and more hosts than that, or choose another host")
    return one
