"""Brings one workload of a cluster to what it should be: planned by the server itself, watched until it is ready, put
back where it does not come up."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from skerry.deploy.desired import changes
from skerry.deploy.kube import pods as seen
from skerry.deploy.kube import render, revisions
from skerry.deploy.kube.cluster import MANAGED, NAMESPACE, Cluster, Object
from skerry.deploy.kube.revisions import History
from skerry.errors import Exit, SkerryError

#: Seconds between two looks at a roll-out.
_TICK = 0.25
#: Seconds of a pod's lines that are read again while a line is waited for.
_LATELY = 10
#: Kinds of which a workload has at most one object, that go when a revision no longer has them.
_KINDS = ("Deployment", "DaemonSet", "CronJob", "Service", "PodDisruptionBudget", "NetworkPolicy")
#: Runs of former revisions that are kept beside the newest one.
_RUNS = 4
#: What the server adds to objects.
_SERVERS = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
_ADDED = ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")
Desired = dict[str, Any]
Outcome = dict[str, Any]


def outcome(name: str, action: str, **more: Any) -> Outcome:
    """What became of a workload, as hosts say it."""
    return {"name": name, "action": action, **more}


def mine(name: str) -> dict[str, str]:
    """Labels of all objects of a workload."""
    return {render.INSTANCE: name, **MANAGED}


def without(desired: Desired, lacking: Iterable[str]) -> Desired:
    """The same revision, kept from nodes that cannot run it yet."""
    left = [node for node in desired["pods"]["nodes"] if node not in set(lacking)]
    return {**desired, "pods": {**desired["pods"], "nodes": left}}


# -- before anything is changed ----------------------------------------------------------------------------------------


def _bare(item: Object) -> Object:
    """An object without what the server adds of itself."""
    meta = {key: value for key, value in item["metadata"].items() if key not in _SERVERS}
    notes = {key: value for key, value in (meta.get("annotations") or {}).items() if key not in _ADDED}
    rest = {key: value for key, value in item.items() if key != "status"}
    return {**rest, "metadata": {**meta, "annotations": notes}}


def _foreign(cluster: Cluster, item: Object) -> SkerryError:
    kind, name = item["kind"], item["metadata"]["name"]
    return SkerryError("DEPLOY_082", f"cluster {cluster.name} has a {kind} {name} that is not Skerry's",
                       "give the workload another name, or delete that one first", Exit.FAILED)


def differs(cluster: Cluster, desired: Desired, namespace: bool = True) -> bool:
    """Whether the server would change anything; it checks every object as if it were applied.

    Raises:
        SkerryError: DEPLOY_081 (the server refuses), DEPLOY_082 (an object of that name is somebody else's).
    """
    different = False
    for item in render.objects(desired):
        kind, name = item["kind"], item["metadata"]["name"]
        if not namespace:
            # Before the namespace is there the server checks the same object in one that always is.
            elsewhere = {**item, "metadata": {**item["metadata"], "namespace": "default"}}
            cluster.apply(elsewhere, dry_run=True, namespace="default")
            different = True
            continue
        there = cluster.find(kind, name)
        labels = {} if there is None else there["metadata"].get("labels") or {}
        if there is not None and any(labels.get(key) != value for key, value in mine(desired["name"]).items()):
            raise _foreign(cluster, item)
        if there is not None and kind == "Job":
            continue  # what has run, has run
        told = cluster.apply(item, dry_run=True)
        different = different or there is None or _bare(there) != _bare(told)
    return different


def plan(cluster: Cluster, history: History | None, desired: Desired, namespace: bool) -> Outcome:
    """What `Roll.run` would do with a workload; nothing is changed."""
    name = desired["name"]
    old = history.current if history else None
    if old is not None and old["owner"] != desired["owner"]:
        error = SkerryError("DEPLOY_083", f"{name} in cluster {cluster.name} belongs to {old['owner']}, not to "
                            f"{desired['owner']}", "give it another name, or undeploy the other one first", Exit.FAILED)
        return outcome(name, "failed", error=error.as_dict(), kept=True)
    try:
        different = differs(cluster, desired, namespace)
    except SkerryError as error:
        if error.exit_code == Exit.UNREACHABLE:
            raise
        return outcome(name, "failed", error=error.as_dict(), kept=old is not None)
    if old is None:
        return outcome(name, "create", changes=changes(None, desired))
    if old["revision"] != desired["revision"]:
        return outcome(name, "change", changes=changes(old, desired))
    return outcome(name, "repair" if different else "unchanged")


# -- the change --------------------------------------------------------------------------------------------------------


@dataclass
class _Progress:
    """How far a roll-out is; ``mark`` changes with each step of it."""

    done: bool
    mark: tuple[int, ...]


def _progress(item: Object, away: int) -> _Progress:
    """Of a Deployment or a DaemonSet; ``away``: pods of nodes that are lost, which nobody can wait for."""
    status, spec, meta = item.get("status") or {}, item["spec"], item["metadata"]
    if item["kind"] == "DaemonSet":
        keys = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        wanted, updated, available = (int(status.get(key, 0)) for key in keys)
        total = wanted
    else:
        wanted, away = int(spec["replicas"]), 0
        updated, available, total = (
            int(status.get(key, 0)) for key in ("updatedReplicas", "availableReplicas", "replicas"))
    seen_by_controller = int(status.get("observedGeneration", 0)) >= int(meta["generation"])
    done = seen_by_controller and min(updated, available) + away >= wanted and total <= wanted
    return _Progress(done, (int(seen_by_controller), updated, available, total))


@dataclass
class Roll:
    """One workload on its way in one cluster.

    Attributes:
        lost: nodes that are not Ready.
        contents: the Secret and the ConfigMap of the revision; () when the cluster has them.
    """

    cluster: Cluster
    history: History
    desired: Desired
    lost: frozenset[str] = frozenset()
    contents: Iterable[Object] = ()
    _matched: set[str] = field(default_factory=set)
    _read: set[str] = field(default_factory=set)
    _began: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The workload's."""
        return str(self.desired["name"])

    def run(self) -> None:
        """Apply it and wait until it is ready.

        Raises:
            SkerryError: DEPLOY_087 when it does not become ready, DEPLOY_081 when the server refuses it.
        """
        for item in self.contents:
            self.cluster.apply(item)
        line = self._line()
        if line is not None and self.history.current is not None:
            self._try_first(line)
        for item in render.objects(self.desired):
            self.cluster.apply(self._widened(item))
        if self.desired["kind"] == "service":
            self._settle(line)
            if self._away():
                self.cluster.apply(render.objects(self.desired)[-1])

    def put_back(self, former: Desired | None) -> bool:
        """Bring back what was there before; whether that runs."""
        if former is None:
            take_away(self.cluster, self.name)
            return False
        back = Roll(self.cluster, self.history, former, self.lost)
        for item in render.objects(former):
            self.cluster.apply(item)
        self._remove_stale(former)
        try:
            if former["kind"] == "service":
                back._settle()
        except SkerryError as error:
            if error.exit_code == Exit.UNREACHABLE:
                raise
            return False
        return True

    def restart(self) -> None:
        """Replace its pods. The mark that does it is another manager's, so that no later apply takes it back."""
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        change = {"spec": {"template": {"metadata": {"annotations": {render.RESTARTED: stamp}}}}}
        self.cluster.patch(render.main_kind(self.desired), self.name, change, "skerry-restart")
        self._settle(self._line())

    def finish(self, whole: Desired) -> None:
        """Put a revision into force, and remove what none needs any more. ``whole``: it with all its nodes."""
        kept = self.history.revisions
        number = next((key for key, one in kept.items() if one["revision"] == whole["revision"]), None)
        revisions.write(self.cluster, self.history, whole, number or max(kept, default=0) + 1)
        self._remove_stale(self.desired)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _away(self) -> int:
        return len(self.lost & set(self.desired["pods"]["nodes"]))

    def _line(self) -> re.Pattern[str] | None:
        asked = (self.desired["readiness"] or {}).get("line")
        return re.compile(asked) if asked else None

    def _widened(self, item: Object) -> Object:
        """What runs it, while it rolls out: pods of lost nodes do not use up the one surge that a DaemonSet has."""
        if item["kind"] != "DaemonSet" or not self._away():
            return item
        surge = {"maxSurge": 1 + self._away(), "maxUnavailable": 0}
        return {**item, "spec": {**item["spec"], "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": surge}}}

    def _try_first(self, line: re.Pattern[str]) -> None:
        """See one pod print the line before any other is replaced: Kubernetes cannot wait for it."""
        patience = render.patience(self.desired)
        _end_trials(self.cluster, self.name)
        policy = next(item for item in render.objects(self.desired) if item["kind"] == "NetworkPolicy")
        self.cluster.apply(policy)
        name = self._trial(patience)
        try:
            until = time.monotonic() + patience
            while True:
                pod = self.cluster.find("Pod", name)
                if pod is None:
                    raise self._failed(f"its trial {name} was deleted meanwhile")
                if seen.evicted(pod) and time.monotonic() < until:  # short of memory for a moment: once more
                    self.cluster.delete("Pod", name)
                    name = self._trial(patience)
                    continue
                if self._told([pod], line):
                    return
                self._check([pod], False)
                if time.monotonic() > until:
                    raise self._failed(self._stuck([pod], False))
                time.sleep(_TICK)
        finally:
            self.cluster.delete("Pod", name)

    def _trial(self, patience: int) -> str:
        made = self.cluster.create(render.trial(self.desired, token_hex(3), patience + 30))
        return str(made["metadata"]["name"])

    def _settle(self, line: re.Pattern[str] | None = None) -> None:
        """Wait for the end of the roll-out; what stands still for too long has failed."""
        kind, patience = render.main_kind(self.desired), render.patience(self.desired)
        mark: tuple[int, ...] = ()
        moved = time.monotonic()
        while True:
            item = self.cluster.find(kind, self.name)
            if item is None:
                raise self._failed("it was deleted meanwhile")
            pods = self._new_pods()
            told = line is None or self._told(pods, line)
            now = _progress(item, self._away())
            if now.done and told:
                return
            self._check(pods, line is None)
            if (*now.mark, len(self._matched)) != mark:
                mark, moved = (*now.mark, len(self._matched)), time.monotonic()
            if time.monotonic() - moved > patience:
                raise self._failed(self._stuck(pods, told))
            time.sleep(_TICK)

    def _check(self, pods: Iterable[Object], by_probe: bool) -> None:
        """Give up on a pod that will not become ready, or has not in its time."""
        timeout = (self.desired["readiness"] or {}).get("timeout", 30.0)
        for pod in pods:
            name = pod["metadata"]["name"]
            if said := _hopeless(pod):
                raise self._failed(said)
            runs = (seen.container(pod).get("state") or {}).get("running")
            fine = seen.ready(pod) if by_probe else name in self._matched
            if runs and not fine and time.monotonic() - self._began.setdefault(name, time.monotonic()) > timeout:
                raise self._failed(f"{name}: {self._stuck([], by_probe)} within {timeout:g} s")

    def _new_pods(self) -> list[Object]:
        """Pods of this revision that are not on their way out, nor on a lost node."""
        wanted = render.content(self.desired)
        return [pod for pod in self.cluster.every("Pod", **{render.INSTANCE: self.name})
                if (pod["metadata"].get("annotations") or {}).get(render.CONTENT) == wanted
                and not pod["metadata"].get("deletionTimestamp") and not seen.evicted(pod)
                and (pod.get("spec") or {}).get("nodeName") not in self.lost]

    def _told(self, pods: Iterable[Object], line: re.Pattern[str]) -> bool:
        """Whether every pod has printed the line for which its workload waits."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in self._matched and (seen.container(pod).get("state") or {}).get("running"):
                # What was read before is passed over, but for what may have come while it was read.
                lately = {"sinceSeconds": str(_LATELY)} if name in self._read else {}
                self._read.add(name)
                said = (text.partition(" ")[2] for text in self.cluster.lines(name, **lately))
                if any(line.search(text) for text in said):
                    self._matched.add(name)
        return all(pod["metadata"]["name"] in self._matched for pod in pods)

    def _stuck(self, pods: Iterable[Object], told: bool) -> str:
        words = [f"{pod['metadata']['name']}: {said}" for pod in pods if (said := seen.trouble(pod))]
        waits = "its readiness probe did not pass" if told else "it did not print the line for which readiness waits"
        return "; ".join(words) or waits

    def _failed(self, why: str) -> SkerryError:
        return SkerryError("DEPLOY_087", f"{self.name} did not become ready in cluster {self.cluster.name}: {why}",
                           f"skerry logs {self.name} -i INVENTORY; kubectl -n {NAMESPACE} describe pods", Exit.FAILED)

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def _remove_stale(self, desired: Desired) -> None:
        """Delete what a former revision had and this one has not; contents stay while any kept revision reads them."""
        wanted = {(item["kind"], item["metadata"]["name"]) for item in render.objects(desired)}
        for kind in _KINDS:
            for item in self.cluster.every(kind, **mine(self.name)):
                if (kind, item["metadata"]["name"]) not in wanted:
                    self.cluster.delete(kind, item["metadata"]["name"])
        runs = [item for item in self.cluster.every("Job", **mine(self.name))
                if not item["metadata"].get("ownerReferences") and ("Job", item["metadata"]["name"]) not in wanted]
        for item in _superfluous(runs, desired):
            self.cluster.delete("Job", item["metadata"]["name"])
        kept = {render.content_name(one) for one in (desired, *self.history.revisions.values())}
        for kind in ("Secret", "ConfigMap"):
            for item in self.cluster.every(kind, **mine(self.name), **{render.PART: "content"}):
                if item["metadata"]["name"] not in kept:
                    self.cluster.delete(kind, item["metadata"]["name"])


def _superfluous(runs: list[Object], desired: Desired) -> list[Object]:
    """Runs of other revisions that are under way or too old; all of them when it is no longer a matter of runs."""
    if desired["kind"] not in ("job", "schedule"):
        return runs
    over = [one for one in runs
            if any(seen.condition(one, end).get("status") == "True" for end in ("Complete", "Failed"))
            or (one["metadata"].get("annotations") or {}).get(render.REVISION) == desired["revision"]]
    by_age = sorted(over, key=lambda one: str(one["metadata"]["creationTimestamp"]), reverse=True)
    return [one for one in runs if one not in by_age[:_RUNS]]


def _hopeless(pod: Object) -> str:
    """Why a new pod will not become ready; "" while it may."""
    if seen.ready(pod) or pod["metadata"].get("deletionTimestamp") or seen.evicted(pod):
        return ""  # Kubernetes puts another in the place of one that a node had no room for
    status, name = seen.container(pod), pod["metadata"]["name"]
    waiting = (status.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") in seen.HOPELESS:
        return f"{name}: {waiting['reason']}: {waiting.get('message', '')}"
    over = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")
    if over:
        said = str(over.get("message") or "").strip().splitlines()
        why = over.get("reason") if over.get("reason") == "OOMKilled" else f"exit code {over.get('exitCode')}"
        return f"{name} ended before it was ready: {why}" + (f" ({said[0][:200]})" if said else "")
    return ""


def take_away(cluster: Cluster, name: str) -> None:
    """Delete everything of a workload, what runs it first; one that was never there is no fault."""
    for kind in (*_KINDS, "Job", "ConfigMap", "Secret"):
        for item in cluster.every(kind, **mine(name)):
            cluster.delete(kind, item["metadata"]["name"])
    _end_trials(cluster, name)


def _end_trials(cluster: Cluster, name: str) -> None:
    for pod in cluster.every("Pod", **{render.NAME: name, render.PART: "trial"}):
        cluster.delete("Pod", pod["metadata"]["name"])


def wait_gone(cluster: Cluster, name: str, lost: frozenset[str], patience: float) -> None:
    """Until a workload's pods are away, but for those of lost nodes, which go when their node is back."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        pods = cluster.every("Pod", **{render.INSTANCE: name})
        if all((pod.get("spec") or {}).get("nodeName") in lost for pod in pods):
            return
        time.sleep(_TICK)


def not_ready(nodes: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of nodes whose kubelet is not heard."""
    return frozenset(str(node["metadata"]["name"]) for node in nodes
                     if seen.condition(dict(node), "Ready").get("status") != "True")


