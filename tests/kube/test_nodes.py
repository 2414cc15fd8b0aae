"""Labels, taints and RuntimeClasses of role k3s on a real API server, which checks them as k3s's does."""

from __future__ import annotations

from typing import Any

from ansible_collections.skerry.edge.plugins.modules import k3s_objects
from kube.applying import Module, StrictApi

from skerry.testing.kube.cluster import Cluster


def run(cluster: Cluster, check: bool = False, **changes: Any) -> dict[str, Any]:
    node = {"name": "node-0001", "labels": {"skerry.dev/host-type": "edge", "example.org/rack": "7"},
            "taints": ["example.org/small=true:PreferNoSchedule"], "roles": ["worker"], "handlers": ["crun-wasm"]}
    work = k3s_objects.Objects(Module({"nodes": [{**node, **changes}]}, check), StrictApi(cluster))
    result: dict[str, Any] = work.run()
    return result


def taints(node: dict[str, Any]) -> set[str]:
    """Keys of the taints that are not Kubernetes' own, which come and go with the node's state."""
    return {one["key"] for one in node["spec"].get("taints", []) if not one["key"].startswith("node.kubernetes.io/")}


def test_they_come_stay_and_go(api_server: Cluster) -> None:
    assert run(api_server, check=True)["changed"]
    assert run(api_server)["changed"]
    assert not run(api_server)["changed"]
    assert not run(api_server, check=True)["changed"]
    node = api_server.admin.get("/api/v1/nodes/node-0001")
    assert node["metadata"]["labels"]["example.org/rack"] == "7"
    assert taints(node) == {"example.org/small"}
    found = api_server.admin.get("/apis/node.k8s.io/v1/runtimeclasses/crun-wasm")
    assert found["scheduling"]["nodeSelector"] == {"skerry.dev/runtime-crun-wasm": "true"}
    assert run(api_server, labels={}, taints=[], roles=[], handlers=[])["changed"]
    node = api_server.admin.get("/api/v1/nodes/node-0001")
    assert "example.org/rack" not in node["metadata"]["labels"]
    assert not taints(node)
    assert api_server.admin.ask("GET", "/apis/node.k8s.io/v1/runtimeclasses/crun-wasm").status == 404
