"""The platform's components: which workloads and charts belong to each, their versions, whether they are well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skerry.status.model import Cluster, Thing, Workload
from skerry.targets.look import Look

#: Component -> pattern of ``namespace/name`` of a workload; the first that matches has it.
PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("coredns", re.compile(r"kube-system/coredns")),
    ("metrics-server", re.compile(r"kube-system/metrics-server")),
    ("local-path", re.compile(r"kube-system/local-path-provisioner")),
    ("traefik", re.compile(r"kube-system/traefik")),
    ("servicelb", re.compile(r"kube-system/svclb-.*")),
    ("cert-manager", re.compile(r".*/cert-manager(-webhook|-cainjector)?")),
    ("redpanda", re.compile(r".*/redpanda(-console|-operator)?")),
    ("nfs-provisioner", re.compile(r".*/.*nfs-server-provisioner|.*/csi-nfs-.*")),
    ("kwasm", re.compile(r".*/.*(kwasm-operator|runtime-class-manager)")),
    ("grafana", re.compile(r".*/(.*-)?grafana")),
    ("prometheus", re.compile(r".*/(.*prometheus-.*|.*kube-state-metrics|.*alertmanager)")),
)
#: Component -> unit on hosts, and how its section of the fact file is called.
UNITS = (("docker", "docker", "docker"), ("registry", "docker-registry", "registry"),
         ("node_exporter", "prometheus-node-exporter", "node_exporter"))  # fmt: skip
#: States from well to bad, for sorting and for sums.
STATES = ("healthy", "unknown", "installing", "degraded", "failed", "down")


@dataclass
class Component:
    """A component of the platform.

    Attributes:
        where: ``namespace`` in the cluster, or ``hosts``.
        version: of the software; ``chart`` of its Helm chart, "" without.
        state: one of `STATES`; ``detail`` says what is missing.
    """

    name: str
    where: str
    version: str
    chart: str
    state: str
    ready: int
    desired: int
    detail: str = ""
    parts: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return self.state in ("healthy", "unknown")


def _owner(one: Workload, charts: Mapping[str, Thing]) -> str | None:
    name = f"{one.namespace}/{one.name}"
    for component, pattern in PATTERNS:
        if pattern.fullmatch(name):
            return component
    instance = one.labels.get("app.kubernetes.io/instance", "")
    return instance if instance in charts else None


def image_tag(image: str) -> str:
    """The tag of an image reference; "" for none."""
    last = image.partition("@")[0].rpartition("/")[2]
    return last.partition(":")[2]


def _version(parts: Iterable[Workload]) -> str:
    for one in parts:
        found = one.labels.get("app.kubernetes.io/version") or next((image_tag(name) for name in one.images), "")
        if found:
            return found
    return ""


def _chart_failure(chart: Thing | None) -> str:
    """Why a chart is not installed; "" when nothing speaks against it."""
    if chart is None:
        return ""
    failed = chart.fields["conditions"].get("Failed", {})
    return str(failed.get("message") or "its Helm job failed") if failed.get("status") == "True" else ""


def _in_cluster(name: str, parts: Sequence[Workload], chart: Thing | None, complete: bool) -> Component:
    desired, ready = sum(one.desired for one in parts), sum(min(one.ready, one.desired) for one in parts)
    short = [f"{one.kind} {one.name} {one.ready}/{one.desired}" for one in parts if not one.healthy]
    failure = _chart_failure(chart)
    if failure:
        state = "failed"
    elif not parts:
        state = "installing" if complete else "unknown"
    elif not short:
        state = "healthy"
    else:
        state = "down" if ready == 0 else "degraded"
    where = parts[0].namespace if parts else (chart.fields["target"] if chart else "")
    said = failure or ", ".join(short) or ("no workload of it yet" if state == "installing" else "")
    chart_version = chart.fields["version"] if chart else ""
    return Component(name, where, _version(parts), chart_version, state, ready, desired, said,
                     [f"{one.kind} {one.name}" for one in parts])  # fmt: skip


def _k3s(cluster: Cluster) -> Component:
    versions = Counter(node.version for node in cluster.nodes.values())
    ready = sum(node.ready == "True" for node in cluster.nodes.values())
    short = [node.name for node in cluster.nodes.values() if node.ready != "True"]
    named = ", ".join(short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")
    state = "healthy" if not short else "degraded" if ready else "down"
    version = cluster.version if len(versions) <= 1 else f"{cluster.version} (nodes: {', '.join(sorted(versions))})"
    total = len(cluster.nodes)
    return Component("k3s", "nodes", version, "", state, ready, total, f"not Ready: {named}" if short else "")


def of_cluster(cluster: Cluster) -> list[Component]:
    """Components of a cluster that answered: k3s first, then by name."""
    if cluster.error is not None:
        return [Component("k3s", "nodes", "", "", "down", 0, 0, cluster.error.error)]
    charts = {chart.name: chart for chart in cluster.of("helmcharts")}
    owned: dict[str, list[Workload]] = {}
    for one in cluster.workloads:
        if owner := _owner(one, charts):
            owned.setdefault(owner, []).append(one)
    complete = all(cluster.read(name) for name in ("deployments", "statefulsets", "daemonsets"))
    names = sorted({*owned, *(name for name in charts if not any(name.startswith(own) for own in owned))})
    found = []
    for name in names:
        chart = charts.get(name) or next((one for key, one in charts.items() if key.startswith(name)), None)
        found.append(_in_cluster(name, sorted(owned.get(name, []), key=lambda one: one.name), chart, complete))
    return ([_k3s(cluster)] if cluster.nodes or cluster.read("nodes") else []) + found


def of_hosts(looks: Mapping[str, Look]) -> list[Component]:
    """Components that are services of hosts, one row for each."""
    found = []
    for name, unit, section in UNITS:
        states = {}
        for host, look in looks.items():
            state = (look.part("units").get(unit) or {}).get("ActiveState")
            recorded = look.part("basics").get("fact_file", {}).get(section)
            if state or recorded:
                states[host] = (state or "absent", str((recorded or {}).get("version") or ""))
        if not states:
            continue
        up = [host for host, (state, _) in states.items() if state == "active"]
        versions = sorted({version for _, version in states.values() if version})
        short = [f"{host}: {state}" for host, (state, _) in states.items() if host not in up]
        state = "healthy" if not short else "degraded" if up else "down"
        found.append(
            Component(name, "hosts", ", ".join(versions), "", state, len(up), len(states), ", ".join(short))
        )
    return found
