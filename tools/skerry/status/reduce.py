"""From the API's objects to what is kept of them (`skerry.status.model`)."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any

from skerry.status.model import Condition, Container, Node, Pod, Trouble, Workload

_UNITS = {
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][-+]?\d+)?)([KMGTP]i|[numkMGTP]?)")
_ROLE = "node-role.kubernetes.io/"


@lru_cache(maxsize=4096)
def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number: "250m" is 0.25, "1Gi" 1073741824; what is none counts as 0."""
    found = _QUANTITY.fullmatch(str(text))
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def moment(text: str | None) -> float:
    """An RFC 3339 time in seconds since 1970; 0 for none."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def node(item: dict[str, Any]) -> Node:
    """A node."""
    meta, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
    labels = meta.get("labels") or {}
    info = status.get("nodeInfo", {})
    room = status.get("allocatable") or status.get("capacity") or {}
    conditions = {
        one["type"]: Condition(
            one.get("status", "Unknown"), one.get("reason", ""), one.get("message", ""),
            moment(one.get("lastTransitionTime")),
        )
        for one in status.get("conditions") or []
    }  # fmt: skip
    addresses = {one["type"]: one["address"] for one in status.get("addresses") or []}
    return Node(
        name=intern(meta["name"]),
        ready=conditions["Ready"].status if "Ready" in conditions else "Unknown",
        conditions=conditions,
        roles=tuple(sorted(name[len(_ROLE) :] for name in labels if name.startswith(_ROLE))),
        version=intern(info.get("kubeletVersion", "")),
        os=intern(info.get("osImage", "")),
        arch=intern(info.get("architecture", "")),
        region=intern(labels.get("topology.kubernetes.io/region", "")),
        zone=intern(labels.get("topology.kubernetes.io/zone", "")),
        host_type=intern(labels.get("skerry.dev/host-type", "")),
        address=addresses.get("InternalIP", ""),
        unschedulable=bool(spec.get("unschedulable")),
        taints=tuple(f"{one['key']}:{one['effect']}" for one in spec.get("taints") or []),
        labels={intern(name): intern(value) for name, value in labels.items()},
        created=moment(meta.get("creationTimestamp")),
        cpu=quantity(room.get("cpu", 0)),
        memory=int(quantity(room.get("memory", 0))),
        max_pods=int(quantity(room.get("pods", 0))),
    )


def requests(spec: dict[str, Any]) -> tuple[float, int]:
    """(cores, bytes) that a pod's containers ask for."""
    cpu, memory = 0.0, 0.0
    for one in spec.get("containers") or []:
        asked = (one.get("resources") or {}).get("requests")
        if asked:
            cpu += quantity(asked.get("cpu", 0))
            memory += quantity(asked.get("memory", 0))
    return cpu, int(memory)


def _container(status: dict[str, Any]) -> Container:
    (state, detail), *_ = (status.get("state") or {"waiting": {}}).items()
    last = (status.get("lastState") or {}).get("terminated") or {}
    return Container(
        status.get("name", ""), status.get("image", ""), state, detail.get("reason", ""), detail.get("message", ""),
        detail.get("exitCode"), status.get("restartCount", 0), last.get("reason", ""), last.get("exitCode"),
    )  # fmt: skip


def _word(item: dict[str, Any], phase: str, containers: list[dict[str, Any]], inits: list[dict[str, Any]]) -> str:
    """The word that kubectl shows as a pod's status."""
    word = str(item.get("status", {}).get("reason") or phase)
    for one in inits:
        state = one.get("state") or {}
        ended = state.get("terminated")
        if (ended and ended.get("exitCode") == 0) or one.get("started"):
            continue
        detail = ended or state.get("waiting") or {}
        reason = detail.get("reason", "")
        return f"Init:{reason}" if reason and reason != "PodInitializing" else "Init"
    for one in reversed(containers):
        state = one.get("state") or {}
        detail = state.get("waiting") or state.get("terminated") or {}
        if detail.get("reason"):
            word = detail["reason"]
        elif "terminated" in state:
            word = f"ExitCode:{detail.get('exitCode')}"
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return word


def pod(item: dict[str, Any]) -> tuple[Pod, tuple[float, int]]:
    """A pod, and what it asks for (cores, bytes)."""
    meta, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
    containers = status.get("containerStatuses") or []
    inits = status.get("initContainerStatuses") or []
    phase = status.get("phase", "Unknown")
    ready = sum(1 for one in containers if one.get("ready"))
    wanted = len(spec.get("containers") or ())
    ends = [((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for one in containers]
    found = Pod(
        namespace=intern(meta.get("namespace", "")),
        name=meta["name"],
        node=intern(spec.get("nodeName", "")),
        phase=intern(phase),
        status=intern(_word(item, phase, containers, inits)),
        ready=ready,
        containers=wanted,
        restarts=sum(one.get("restartCount", 0) for one in containers),
        restarted=max((moment(one) for one in ends if one), default=0.0),
        trouble=None,
    )
    well = (phase == "Running" and ready == wanted) or phase == "Succeeded"
    if not well or found.restarts or meta.get("deletionTimestamp"):
        found.trouble = _trouble(item, containers, inits)
    return found, requests(spec)


def _trouble(item: dict[str, Any], containers: list[dict[str, Any]], inits: list[dict[str, Any]]) -> Trouble:
    meta, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
    scheduling = ""
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            scheduling = one.get("message") or one.get("reason", "")
    owners = meta.get("ownerReferences") or [{}]
    claims = [(one.get("persistentVolumeClaim") or {}).get("claimName") for one in spec.get("volumes") or []]
    return Trouble(
        tuple(_container(one) for one in [*inits, *containers]),
        scheduling,
        status.get("message", ""),
        spec.get("runtimeClassName", ""),
        tuple(name for name in claims if name),
        f"{owners[0].get('kind', '')}/{owners[0].get('name', '')}".strip("/"),
        spec.get("nodeSelector") or {},
        moment(meta.get("creationTimestamp")),
        moment(meta.get("deletionTimestamp")),
    )


def workload(kind: str, item: dict[str, Any]) -> Workload:
    """A Deployment, StatefulSet or DaemonSet."""
    meta, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
    if kind == "DaemonSet":
        desired, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        made = status.get("currentNumberScheduled", 0)
    else:
        desired, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
        made = status.get("replicas", 0)
    failure = ""
    for one in status.get("conditions") or []:
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            failure = one.get("message", "")
    template = spec.get("template", {}).get("spec", {})
    return Workload(
        kind, meta.get("namespace", ""), meta["name"], int(desired or 0), int(ready or 0), meta.get("labels") or {},
        tuple(one.get("image", "") for one in template.get("containers") or []), failure,
        moment(meta.get("creationTimestamp")), int(made or 0),
    )  # fmt: skip
