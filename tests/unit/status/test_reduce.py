"""What is kept of the API's objects."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.status import reduce


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("250m", 0.25),
        ("2", 2),
        ("1Gi", 2**30),
        ("128974848", 128974848),
        ("1.5Gi", 1.5 * 2**30),
        ("12e6", 12e6),
        ("100k", 1e5),
        ("3Ki", 3072),
        ("500n", 5e-7),
        ("none", 0),
        (4, 4),
    ],
)
def test_quantities(text: str | int, number: float) -> None:
    assert reduce.quantity(text) == pytest.approx(number)


def made(phase: str = "Running", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": "till-0", "creationTimestamp": "2026-11-21T10:00:00Z"},
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}],
        },
        "status": {"phase": phase, **status},
    }


def container(ready: bool = False, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": "a", "image": "x:1", "ready": ready, "restartCount": restarts, "state": state}


def test_a_pod_that_is_well_keeps_no_details() -> None:
    found, asked = reduce.pod(made(containerStatuses=[container(True, running={})]))
    assert (found.status, found.ready, found.containers, found.trouble) == ("Running", 1, 1, None)
    assert asked == (0.1, 64 * 2**20)


WORDS = {
    "ImagePullBackOff": made("Pending", containerStatuses=[container(waiting={"reason": "ImagePullBackOff"})]),
    "CrashLoopBackOff": made(containerStatuses=[container(restarts=4, waiting={"reason": "CrashLoopBackOff"})]),
    "OOMKilled": made(containerStatuses=[container(terminated={"reason": "OOMKilled", "exitCode": 137})]),
    "ExitCode:3": made(containerStatuses=[container(terminated={"exitCode": 3})]),
    "Init:Error": made("Pending", initContainerStatuses=[container(terminated={"reason": "Error", "exitCode": 1})]),
    "Evicted": made("Failed", reason="Evicted", message="The node was low on resource: memory"),
    "Pending": made("Pending"),
}


@pytest.mark.parametrize("word", WORDS)
def test_the_word_is_that_of_kubectl(word: str) -> None:
    found, _ = reduce.pod(WORDS[word])
    assert found.status == word
    assert found.trouble is not None


def test_a_pod_on_its_way_out_is_terminating() -> None:
    item = made(containerStatuses=[container(True, running={})])
    item["metadata"]["deletionTimestamp"] = "2026-11-21T11:00:00Z"
    assert reduce.pod(item)[0].status == "Terminating"


def test_why_a_pod_waits_is_kept() -> None:
    said = "0/3 nodes are available: 3 Insufficient memory."
    item = made("Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": said}])
    item["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": "data"}}, {"emptyDir": {}}]
    item["spec"]["runtimeClassName"] = "spin"
    trouble = reduce.pod(item)[0].trouble
    assert trouble is not None
    assert (trouble.scheduling, trouble.claims, trouble.runtime_class) == (said, ("data",), "spin")


def test_a_node() -> None:
    found = reduce.node(
        {
            "metadata": {
                "name": "edge-1",
                "labels": {
                    "topology.kubernetes.io/region": "eu",
                    "node-role.kubernetes.io/worker": "",
                    "skerry.dev/host-type": "edge",
                },
            },
            "spec": {"unschedulable": True, "taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            "status": {
                "allocatable": {"cpu": "3900m", "memory": "4Gi", "pods": "110"},
                "conditions": [
                    {"type": "Ready", "status": "True"},
                    {"type": "DiskPressure", "status": "True", "message": "low"},
                    {"type": "MemoryPressure", "status": "False"},
                    {"type": "NetworkUnavailable", "status": "True"},
                ],
                "nodeInfo": {"kubeletVersion": "v1.35.0+k3s3", "architecture": "arm64"},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.7"}],
            },
        }
    )
    assert (found.ready, found.trouble, found.roles) == ("True", ["DiskPressure", "NetworkUnavailable"], ("worker",))
    assert (found.cpu, found.memory, found.max_pods, found.address) == (3.9, 4 * 2**30, 110, "10.0.0.7")
    assert (found.region, found.host_type, found.unschedulable, found.taints) == (
        "eu",
        "edge",
        True,
        ("gpu:NoSchedule",),
    )


def test_a_node_that_nobody_heard_of_is_unknown() -> None:
    assert reduce.node({"metadata": {"name": "new"}}).ready == "Unknown"


def test_workloads() -> None:
    base = {
        "metadata": {"name": "x", "namespace": "y"},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"image": "i:2"}]}}},
    }
    failed = {
        "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}],
        "readyReplicas": 1,
    }
    found = reduce.workload("Deployment", {**base, "status": failed})
    assert (found.desired, found.ready, found.healthy, found.failure, found.images) == (
        3,
        1,
        False,
        "exceeded quota",
        ("i:2",),
    )
    daemon = reduce.workload("DaemonSet", {**base, "status": {"desiredNumberScheduled": 2, "numberReady": 2}})
    assert (daemon.desired, daemon.ready, daemon.healthy) == (2, 2, True)
