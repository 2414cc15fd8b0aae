"""Limits and what is beyond them; components and their states."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.errors import SkerryError
from skerry.status import components
from skerry.status.api import Outcome
from skerry.status.model import Cluster, Thing, Workload
from skerry.status.reduce import node
from skerry.status.thresholds import NAMES, THRESHOLDS, crossed, parse
from skerry.targets.api import Target
from skerry.targets.look import Look

NOW = 1_800_000_000.0


def look(skew: float = 0.0, **report: Any) -> Look:
    return Look(Target("edge-1"), report, None, skew)


def cluster(**fields: Any) -> Cluster:
    found = Cluster("c", "k", "https://s")
    for name in ("nodes", "pods", "deployments", "statefulsets", "daemonsets"):
        found.outcomes[name] = Outcome(name)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def test_limits_can_be_changed_one_by_one() -> None:
    limits = parse(["disk=50", "clock=0.5"])
    assert (limits["disk"], limits["clock"], limits["memory"]) == (50.0, 0.5, NAMES["memory"].value)


def test_what_a_site_sets_for_its_alerts_holds_here_too() -> None:
    targets = [
        Target("a", {"prometheus_alert_disk_percent": "{{ 70 }}"}),
        Target("b", {"prometheus_alert_disk_percent": 75}),
    ]
    assert parse([], targets)["disk"] == 75.0
    assert parse(["disk=60"], targets)["disk"] == 60.0


@pytest.mark.parametrize("text", ["disk", "disk=", "disk=much", "size=3", "disk=-1"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SkerryError, match="STATUS_004"):
        parse([text])


CASES: dict[str, tuple[Look, str]] = {
    "memory": (look(memory={"total": 1000, "available": 50}), "host edge-1"),
    "disk": (look(disks=[{"path": "/", "used_percent": 91.0, "inodes": 0, "inodes_free": 0}]), "host edge-1 /"),
    "inodes": (look(disks=[{"path": "/", "used_percent": 1.0, "inodes": 100, "inodes_free": 4}]), "host edge-1 /"),
    "certificate": (look(certificates=[{"path": "/x.crt", "not_after": NOW + 86400}]), "host edge-1 /x.crt"),
    "clock": (look(-7.0), "host edge-1"),
    "conntrack": (
        look(basics={"sysctls": {"net/netfilter/nf_conntrack_max": "100", "net/netfilter/nf_conntrack_count": "99"}}),
        "host edge-1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_host_crosses(name: str) -> None:
    seen, subject = CASES[name]
    (found,) = crossed([], {"edge-1": seen}, parse([]), NOW)
    assert (found.threshold, found.subject) == (name, subject)


def test_a_node_crosses() -> None:
    one = node({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}}})
    one.pods, one.cpu_used, one.memory_used, one.disk_percent, one.memory_requested = 10, 1.95, 2**30, 99.0, 2**30
    found = crossed([cluster(nodes={"n": one})], {}, parse([]), NOW)
    assert {one.threshold for one in found} == {"cpu", "memory", "disk", "pods", "requests"}
    order = [entry.name for entry in THRESHOLDS]
    assert [one.threshold for one in found] == sorted((one.threshold for one in found), key=order.index)


def test_what_is_within_its_limits_does_not() -> None:
    well = look(
        0.1,
        memory={"total": 1000, "available": 500},
        disks=[{"path": "/", "used_percent": 10.0, "inodes": 100, "inodes_free": 90}],
        certificates=[{"path": "/x", "not_after": NOW + 90 * 86400}],
    )
    assert crossed([cluster()], {"edge-1": well}, parse([]), NOW) == []


def workload(name: str, ready: int = 1, namespace: str = "kube-system", instance: str = "") -> Workload:
    labels = {"app.kubernetes.io/instance": instance}
    return Workload("Deployment", namespace, name, 1, ready, labels, ("example.org/x:v3",), "")


def chart(name: str, failed: str = "") -> Thing:
    conditions = {"Failed": {"status": "True", "message": failed, "reason": ""}} if failed else {}
    return Thing("kube-system", name, {"version": "1.2.3", "target": name, "conditions": conditions, "job": ""})


def states(found: Cluster) -> dict[str, str]:
    return {one.name: one.state for one in components.of_cluster(found)}


def test_components_are_known_by_their_workloads() -> None:
    found = cluster(
        nodes={"n": node({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})},
        workloads=[
            workload("coredns"),
            workload("cert-manager", namespace="cert-manager"),
            workload("cert-manager-webhook", 0, namespace="cert-manager"),
            workload("shop", namespace="default"),
            workload("mine", namespace="x", instance="own"),
        ],
        things={
            "helmcharts": [chart("cert-manager"), chart("own"), chart("redpanda"), chart("grafana", "no such chart")]
        },
    )
    assert states(found) == {
        "k3s": "healthy",
        "cert-manager": "degraded",
        "coredns": "healthy",
        "grafana": "failed",
        "own": "healthy",
        "redpanda": "installing",
    }
    named = {one.name: one for one in components.of_cluster(found)}
    assert named["cert-manager"].detail == "Deployment cert-manager-webhook 0/1"
    assert (named["cert-manager"].version, named["cert-manager"].chart) == ("v3", "1.2.3")
    assert named["grafana"].detail == "no such chart"


def test_what_could_not_be_read_is_not_called_missing() -> None:
    found = cluster(things={"helmcharts": [chart("redpanda")]})
    found.outcomes["statefulsets"].state = "failed"
    assert states(found)["redpanda"] == "unknown"


def test_services_of_hosts_are_components() -> None:
    up = look(units={"docker": {"ActiveState": "active"}}, basics={"fact_file": {"docker": {"version": "26.1"}}})
    down = look(units={"docker": {"ActiveState": "failed"}})
    (found,) = components.of_hosts({"a": up, "b": down})
    assert (found.name, found.state, found.version, found.ready, found.desired) == ("docker", "degraded", "26.1", 1, 2)
    assert found.detail == "b: failed"


@pytest.mark.parametrize(
    ("image", "tag"),
    [("a/b:v1", "v1"), ("r:5000/a/b", ""), ("r:5000/a:2@sha256:00", "2"), ("a@sha256:00", "")],
)
def test_tags_of_images(image: str, tag: str) -> None:
    assert components.image_tag(image) == tag
