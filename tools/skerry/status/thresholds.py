"""Limits, and what of a cluster and its hosts is beyond them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from skerry.errors import Exit, SkerryError
from skerry.status.model import Cluster
from skerry.targets.api import Target
from skerry.targets.look import Look

DAY = 86400.0
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Threshold:
    """A limit: name, unit, value by default, what it is about; ``below``: crossed by smaller values."""

    name: str
    unit: str
    value: float
    about: str
    below: bool = False


#: All limits, as `--threshold NAME=VALUE` sets them.
THRESHOLDS = (
    Threshold("cpu", "%", 90, "processor time in use, of a node; load, of a host's cores"),
    Threshold("memory", "%", 90, "memory in use, of a node or a host"),
    Threshold("disk", "%", 85, "space in use, of a file system"),
    Threshold("inodes", "%", 90, "inodes in use, of a file system"),
    Threshold("pods", "%", 90, "pods, of those that a node takes"),
    Threshold("requests", "%", 95, "memory or cores promised to pods, of a node"),
    Threshold("restarts", "", 5, "restarts of a pod, the last of them within the hour"),
    Threshold("certificate", "days", 21, "until a certificate ends", below=True),
    Threshold("clock", "s", 2, "between a host's clock and this machine's"),
    Threshold("conntrack", "%", 90, "connections tracked, of those that a host may track"),
)
NAMES = {one.name: one for one in THRESHOLDS}


@dataclass(frozen=True)
class Crossing:
    """A limit that is crossed: its name, by what, the value and the limit (in ``unit``)."""

    threshold: str
    subject: str
    value: float
    limit: float
    unit: str


#: Limits that a site may have set for its alerts: they hold here too.
VARIABLES = {
    "cpu": "prometheus_alert_cpu_percent",
    "memory": "prometheus_alert_memory_percent",
    "disk": "prometheus_alert_disk_percent",
    "restarts": "prometheus_alert_pod_restarts",
    "certificate": "prometheus_alert_certificate_days",
}


def _of_site(targets: Sequence[Target]) -> Iterator[tuple[str, float]]:
    for name, variable in VARIABLES.items():
        for target in targets:
            value = str(target.variables.get(variable, ""))
            if _NUMBER.fullmatch(value):
                yield name, float(value)
                break


def parse(given: Sequence[str], targets: Sequence[Target] = ()) -> dict[str, float]:
    """Limits by name: the defaults, over them what the inventory sets for alerts, over that what is ``given``.

    Args:
        given: texts of the form ``NAME=NUMBER``.

    Raises:
        SkerryError: STATUS_004.
    """
    limits = {one.name: one.value for one in THRESHOLDS} | dict(_of_site(targets))
    for text in given:
        name, _, value = text.partition("=")
        if name not in limits or not _NUMBER.fullmatch(value):
            raise SkerryError(
                "STATUS_004",
                f"--threshold {text!r} is none",
                f"write NAME=NUMBER with one of {', '.join(limits)}",
                Exit.USAGE,
            )
        limits[name] = float(value)
    return limits


def _nodes(cluster: Cluster) -> Iterator[tuple[str, str, float]]:
    for node in cluster.nodes.values():
        subject = f"node {node.name}"
        if node.cpu_used is not None and node.cpu:
            yield "cpu", subject, 100 * node.cpu_used / node.cpu
        if node.memory_used is not None and node.memory:
            yield "memory", subject, 100 * node.memory_used / node.memory
        if node.disk_percent is not None:
            yield "disk", f"{subject} /var/lib/kubelet", node.disk_percent
        if node.max_pods:
            yield "pods", subject, 100 * node.pods / node.max_pods
        if node.memory:
            yield "requests", f"{subject} memory", 100 * node.memory_requested / node.memory
        if node.cpu:
            yield "requests", f"{subject} cores", 100 * node.cpu_requested / node.cpu


def _pods(cluster: Cluster, now: float) -> Iterator[tuple[str, str, float]]:
    for pod in cluster.pods:
        if pod.restarts and pod.restarted > now - 3600:
            yield "restarts", f"pod {pod.namespace}/{pod.name}", float(pod.restarts)
    for one in cluster.of("certificates"):
        if one.fields["not_after"]:
            yield "certificate", f"certificate {one.namespace}/{one.name}", (one.fields["not_after"] - now) / DAY


def _host(look: Look, now: float) -> Iterator[tuple[str, str, float]]:
    subject = f"host {look.name}"
    basics, memory = look.part("basics"), look.part("memory")
    if memory.get("total"):
        yield "memory", subject, 100 * (1 - memory["available"] / memory["total"])
    for disk in look.report.get("disks") or []:
        yield "disk", f"{subject} {disk['path']}", disk["used_percent"]
        if disk["inodes"]:
            yield "inodes", f"{subject} {disk['path']}", 100 * (1 - disk["inodes_free"] / disk["inodes"])
    for one in look.report.get("certificates") or []:
        yield "certificate", f"{subject} {one['path']}", (one["not_after"] - now) / DAY
    if look.skew is not None:
        yield "clock", subject, abs(look.skew)
    sysctls = basics.get("sysctls") or {}
    most = str(sysctls.get("net/netfilter/nf_conntrack_max") or "")
    if most.isdigit() and int(most):
        yield "conntrack", subject, 100 * int(sysctls.get("net/netfilter/nf_conntrack_count") or 0) / int(most)


def crossed(
    clusters: Sequence[Cluster], looks: Mapping[str, Look], limits: Mapping[str, float], now: float | None = None
) -> list[Crossing]:
    """What is beyond its limit, worst first within each kind."""
    now = time.time() if now is None else now
    values = [one for cluster in clusters for one in (*_nodes(cluster), *_pods(cluster, now))]
    values += [one for look in looks.values() for one in _host(look, now)]
    found = []
    for name, subject, value in values:
        kind = NAMES[name]
        if value < limits[name] if kind.below else value >= limits[name]:
            found.append(Crossing(name, subject, round(value, 1), limits[name], kind.unit))
    order = list(NAMES)
    return sorted(
        found, key=lambda one: (order.index(one.threshold), one.value if NAMES[one.threshold].below else -one.value)
    )
