"""The modules of redpanda and nfs_provisioner against a real API server, with a broker of Kafka's protocol."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.storage_proof import Proof
from ansible_collections.skerry.edge.plugins.modules import broker, broker_place, storage_proof
from kafka_broker import broker as kafka
from kube.applying import Module, StrictApi

from skerry.testing.kube.cluster import Cluster

USER, PASSWORD = "kubernetes-controller", "made-up"


@pytest.fixture
def namespace(api_server: Cluster, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    name: str = request.node.originalname.replace("_", "-")[:60].rstrip("-")
    answer = api_server.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert answer.status in (200, 201), answer.message
    # Pods are refused until the namespace's service account is there.
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    api_server.wait("its service account", lambda: api_server.admin.ask("GET", account).status == 200, 30)
    return name


def pod_at(api_server: Cluster, namespace: str, name: str, address: str) -> None:
    """A pod that nobody schedules, with an address."""
    api_server.admin.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "redpanda", "image": "made.up/redpanda:1"}]},
    })  # fmt: skip
    status = {"status": {"podIP": address, "podIPs": [{"ip": address}]}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
    answer = api_server.admin.ask("PATCH", path, status, "application/merge-patch+json")
    assert answer.status == 200, answer.message


def secret(api_server: Cluster, namespace: str, name: str, **values: str) -> None:
    """A Secret."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}
    assert api_server.admin.apply(item).status in (200, 201)


def parameters(namespace: str, **changes: Any) -> dict[str, Any]:
    """What the module is given, defaults filled in."""
    usual = {
        "name": "redpanda", "namespace": namespace, "brokers": 1, "kafka_port": 9093, "topics": [], "absent": [],
        "prove": "changed", "changed_before": False, "external": [], "tls_secret": "", "external_tls_secret": "",
        "sasl_secret": "", "sasl_user": USER, "sasl_mechanism": "SCRAM-SHA-256", "timeout": 20, "port": 0,
    }  # fmt: skip
    return {**usual, **changes}


def run(api_server: Cluster, given: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """One run of the module broker."""
    work = broker.Run(Module(given, check), broker.Cluster(given, StrictApi(api_server)))
    result: dict[str, Any] = work.do()
    return result


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """(certificate, key) of a broker at 127.0.0.1."""
    made = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=broker", "-keyout", str(made[1]), "-out", str(made[0]), "-addext",
         "subjectAltName=IP:127.0.0.1,DNS:*.redpanda.test-everything-behind-tls-and-a-login.svc"],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


@pytest.fixture
def simple(api_server: Cluster, namespace: str) -> Iterator[dict[str, Any]]:
    """One broker without TLS and SASL; gives the module's parameters."""
    with kafka() as ((host, port),):
        pod_at(api_server, namespace, "redpanda-0", host)
        yield parameters(namespace, kafka_port=port, external=[f"{host}:{port}"])


def test_topics_and_a_message(api_server: Cluster, simple: dict[str, Any]) -> None:
    given = {**simple, "topics": [{"name": "sensors", "partitions": 2, "retention_ms": 60000}]}
    planned = run(api_server, given, check=True)
    assert planned["changed"]
    assert planned["proof"] == {}
    first = run(api_server, given)
    assert first["changed"]
    assert first["topics"] == ["sensors"]
    assert set(first["proof"]) == {"internal", "external"}
    second = run(api_server, given)
    assert (second["changed"], second["proof"], second["topics"]) == (False, {}, ["sensors"])
    assert run(api_server, given, check=True)["changed"] is False
    assert set(run(api_server, {**given, "changed_before": True})["proof"]) == {"internal", "external"}
    assert run(api_server, {**given, "prove": "never", "changed_before": True})["proof"] == {}
    gone = run(api_server, {**simple, "absent": ["sensors"]})
    assert gone["changed"]
    assert gone["topics"] == []
    assert gone["diff"][0]["header"] == "topic sensors"


def test_everything_behind_tls_and_a_login(api_server: Cluster, namespace: str, certificate: tuple[Path, Path]) -> None:
    flags = ("-certificate", str(certificate[0]), "-key", str(certificate[1]), "-user", USER, "-password", PASSWORD)
    with kafka(*flags) as ((host, port),):
        pod_at(api_server, namespace, "redpanda-0", host)
        secret(api_server, namespace, "redpanda-default", **{"ca.crt": certificate[0].read_text()})
        secret(api_server, namespace, "redpanda-bootstrap-user", password=PASSWORD)
        given = parameters(namespace, kafka_port=port, tls_secret="redpanda-default",
                           sasl_secret="redpanda-bootstrap-user", prove="always")  # fmt: skip
        assert set(run(api_server, given)["proof"]) == {"internal"}
        secret(api_server, namespace, "redpanda-bootstrap-user", password="another")
        with pytest.raises(K3sError, match="BROKER_013 topics in the cluster: login refused"):
            run(api_server, {**given, "timeout": 0})
        with pytest.raises(K3sError, match=r"BROKER_012 secret nobody-made-it in namespace .* has no password"):
            run(api_server, {**given, "sasl_secret": "nobody-made-it"})


def test_an_advertised_address_that_leads_nowhere(api_server: Cluster, simple: dict[str, Any]) -> None:
    given = {**simple, "external": ["127.0.0.1:9"], "prove": "always", "timeout": 0}
    with pytest.raises(K3sError, match=r"BROKER_014 a message .*no connection to 127\.0\.0\.1"):
        run(api_server, given)


def test_no_broker_at_all(api_server: Cluster, namespace: str) -> None:
    with pytest.raises(K3sError, match="BROKER_013 topics in the cluster: no broker is known"):
        run(api_server, parameters(namespace, timeout=0))


def place(api_server: Cluster, **changes: Any) -> dict[str, Any]:
    """What the module broker_place returns."""
    usual = {
        "name": "redpanda", "namespace": "default", "brokers": 1, "nodes": [], "node_selector": {},
        "architectures": ["amd64", "arm64"], "tolerations": [{"operator": "Exists"}], "percent": 50, "memory_mb": 0,
        "memory_max_mb": 8192, "cores": 0, "cores_max": 2, "storage_size": "5Gi", "storage_class": "", "version": "",
    }  # fmt: skip
    result: dict[str, Any] = broker_place.look(StrictApi(api_server), {**usual, **changes})
    return result


def test_places_on_simulated_nodes(api_server: Cluster) -> None:
    found = place(api_server, brokers=3)
    assert len(set(found["nodes"])) == len(found["addresses"]) == 3
    assert found == place(api_server, brokers=3)
    assert place(api_server, nodes=[found["nodes"][1]])["nodes"] == [found["nodes"][1]]
    with pytest.raises(K3sError, match="BROKER_001 5 brokers wanted, 3 nodes can carry one"):
        place(api_server, brokers=5)


def test_nfs_is_no_place_for_a_broker(api_server: Cluster) -> None:
    item = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "shared"},
            "provisioner": "skerry.dev/nfs"}  # fmt: skip
    assert api_server.admin.apply(item).status in (200, 201)
    with pytest.raises(K3sError, match=r"BROKER_005 storage class shared is on NFS \(skerry\.dev/nfs\)"):
        place(api_server, storage_class="shared")


def test_volumes_in_use_keep_their_server(api_server: Cluster, namespace: str) -> None:
    api = StrictApi(api_server)
    assert storage_proof.unused(api, "kept-class") == {"claims": []}
    api_server.admin.apply({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": namespace},
        "spec": {"storageClassName": "kept-class", "accessModes": ["ReadWriteMany"],
                 "resources": {"requests": {"storage": "1Mi"}}},
    })  # fmt: skip
    assert storage_proof.unused(api, "kept-class") == {"claims": [{"namespace": namespace, "name": "data"}]}
    api_server.admin.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": namespace},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "a", "image": "made.up/a:1"}],
                 "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
    })  # fmt: skip
    with pytest.raises(K3sError, match=rf"STORAGE_003 volumes of class kept-class are in use by {namespace}/user"):
        storage_proof.unused(api, "kept-class")


def test_a_proof_that_fails_says_why_and_cleans_up(api_server: Cluster, namespace: str) -> None:
    """No class, so the claim stays Pending. (Pods that pass: tests/e2e/test_platform_data.py.)"""
    options = {"storage_class": "nobody-has-it", "namespace": namespace, "image": "made.up/busybox:1", "size": "1Mi",
               "nodes": [], "timeout": 2}  # fmt: skip
    with pytest.raises(K3sError, match="STORAGE_002 no volume of class nobody-has-it is shared") as caught:
        Proof(StrictApi(api_server), options).run()
    assert "is Pending" in caught.value.cause
    folder = f"/api/v1/namespaces/{namespace}"
    for kind in ("pods", "persistentvolumeclaims"):
        left = api_server.admin.get(f"{folder}/{kind}")["items"]
        assert [item for item in left if "deletionTimestamp" not in item["metadata"]] == []
    with pytest.raises(K3sError, match="STORAGE_001 no node is Ready"):
        Proof(StrictApi(api_server), {**options, "nodes": ["unknown"]}).run()
