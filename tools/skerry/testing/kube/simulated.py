"""Nodes and pods for kwok: what a node of ours looks like, without a host behind it."""

from __future__ import annotations

from skerry.testing.kube.client import Object

#: Regions that nodes fall into, in turn.
REGIONS = ("eu", "us", "ap")


def node(number: int, version: str = "v1.36.3+k3s1", **labels: str) -> Object:
    """Node ``number``: every tenth is a cloud host, the rest are edge hosts; regions alternate.

    Args:
        version: what its kubelet reports.
        labels: further labels.
    """
    name = f"node-{number:04d}"
    cloud = number % 10 == 0
    resources = {"cpu": "16" if cloud else "4", "memory": "64Gi" if cloud else "4Gi", "pods": "110",
                 "ephemeral-storage": "64Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64" if cloud else "arm64",
                "skerry.dev/host-type": "cloud" if cloud else "edge",
                "topology.kubernetes.io/region": REGIONS[number % len(REGIONS)],
                **labels,
            },
        },
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "nodeInfo": {
                "architecture": "amd64" if cloud else "arm64", "bootID": "", "containerRuntimeVersion": "containerd://2.3.4",
                "kernelVersion": "6.12.0", "kubeProxyVersion": "", "kubeletVersion": version, "machineID": "",
                "operatingSystem": "linux", "osImage": "Debian GNU/Linux 13 (trixie)", "systemUUID": "",
            },
        },
    }  # fmt: skip


def pod(number: int, node_name: str, namespace: str = "default", **labels: str) -> Object:
    """Pod ``number`` on a node: kwok lets it run, and no scheduler is asked."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number:05d}", "namespace": namespace, "labels": {"app": "simulated", **labels}},
        "spec": {
            "nodeName": node_name,
            "containers": [{"name": "main", "image": "example.org/app:1", "resources": {"requests": {"cpu": "10m"}}}],
        },
    }
