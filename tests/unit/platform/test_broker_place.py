"""Where brokers are put and how large they become: nodes as clusters of ours have them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils.broker_place import (
    check_storage,
    check_upgrade,
    feature,
    holders,
    place,
    quantity,
    tolerated,
)
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

GI = 1 << 20  # KiB in a GiB
WISHES: dict[str, Any] = {"names": [], "selector": {}, "architectures": ["amd64", "arm64"], "tolerations": []}
LIMITS: dict[str, Any] = {"percent": 50, "memory_mb": 0, "memory_max_mb": 8192, "cores": 0, "cores_max": 2}


def node(name: str, memory_gi: float = 8, cpu: str = "4", **more: Any) -> dict[str, Any]:
    """A node; more: arch, labels, taints, external (address), unschedulable."""
    labels = {"kubernetes.io/arch": more.get("arch", "amd64"), "kubernetes.io/hostname": name, **more.get("labels", {})}
    addresses = [{"type": "InternalIP", "address": f"10.0.0.{len(name)}"}, {"type": "Hostname", "address": name}]
    if "external" in more:
        addresses.append({"type": "ExternalIP", "address": more["external"]})
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": more.get("taints", []), "unschedulable": more.get("unschedulable", False)},
        "status": {
            "allocatable": {"memory": f"{int(memory_gi * GI)}Ki", "cpu": cpu},
            "addresses": addresses,
        },
    }


def placed(*nodes: dict[str, Any], count: int = 1, held: dict[int, str] | None = None, **more: Any) -> dict[str, Any]:
    """place() with usual wishes and limits; more: changes of either."""
    wishes = {**WISHES, **{key: value for key, value in more.items() if key in WISHES}}
    limits = {**LIMITS, **{key: value for key, value in more.items() if key in LIMITS}}
    found: dict[str, Any] = place(list(nodes), held or {}, count, wishes, limits)
    return found


def test_the_node_with_the_most_memory_is_taken_and_halved() -> None:
    found = placed(node("small", 2), node("large", 16, "8", external="203.0.113.5"), node("middle", 8))
    assert found == {
        "nodes": ["large"],
        "addresses": ["203.0.113.5"],
        "memory_mb": 8192,
        "cpu_milli": 2000,
        "developer_mode": False,
    }


@pytest.mark.parametrize(
    ("memory_gi", "cpu", "memory_mb", "cpu_milli", "relaxed"),
    [
        (16, "8", 8192, 2000, False),
        (8, "4", 4096, 1000, False),  # one core: two would have less than 2 GiB each
        (4, "4", 2048, 1000, False),
        (2.5, "2", 1280, 1000, False),
        (1.5, "2", 1024, 1000, True),  # more than half, but the least a broker can do with
        (4, "1", 2048, 500, False),  # a single core is shared
        (8, "1930m", 4096, 965, False),
    ],
)
def test_size_by_host(memory_gi: float, cpu: str, memory_mb: int, cpu_milli: int, relaxed: bool) -> None:
    found = placed(node("one", memory_gi, cpu))
    assert (found["memory_mb"], found["cpu_milli"], found["developer_mode"]) == (memory_mb, cpu_milli, relaxed)


def test_given_sizes_win() -> None:
    assert placed(node("one", 8), memory_mb=3000, cores=2)["memory_mb"] == 2944
    assert placed(node("one", 8), memory_mb=3000, cores=1.5)["cpu_milli"] == 1500
    assert placed(node("one", 8), percent=25)["memory_mb"] == 2048


def test_three_brokers_get_what_the_smallest_of_their_nodes_can_give() -> None:
    found = placed(node("a", 8), node("bb", 4), node("ccc", 16), node("dddd", 2), count=3)
    assert found["nodes"] == ["ccc", "a", "bb"]
    assert found["addresses"] == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    assert (found["memory_mb"], found["cpu_milli"]) == (2048, 1000)


def test_data_keep_their_broker() -> None:
    nodes = (node("a", 8), node("bb", 4), node("ccc", 16))
    assert placed(*nodes, held={0: "bb"})["nodes"] == ["bb"]
    assert placed(*nodes, held={0: "bb", 1: "a"}, count=3)["nodes"] == ["bb", "a", "ccc"]
    assert placed(node("a", unschedulable=True), held={0: "a"})["nodes"] == ["a"]  # cordoned for a moment


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([], "is not in the cluster any more"),
        ([node("gone", labels={"skerry.dev/broker": "unable"})], "has a processor or kernel"),
    ],
)
def test_data_on_a_node_that_is_out_stop_the_run(nodes: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(K3sError, match=rf"BROKER_002 the data of broker 0 lie on node gone, which {why}"):
        placed(*nodes, node("new"), held={0: "gone"})


@pytest.mark.parametrize(
    ("out", "wish", "why"),
    [
        (node("x", arch="arm"), {}, "x is arm"),
        (node("x"), {"architectures": ["arm64"]}, "x is amd64"),
        (node("x"), {"names": ["y"]}, "x is not among redpanda_hosts"),
        (node("x"), {"selector": {"skerry.dev/host-type": "cloud"}}, "x lacks the label skerry.dev/host-type=cloud"),
        (node("x", labels={"skerry.dev/broker": "unable"}), {}, "x has a processor or kernel"),
        (
            node("x", taints=[{"key": "dedicated", "value": "a", "effect": "NoSchedule"}]),
            {},
            "x has the taint dedicated",
        ),
        (node("x", unschedulable=True), {}, "x is cordoned"),
        (node("x", 1), {}, "x is too small"),
    ],
)
def test_a_node_that_cannot_is_named_with_its_reason(out: dict[str, Any], wish: dict[str, Any], why: str) -> None:
    with pytest.raises(K3sError, match=rf"BROKER_001 1 broker wanted, 0 nodes can carry one: {why}"):
        placed(out, **wish)


def test_tolerations() -> None:
    taint = {"key": "dedicated", "value": "kafka", "effect": "NoSchedule"}
    assert placed(node("x", taints=[taint]), tolerations=[{"key": "dedicated", "operator": "Exists"}])["nodes"] == ["x"]
    assert placed(node("x", taints=[{"key": "slow", "effect": "PreferNoSchedule"}]))["nodes"] == ["x"]
    assert tolerated(taint, [{"key": "dedicated", "value": "kafka"}])
    assert tolerated(taint, [{"operator": "Exists"}])
    assert not tolerated(taint, [{"key": "dedicated", "value": "other"}])
    assert not tolerated(taint, [{"operator": "Exists", "effect": "NoExecute"}])


def test_holders_are_read_from_claims() -> None:
    def claim(name: str, node_name: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "annotations": {"volume.kubernetes.io/selected-node": node_name}}}

    waiting = {"metadata": {"name": "datadir-redpanda-2"}}
    claims = [claim("datadir-redpanda-1", "b"), claim("datadir-redpanda-0", "a"), claim("other", "c"), waiting]
    assert holders(claims, "redpanda") == {0: "a", 1: "b"}


@pytest.mark.parametrize(("text", "number"), [("2", 2), ("1930m", 1.93), ("16Gi", 16 * 2**30), ("5G", 5e9), (3, 3)])
def test_quantities(text: Any, number: float) -> None:
    assert quantity(text) == pytest.approx(number)


def test_a_wrong_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="no quantity"):
        quantity("five")


def test_feature_releases_come_one_after_the_other() -> None:
    assert [feature(text) for text in ("v25.3.1", "26.1.9", "v26.2.1", "latest")] == [77, 78, 79, None]
    for running, wanted in (("v26.1.4", "v26.2.1"), ("v26.2.1", "v26.2.2"), ("v25.3.9", "v26.1.1"), ("own", "v26.2.1")):
        check_upgrade(running, wanted)
    with pytest.raises(K3sError, match=r"BROKER_003 from Redpanda v25\.3\.1 to v26\.2\.1 skips a feature release"):
        check_upgrade("v25.3.1", "v26.2.1")
    with pytest.raises(K3sError, match=r"BROKER_003 .* goes back behind a feature release"):
        check_upgrade("v26.2.1", "v26.1.9")


def test_volumes_do_not_change() -> None:
    spec = {"storageClassName": "local-path", "resources": {"requests": {"storage": "5Gi"}}}
    stateful = {"spec": {"volumeClaimTemplates": [{"metadata": {"name": "datadir"}, "spec": spec}]}}
    check_storage(stateful, "5Gi", "local-path")
    check_storage(stateful, "5120Mi", "")
    with pytest.raises(K3sError, match="BROKER_004 the brokers' volumes are 5Gi of class local-path, wanted are 10Gi"):
        check_storage(stateful, "10Gi", "local-path")
    with pytest.raises(K3sError, match="BROKER_004"):
        check_storage(stateful, "5Gi", "fast")
