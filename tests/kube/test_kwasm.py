"""What the roles kwasm and registry do to a cluster, on a real API server: admission, marks, clean-up, certificates."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kwasm_pods import Probes, pod, pod_name
from ansible_collections.skerry.edge.plugins.modules import kwasm_cluster, kwasm_probe, registry_certificate
from kube.applying import Module, StrictApi

from skerry.testing.kube import build
from skerry.testing.kube.cluster import Cluster

CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
SPACE = "skerry-probe"


@pytest.fixture
def api(api_server: Cluster) -> StrictApi:
    return StrictApi(api_server)


@pytest.fixture
def nodes(api: StrictApi) -> list[str]:
    return sorted(item["metadata"]["name"] for item in api.json("GET", "/api/v1/nodes")["items"])


@pytest.fixture
def runtime_class(api: StrictApi) -> Iterator[str]:
    metadata = {"name": "crun-wasm"}
    body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": metadata, "handler": "crun-wasm"}
    api.json("POST", CLASSES, body)
    yield "crun-wasm"
    api.json("DELETE", CLASSES + "/crun-wasm")


def run(api: StrictApi, state: str, provider: str = "kwasm_operator", timeout: int = 5, check: bool = False) -> Any:
    archs = ["amd64", "arm64", "arm"]
    params = {"releases": kwasm_cluster.NAMES, "archs": archs, "timeout": timeout, "provider": provider}
    work = kwasm_cluster.Cluster(Module(params, check), api)
    return getattr(work, state)(), work.done


def test_probe_pods_pass_the_restricted_standard(api: StrictApi, nodes: list[str], runtime_class: str) -> None:
    probes = Probes(api, SPACE, 10)
    assert probes.prepare()
    assert not probes.prepare()
    probes._post(pod(nodes[0], runtime_class, SPACE))
    found = api.json("GET", f"{probes.pods}/{pod_name(nodes[0], runtime_class)}")
    assert found["spec"]["runtimeClassName"] == runtime_class
    root = pod(nodes[0], runtime_class, SPACE)
    root["metadata"]["name"] = "root"
    root["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(K3sError, match="PodSecurity"):
        api.json("POST", probes.pods, root)
    probes.delete(pod_name(nodes[0], runtime_class))


def test_pods_that_say_nothing_prove_nothing(api: StrictApi, nodes: list[str], runtime_class: str) -> None:
    """Simulated nodes run no container: the pods are late, are told of, and are removed."""
    params = {
        "nodes": [{"node": name, "handlers": {runtime_class: "mark"}} for name in [*nodes, "gone"]],
        "again": "changed", "max_age": 100, "namespace": SPACE, "timeout": 3, "fail": False,
    }  # fmt: skip
    result = kwasm_probe.prove(Module(params, False), api)
    assert result["due"] == [f"{name}/{runtime_class}" for name in nodes]
    assert set(result["broken_nodes"]) == {*nodes, "gone"}
    assert result["proved"] == []
    with pytest.raises(K3sError, match="RUNTIME_013"):
        kwasm_probe.prove(Module({**params, "fail": True}, False), api)
    left = api.json("GET", f"/api/v1/namespaces/{SPACE}/pods")["items"]
    assert all(item["metadata"].get("deletionTimestamp") for item in left)


def test_a_proof_is_remembered_and_holds(api: StrictApi, nodes: list[str], runtime_class: str) -> None:
    probes = Probes(api, SPACE, 3)
    probes.prepare()
    name = f"{nodes[0]}/{runtime_class}"
    probes.remember({name: {"mark": "mark", "at": 4_000_000_000}})
    assert probes.proofs() == {name: {"mark": "mark", "at": 4_000_000_000}}
    probes.remember({})
    assert probes.proofs() == {}


def test_the_namespace_goes_and_comes_back(api: StrictApi) -> None:
    probes = Probes(api, SPACE, 30)
    probes.prepare()
    gone = Module({"namespace": SPACE}, False)
    assert kwasm_probe.remove(gone, api)["changed"]
    assert not kwasm_probe.remove(gone, api)["changed"]
    assert probes.prepare()
    assert not probes.prepare()


def test_a_handler_without_a_class_is_told(api: StrictApi, nodes: list[str]) -> None:
    _pairs, lost = kwasm_probe.wanted(api, [{"node": nodes[0], "handlers": {"spin": "mark"}}])
    assert lost == {f"{nodes[0]}/spin": "no RuntimeClass of this handler admits the node"}


def test_the_operators_marks_come_and_go(api: StrictApi, nodes: list[str]) -> None:
    assert run(api, "looked")[0] == {"installed": [], "foreign": []}
    with pytest.raises(K3sError, match="RUNTIME_015"):
        run(api, "provisioned", timeout=1)
    for name in nodes:
        body = {"metadata": {"labels": {kwasm_cluster.PROVISIONED: name}}}
        api.json("PATCH", "/api/v1/nodes/" + name, body, kwasm_cluster.MERGE)
    assert run(api, "provisioned") == ({}, [])
    assert run(api, "looked")[0]["installed"] == ["kwasm_operator"]
    assert len(run(api, "cleaned", check=True)[1]) == len(nodes)
    assert len(run(api, "cleaned")[1]) == len(nodes)
    assert run(api, "cleaned")[1] == []
    assert run(api, "looked")[0]["installed"] == []


def test_a_certificate_for_the_registry(api: StrictApi, api_server: Cluster) -> None:
    for path in build.definitions("cert-manager"):
        for definition in yaml.safe_load_all(path.read_text()):
            assert api_server.admin.apply(definition).status in (200, 201)
    group = "/apis/cert-manager.io/v1"
    api_server.wait("with Certificates", lambda: api_server.admin.ask("GET", group).status == 200, 30)
    metadata = {"name": "registry-edge-1", "namespace": "registry"}
    issuer = {"name": "skerry", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    spec = {"secretName": "registry-edge-1", "dnsNames": ["edge-1"], "ipAddresses": ["192.0.2.1"], "issuerRef": issuer}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "registry"}},
        {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": metadata, "spec": spec},
    ]
    params = {"namespace": "registry", "secret": "registry-edge-1", "objects": objects, "timeout": 1}
    with pytest.raises(K3sError, match="REGISTRY_005"):
        registry_certificate.issue(Module(params, False), api)
    data = {name: base64.b64encode(name.encode()).decode() for name in ("tls.crt", "tls.key", "ca.crt")}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}
    api.json("POST", "/api/v1/namespaces/registry/secrets", secret)
    result = registry_certificate.issue(Module(params, False), api)
    assert result == {"changed": False, "data": {name: name for name in data}, "reason": ""}
