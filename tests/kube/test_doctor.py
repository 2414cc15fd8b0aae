"""`skerry doctor` on a real API server: faults of the cluster's objects, made one after another and taken away."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from skerry.doctor.collect import collect, diagnose
from skerry.doctor.findings import Finding
from skerry.status.collect import Wanted
from skerry.testing.kube import simulated
from skerry.testing.kube.client import Object
from skerry.testing.kube.cluster import Cluster

SPACE = "doctored"
SECURE = {"pod-security.kubernetes.io/enforce": "restricted"}


def named(kind: str, name: str, namespace: str = SPACE, version: str = "v1", **more: Any) -> Object:
    """An object."""
    meta: dict[str, Any] = {"name": name, "labels": more.pop("labels", {})}
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": meta, **more}


def running(kind: str, name: str, namespace: str = SPACE, replicas: int = 1, **pod: Any) -> Object:
    """A Deployment or a StatefulSet; ``pod`` are fields of its pods' spec."""
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": "example.org/x:1", **pod.pop("container", {})}], **pod},
        },
    }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return named(kind, name, namespace, "apps/v1", spec=spec)


def claim(name: str, **spec: Any) -> Object:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return named("PersistentVolumeClaim", name, spec=asked)


def storage_class(name: str, provisioner: str) -> Object:
    return named("StorageClass", name, "", "storage.k8s.io/v1", provisioner=provisioner, volumeBindingMode="Immediate")


def webhook(service: str) -> Object:
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}]
    hook = {
        "name": "guard.example.org", "rules": rules, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "clientConfig": {"service": {"namespace": SPACE, "name": service}},
        "namespaceSelector": {"matchLabels": {"nobody": "has-it"}},
    }  # fmt: skip
    return named("ValidatingWebhookConfiguration", "guard", "", "admissionregistration.k8s.io/v1", webhooks=[hook])


@dataclass(frozen=True)
class Fault:
    """Objects that are wrong in some way, and what the doctor must name first because of them."""

    code: str
    where: str
    objects: list[Object]
    follows: set[str] = field(default_factory=set)


# Each workload has a name of its own: after a refusal the ReplicaSet controller may, for five minutes, believe that
# the pods of a ReplicaSet of that name are on their way (its expectations are kept by name), and make none.
DNS = running("Deployment", "coredns", "kube-system", replicas=0)
FAULTS = {
    "no room": Fault("CLUSTER_235", "doctored/web-", [
        running("Deployment", "web", container={"resources": {"requests": {"memory": "900Gi"}}})]),
    "no node of that architecture": Fault("CLUSTER_239", "doctored/web-", [
        running("Deployment", "web", nodeSelector={"kubernetes.io/arch": "riscv64"})]),
    "quota used up": Fault("CLUSTER_250", "doctored/many", [
        named("ResourceQuota", "small", spec={"hard": {"pods": "0"}}), running("Deployment", "many")]),
    "forbidden by Pod Security": Fault("CLUSTER_251", "doctored/root", [
        named("Namespace", SPACE, "", labels=SECURE), running("Deployment", "root")]),
    "ServiceAccount missing": Fault("CLUSTER_254", "doctored/anonymous", [
        running("Deployment", "anonymous", serviceAccountName="absent")]),
    "webhook without anybody": Fault("CLUSTER_241", "guard.example.org", [webhook("guard")]),
    "part of the API gone": Fault("CLUSTER_242", "v1.gone.example.org", [
        named("Service", "gone", spec={"ports": [{"port": 443}]}),
        named("APIService", "v1.gone.example.org", "", "apiregistration.k8s.io/v1", spec={
            "group": "gone.example.org", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10,
            "insecureSkipTLSVerify": True, "service": {"namespace": SPACE, "name": "gone"}})]),
    "cluster DNS scaled to nothing": Fault("CLUSTER_243", "kube-system/coredns", [DNS]),
    "no such storage class": Fault("STORAGE_207", "doctored/data", [claim("data", storageClassName="fast")]),
    "no default storage class": Fault("STORAGE_208", "doctored/data", [claim("data")]),
    "nobody provides": Fault("STORAGE_209", "doctored/data", [
        storage_class("slow", "slow.example.org"), claim("data", storageClassName="slow")]),
    "NFS server gone": Fault("STORAGE_210", "doctored/nfs-server-provisioner", [
        storage_class("nfs", "nfs.example.org"), running("StatefulSet", "nfs-server-provisioner", replicas=0)]),
    "broker down": Fault("BROKER_203", "doctored/redpanda", [running("StatefulSet", "redpanda", replicas=0)]),
    "broker has no place": Fault("CLUSTER_235", "doctored/redpanda-0", [
        running("StatefulSet", "redpanda", container={"resources": {"requests": {"cpu": "900"}}})], {"BROKER_201"}),
    "kubelet newer than the API": Fault("CLUSTER_257", "node-0900", [simulated.node(900, "v1.99.0+k3s1")]),
}  # fmt: skip


def verdict(cluster: Cluster) -> list[Finding]:
    """What the doctor says."""
    return diagnose(collect([], Wanted([], cluster.kubeconfig, hosts=False)))


def until(cluster: Cluster, code: str, where: str, seconds: float = 30) -> list[Finding]:
    """Ask until the first cause is as wanted."""
    end = time.monotonic() + seconds
    while True:
        found = verdict(cluster)
        if found and found[0].code == code and found[0].where.startswith(where):
            return found
        if time.monotonic() > end:
            listed = "\n".join(f"{one.code} {one.where} {one.likelihood}: {one.cause} {one.evidence}" for one in found)
            raise AssertionError(f"not {code} {where} first, but:\n{listed or 'nothing'}\n{there(cluster)}")
        time.sleep(0.3)


def there(cluster: Cluster) -> str:
    """The pods and their makers, for a message."""
    paths = [f"/apis/apps/v1/namespaces/{SPACE}/{kind}" for kind in ("deployments", "replicasets", "statefulsets")]
    return "\n".join(
        f"{path.rpartition('/')[2]} {item['metadata']['name']}: {item['status']}"
        for path in [*paths, f"/api/v1/namespaces/{SPACE}/pods"] for item in cluster.admin.get(path)["items"]
    )  # fmt: skip


@pytest.fixture(scope="module")
def space(api_server: Cluster) -> Iterator[Cluster]:
    """A namespace for all faults, one after another."""
    api_server.admin.apply(named("Namespace", SPACE, ""))
    account = f"/api/v1/namespaces/{SPACE}/serviceaccounts/default"
    api_server.wait("with an account", lambda: api_server.admin.ask("GET", account).status == 200)
    yield api_server
    api_server.admin.delete(named("Namespace", SPACE, ""))


def well(cluster: Cluster) -> None:
    """Wait until the doctor finds nothing; what it finds until then is said when it stays."""
    end = time.monotonic() + 30
    while found := verdict(cluster):
        assert time.monotonic() < end, [f"{one.code} {one.where}: {one.cause} {one.evidence}" for one in found]
        time.sleep(0.2)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_first(name: str, space: Cluster) -> None:
    fault = FAULTS[name]
    well(space)
    try:
        for item in fault.objects:
            answer = space.admin.apply(item)
            assert answer.status < 300, answer.message
        found = until(space, fault.code, fault.where)
        assert fault.follows <= {one.code for one in found[0].follows}
        assert found[0].evidence
        assert str(space.kubeconfig) in found[0].confirm
    finally:
        for item in reversed(fault.objects):
            if item["kind"] == "Namespace":
                space.admin.apply(named("Namespace", SPACE, ""))  # without the labels
            else:
                space.admin.delete(item)


@pytest.mark.parametrize(
    ("program", "code"), [("kube-scheduler", "CLUSTER_248"), ("kube-controller-manager", "CLUSTER_249")]
)
def test_a_part_that_hangs_is_named(program: str, code: str, space: Cluster) -> None:
    well(space)
    waits = running("Deployment", f"waits-for-{program}")
    space.signal(program, signal.SIGSTOP)
    try:
        space.admin.apply(waits)
        until(space, code, "", 60)
    finally:
        space.signal(program, signal.SIGCONT)
        space.admin.delete(waits)


def test_a_kubeconfig_of_another_cluster_is_named(api_server: Cluster, tmp_path: Any) -> None:
    with Cluster() as other:
        file = tmp_path / "mixed.yaml"
        file.write_text(other.kubeconfig.read_text().replace(f":{other.port}", f":{api_server.port}"))
        found = diagnose(collect([], Wanted([], file, hosts=False)))
    assert found[0].code == "CLUSTER_225"
