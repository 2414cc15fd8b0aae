"""What a cluster's pods, Jobs and CronJobs say of workloads, in the rows of ``skerry ps``: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skerry.deploy.kube import render
from skerry.deploy.kube.cluster import Object
from skerry.deploy.kube.revisions import History
from skerry.probe.traps import from_text
from skerry.status.reduce import moment

#: Reasons for which a container never starts by waiting.
HOPELESS = ("ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
            "InvalidImageName", "ImageInspectError")  # fmt: skip
#: Exit codes of containers that a signal ended: 128 + number.
_SIGNALS = {130: "SIGINT", 132: "SIGILL", 134: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 137: "SIGKILL", 139: "SIGSEGV",
            143: "SIGTERM"}  # fmt: skip
_JOB, _INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
Row = dict[str, Any]


@dataclass
class Seen:
    """What a cluster has, as it answered.

    Attributes:
        hosts: node -> host of the inventory, or the node's own name.
        lost: nodes that are not Ready: what their pods do is unknown.
        memory: pod -> bytes, where the cluster measures them.
    """

    side: str
    histories: Mapping[str, History]
    pods: Sequence[Object] = ()
    jobs: Sequence[Object] = ()
    crons: Sequence[Object] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    memory: Mapping[str, int] = field(default_factory=dict)


def instance(item: Object) -> str:
    """The workload that an object belongs to."""
    return str((item["metadata"].get("labels") or {}).get(render.INSTANCE, ""))


def container(pod: Object) -> Object:
    """The status of a pod's only container, {} before there is one."""
    found: list[Object] = (pod.get("status") or {}).get("containerStatuses") or []
    return found[0] if found else {}


def condition(item: Object, kind: str) -> Object:
    """A condition of an object, {} when it has none of that type."""
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def ready(pod: Object) -> bool:
    """Whether a pod runs and its readiness probe passes."""
    return bool(condition(pod, "Ready").get("status") == "True" and not pod["metadata"].get("deletionTimestamp"))


def evicted(pod: Object) -> bool:
    """Whether its node took it away because it ran short of something."""
    return bool((pod.get("status") or {}).get("reason") == "Evicted")


def trouble(pod: Object) -> str:
    """Why a pod does not run, in the cluster's words; "" when it does, or may soon."""
    status = container(pod)
    waiting = (status.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") in (*HOPELESS, "ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"):
        return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    placed = condition(pod, "PodScheduled")
    if placed.get("status") == "False":
        return f"{placed.get('reason', '')}: {placed.get('message', '')}"
    return str(pod["status"].get("message", "")) if pod["status"].get("phase") == "Failed" else ""


def ended(pod: Object, over: Object, revision: str, code_lost: bool) -> Row:
    """How a run of a container ended, as hosts tell it. ``code_lost``: 0 may stand for any exit code."""
    reason, code, said = over.get("reason", ""), int(over.get("exitCode", 0)), str(over.get("message") or "")
    why, note = pod["status"].get("reason", ""), str(pod["status"].get("message") or "")
    limit = None
    if reason == "OOMKilled":
        limit = "memory"
    elif why == "DeadlineExceeded":
        limit = "time"
    elif why == "Evicted" and "ephemeral" in note:
        limit = "output"
    run: Row = {"invocation": pod["metadata"]["name"], "revision": revision, "ended": moment(over.get("finishedAt")),
                "limit": limit, "exit_code": None, "trap": None, "signal": None, "memory_bytes": None}
    if limit is None and code and from_text(said) and "execution failed" in said:
        run["trap"] = said[-2000:]
    elif limit is None and code in _SIGNALS:
        run["signal"] = _SIGNALS[code]
    elif limit is None and code_lost and not code:
        run["code_lost"] = True
    elif limit is None:
        run["exit_code"] = code
    return run


def _last(pod: Object, revision: str, code_lost: bool) -> Row | None:
    status = container(pod)
    for state in ("state", "lastState"):
        over = (status.get(state) or {}).get("terminated")
        if over:
            return ended(pod, over, revision, code_lost)
    if pod["status"].get("phase") == "Failed":  # ended before its container was: a deadline, an eviction
        over = {"exitCode": 137, "finishedAt": condition(pod, "Ready").get("lastTransitionTime")}
        return ended(pod, over, revision, code_lost)
    return None


def _state(pod: Object, lost: frozenset[str]) -> str:
    if (pod.get("spec") or {}).get("nodeName") in lost:
        return "unknown"
    phase, waiting = pod["status"].get("phase"), (container(pod).get("state") or {}).get("waiting") or {}
    if phase == "Succeeded":
        return "done"
    if phase == "Failed" or waiting.get("reason") in HOPELESS:
        return "failed"
    if waiting.get("reason") == "CrashLoopBackOff" or (container(pod).get("state") or {}).get("terminated"):
        return "restarting"
    return "running" if ready(pod) else "starting"


def _base(seen: Seen, history: History) -> Row:
    desired = history.current or {}
    return {
        "name": history.name, "owner": desired["owner"], "kind": desired["kind"], "rung": "pod", "host": seen.side,
        "cluster": seen.side.partition("/")[2], "node": "", "pod": "", "runtime": desired["runtime"]["name"],
        "state": "stopped", "ready": False, "revision": desired["revision"], "number": history.number,
        "module": desired["module"]["digest"], "for_seconds": 0.0, "restarts": 0, "memory_bytes": None, "next": None,
        "last": None, "why": "",
    }  # fmt: skip


def _of_pod(seen: Seen, history: History, pod: Object, now: float) -> Row:
    row = _base(seen, history)
    for number, one in history.revisions.items():
        if render.content(one) == (pod["metadata"].get("annotations") or {}).get(render.CONTENT):
            row |= {"revision": one["revision"], "number": number, "module": one["module"]["digest"]}
    node = (pod.get("spec") or {}).get("nodeName") or ""
    since = (container(pod).get("state") or {}).get("running", {}).get("startedAt") or pod["status"].get("startTime")
    name = pod["metadata"]["name"]
    row |= {"node": node, "host": seen.hosts.get(node, node) or seen.side, "pod": name, "state": _state(pod, seen.lost),
            "restarts": int(container(pod).get("restartCount", 0)), "memory_bytes": seen.memory.get(name),
            "why": trouble(pod)}
    row["last"] = _last(pod, row["revision"], bool((history.current or {})["pods"]["code_lost"]))
    row["for_seconds"] = round(now - moment(since), 1) if since else 0.0
    return row


def _service(seen: Seen, history: History, pods: Iterable[Object], now: float) -> list[Row]:
    rows = []
    for pod in pods:
        gone = pod["metadata"].get("deletionTimestamp") and (pod.get("spec") or {}).get("nodeName") not in seen.lost
        if gone or pod["status"].get("reason") in ("Evicted", "NodeLost", "Terminated", "NodeShutdown"):
            continue
        row = _of_pod(seen, history, pod, now)
        if row["state"] == "done":  # a service has no end: it is started again at once
            row["state"] = "restarting"
        row["ready"] = row["state"] == "running"
        rows.append(row)
    return rows or [_base(seen, history)]


def newest(jobs: Iterable[Object], name: str) -> Object | None:
    """The last run of a workload that was begun."""
    mine = [one for one in jobs if instance(one) == name]
    return max(mine, key=lambda one: str(one["metadata"].get("creationTimestamp", "")), default=None)


def _pods_of(job: Object, pods: Iterable[Object]) -> list[Object]:
    """A run's pods; of those that were tried again the last one."""
    last: dict[str, Object] = {}
    for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp", ""))):
        labels = pod["metadata"].get("labels") or {}
        if labels.get(_JOB) == job["metadata"]["name"]:
            last[str(labels.get(_INDEX, ""))] = pod
    return [last[index] for index in sorted(last)]


def _job(seen: Seen, history: History, pods: Iterable[Object], now: float) -> list[Row]:
    job = newest(seen.jobs, history.name)
    rows = [] if job is None else [_of_pod(seen, history, pod, now) for pod in _pods_of(job, pods)]
    if job is not None and not rows:
        rows = [_base(seen, history) | {"state": "failed" if condition(job, "Failed") else "starting",
                                        "why": str(condition(job, "Failed").get("message", ""))}]
    for row in rows:
        row["ready"] = row["state"] in ("done", "running")
        if row["last"]:
            row["last"]["invocation"] = (job or {})["metadata"]["name"]
    return rows or [_base(seen, history)]


def _schedule(seen: Seen, history: History, pods: Iterable[Object], now: float) -> list[Row]:
    cron = next((one for one in seen.crons if instance(one) == history.name), None)
    row = _base(seen, history)
    if cron is None:
        return [row]
    runs = [one for one in _job(seen, history, pods, now) if one["pod"]]
    over = [one for one in runs if one["last"]]
    row |= {"state": "waiting", "ready": True}
    if any(one["state"] == "running" for one in runs):
        row["state"] = "running"
    if over:
        row["last"] = max((one["last"] for one in over), key=lambda run: float(run["ended"]))
        well = row["last"]["exit_code"] == 0 or row["last"].get("code_lost")
        if row["state"] == "waiting" and not well:
            row |= {"state": "last failed", "ready": False}
    return [row]


def rows(seen: Seen, now: float) -> list[Row]:
    """Every workload of a cluster: a row for each pod, or one for what has none."""
    found = []
    shapes = {"job": _job, "schedule": _schedule}
    for name, history in sorted(seen.histories.items()):
        if history.current is not None:
            mine = [pod for pod in seen.pods if instance(pod) == name]
            found += shapes.get(history.current["kind"], _service)(seen, history, mine, now)
    return found
