"""Manifests as they are sent and shown, and when a workload counts as up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils import kube_objects, kube_rollout
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError


def test_texts_of_a_secret_are_encoded_and_win() -> None:
    """The API never gives stringData back: sent as it is, each run would find a difference."""
    data = {"a": "b2xk", "b": "eA=="}
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": data, "stringData": {"a": "new"}}
    sent = kube_objects.prepared(secret, "web")
    assert sent["data"] == {"a": "bmV3", "b": "eA=="}
    assert "stringData" not in sent
    assert secret["stringData"] == {"a": "new"}


def test_labels_of_a_manifest_win_over_ours() -> None:
    item = {"kind": "X", "metadata": {"name": "x", "labels": {"skerry.dev/owner": "me", "a": "b"}}}
    labels = kube_objects.prepared(item, "web")["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/managed-by": "skerry", "skerry.dev/owner": "me", "a": "b"}


def test_a_diff_never_shows_values_of_a_secret() -> None:
    ref = {"kind": "Secret", "namespace": "n", "name": "s"}
    before = {"metadata": {"name": "s", "uid": "1"}, "data": {"same": "QQ==", "old": "Qg==", "gone": "Qw=="}}
    after = {"metadata": {"name": "s"}, "data": {"same": "QQ==", "old": "RA=="}}
    shown = kube_objects.difference(ref, before, after)
    text = shown["before"] + shown["after"]
    assert not [value for value in ("QQ==", "Qg==", "Qw==", "RA==") if value in text]
    assert shown["before"].count("(hidden, before)") == 2
    assert shown["before_header"] == shown["after_header"] == "Secret n/s"
    assert before["data"]["old"] == "Qg=="


def test_what_the_server_sets_is_no_difference() -> None:
    live = {
        "metadata": {"name": "x", "resourceVersion": "7", "generation": 2, "uid": "u", "managedFields": [{}]},
        "spec": {"a": 1},
        "status": {"ready": True},
    }
    assert kube_objects.plain(live) == {"metadata": {"name": "x"}, "spec": {"a": 1}}
    assert live["status"] == {"ready": True}


REF = {"apiVersion": "v1", "kind": "Secret", "namespace": "n", "name": "s"}


def memory(text: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "kube-system", "name": "skerry-objects-web"}, "data": {"objects": text}}


def test_what_was_applied_is_listed() -> None:
    assert kube_objects.listed(memory(json.dumps([REF]))) == [REF]
    assert kube_objects.listed(memory("[]")) == kube_objects.listed(None) == []


@pytest.mark.parametrize("text", ["[{]", "[1]", "7", '[{"kind": "Secret"}]'])
def test_a_damaged_list_is_no_empty_one(text: str) -> None:
    """Else an uninstallation would do nothing and say that nothing is left."""
    with pytest.raises(K3sError, match="ConfigMap kube-system/skerry-objects-web") as raised:
        kube_objects.listed(memory(text))
    assert raised.value.code == "CHART_023"


def item(kind: str, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata, seen = {"name": "x", "generation": 2}, {"observedGeneration": 2}
    return {"kind": kind, "metadata": metadata, "spec": spec or {}, "status": {**seen, **(status or {})}}


def up(thing: dict[str, Any], condition: str = "") -> bool:
    return bool(kube_rollout.judge(thing, {"kind": thing["kind"], "condition": condition})[0])


WORKLOADS = [
    ("Deployment", {"replicas": 2}, {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
    ("Deployment", {"replicas": 2}, {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, False),
    ("Deployment", {"replicas": 2}, {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
    ("Deployment", {"replicas": 0}, {}, True),
    ("Deployment", {"replicas": 1},
     {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, False),
    ("StatefulSet", {"replicas": 1},
     {"readyReplicas": 1, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"}, True),
    ("StatefulSet", {"replicas": 1}, {"readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"}, False),
    ("StatefulSet", {"replicas": 1, "updateStrategy": {"type": "OnDelete"}},
     {"readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"}, True),
    ("DaemonSet", {}, {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}, True),
    ("DaemonSet", {}, {"desiredNumberScheduled": 3, "updatedNumberScheduled": 2, "numberAvailable": 3}, False),
    ("PersistentVolumeClaim", {}, {"phase": "Bound"}, True),
    ("PersistentVolumeClaim", {}, {"phase": "Pending"}, False),
    ("Pod", {}, {"phase": "Succeeded"}, True),
    ("Pod", {}, {"phase": "Failed"}, False),
    ("Pod", {}, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, True),
    ("Job", {}, {"conditions": [{"type": "Complete", "status": "True"}]}, True),
    ("Job", {}, {}, False),
    ("CustomResourceDefinition", {}, {"conditions": [{"type": "Established", "status": "True"}]}, True),
    ("Certificate", {}, {"conditions": [{"type": "Ready", "status": "False", "message": "issuing"}]}, False),
    ("Certificate", {}, {"conditions": [{"type": "Ready", "status": "True"}]}, True),
    ("Certificate", {}, {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}, False),
    ("Certificate", {}, {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}]}, True),
    ("ConfigMap", {}, {}, True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "spec", "status", "expected"), WORKLOADS, ids=[f"{n}-{w[0]}" for n, w in enumerate(WORKLOADS)]
)
def test_when_things_are_up(kind: str, spec: dict[str, Any], status: dict[str, Any], expected: bool) -> None:
    assert up(item(kind, spec, status)) is expected


def test_a_condition_of_ones_own_is_what_counts() -> None:
    thing = item("Deployment", {"replicas": 1}, {"conditions": [{"type": "Available", "status": "True"}]})
    assert up(thing, "Available")
    assert not up(thing, "Other")


def test_what_is_being_deleted_is_not_up() -> None:
    thing = item("ConfigMap")
    thing["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not up(thing)


def test_a_failed_job_ends_the_wait() -> None:
    failed = item("Job", {}, {"conditions": [{"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}]})
    with pytest.raises(kube_rollout.HopelessError, match="BackoffLimitExceeded"):
        up(failed)


def test_states_of_containers_tell_why() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    pod = {
        "status": {
            "initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 0}}}],
            "containerStatuses": [
                {
                    "name": "main",
                    "ready": False,
                    "restartCount": 3,
                    "state": waiting,
                    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                }
            ],
        }
    }
    init, main = kube_rollout.container_states(pod)
    assert init["well"]
    assert not main["well"]
    assert main["restarts"] == 3
    assert "OOMKilled, exit code 137" in main["text"]
