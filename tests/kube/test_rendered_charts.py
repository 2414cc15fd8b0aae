"""The charts of the mirror, rendered by Helm with the roles' values: what comes out is looked at, not only accepted.

A chart that is not in the mirror is skipped with that reason; its values are checked in any case
(tests/unit/platform/test_chart_values.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rendered_charts import Object, containers, images, one, pod_specs, template
from role_values import CASES, Rendered, render

from skerry.testing.kube.build import program
from skerry.testing.kube.cluster import Cluster

ROLES = sorted(path.stem for path in CASES.glob("*.yml"))
Objects = Callable[[str, str], list[Object]]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Rendered]:
    """The values of a role in all its cases."""
    known: dict[str, Rendered] = {}

    def ask(role: str) -> Rendered:
        if role not in known:
            known[role] = render(role, tmp_path_factory.mktemp(role))
        return known[role]

    return ask


@pytest.fixture
def objects(rendered: Callable[[str], Rendered], tmp_path: Path) -> Objects:
    """objects(role, case): what the first chart of the role gives."""

    def ask(role: str, case: str) -> list[Object]:
        return template(program("helm"), rendered(role).cases[case][0], tmp_path, role.replace("_", "-"))

    return ask


@pytest.mark.parametrize("role", ROLES)
def test_helm_takes_the_values_and_the_api_the_objects(
    role: str, rendered: Callable[[str], Rendered], tmp_path: Path, api_server: Cluster
) -> None:
    refused = []
    namespace = f"charts-{role.replace('_', '-')}"
    for case, releases in rendered(role).cases.items():
        for release in releases:
            found = template(program("helm"), release, tmp_path, namespace)
            assert found
            moving = [image for image in images(found) if re.search(r":lat" r"est$|^[^:@]+$", image)]
            assert not moving, f"{case}: images without a fixed tag: {moving}"
            for name in {item["metadata"].get("namespace", namespace) for item in found}:
                made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                assert api_server.admin.apply(made).status in (200, 201)
            refused += [f"{case}: {line}" for item in found if (line := strict(api_server, item, namespace))]
    assert not refused, "\n".join(refused[:20])


def strict(api_server: Cluster, item: Object, namespace: str) -> str:
    """Why the API server refuses an object, unknown fields included; '' when it takes it or does not know its kind."""
    group, _slash, version = item["apiVersion"].rpartition("/")
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    kinds = api_server.admin.ask("GET", base)
    resource = next((row for row in kinds.body.get("resources", []) if row["kind"] == item["kind"]), None)
    if resource is None:
        return ""
    where = f"/namespaces/{item['metadata'].get('namespace', namespace)}" if resource["namespaced"] else ""
    path = f"{base}{where}/{resource['name'].partition('/')[0]}/{item['metadata']['name']}"
    query = "?fieldManager=helm&force=true&dryRun=All&fieldValidation=Strict"
    answer = api_server.admin.ask("PATCH", path + query, item, "application/apply-patch+yaml")
    return f"{item['kind']} {item['metadata']['name']}: {answer.message}" if answer.status >= 400 else ""


# Redpanda -------------------------------------------------------------------------------------------------------------


def test_one_broker_gets_what_its_node_can_give(objects: Objects) -> None:
    found = objects("redpanda", "defaults")
    stateful = one(found, "StatefulSet", "redpanda")
    spec = stateful["spec"]["template"]["spec"]
    broker = next(item for item in spec["containers"] if item["name"] == "redpanda")
    assert stateful["spec"]["replicas"] == 1
    assert broker["resources"] == {"limits": {"memory": "4608Mi"}, "requests": {"cpu": "2000m", "memory": "4608Mi"}}
    configuration = one(found, "ConfigMap", "redpanda")["data"]["redpanda.yaml"]
    assert "--smp=2" in configuration
    assert "--memory=4147M" in configuration
    assert "overprovisioned: true" in configuration
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [(row["key"], row["values"]) for row in terms[0]["matchExpressions"]] == [
        ("kubernetes.io/arch", ["amd64", "arm64"]),
        ("kubernetes.io/hostname", ["cloud-1"]),
    ]
    claim = stateful["spec"]["volumeClaimTemplates"][0]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("local-path", "5Gi")
    annotations = stateful["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == "/public_metrics"


def test_one_broker_needs_no_certificates_no_rights_and_phones_nobody(objects: Objects) -> None:
    found = objects("redpanda", "defaults")
    assert not {item["kind"] for item in found} & {"Certificate", "Issuer", "Deployment", "DaemonSet", "ServiceMonitor"}
    for spec in pod_specs(found):
        for container in containers(spec):
            assert not container.get("securityContext", {}).get("privileged"), container["name"]
    assert images(found) == {
        "docker.redpanda.com/redpandadata/redpanda:v26.2.1",
        "docker.redpanda.com/redpandadata/redpanda-operator:v26.2.2",
    }
    bootstrap = json.loads(one(found, "ConfigMap", "redpanda")["data"][".bootstrap.json.in"])
    assert bootstrap["log_retention_ms"] == "604800000"
    assert bootstrap["auto_create_topics_enabled"] == "false"
    assert bootstrap.get("enable_metrics_reporter", "false") == "false"
    configuration = one(found, "ConfigMap", "redpanda")["data"]["redpanda.yaml"]
    assert "unsafe-bypass-fsync" not in configuration
    assert "dev-container" not in configuration


def test_three_brokers_with_tls_logins_and_ports_of_their_own(
    objects: Objects, rendered: Callable[[str], Rendered]
) -> None:
    case = "three brokers with everything"
    found = objects("redpanda", case)
    stateful = one(found, "StatefulSet", "redpanda")
    spec = stateful["spec"]["template"]["spec"]
    assert stateful["spec"]["replicas"] == 3
    assert spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert spec["nodeSelector"] == {"skerry.dev/host-type": "cloud"}
    secrets = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    assert {"redpanda-default", "redpanda-external", "redpanda-users"} <= secrets
    script = one(found, "Secret", "redpanda-configurator")["stringData"]["configurator.sh"]
    told = re.findall(r'ADVERTISED_KAFKA_ADDRESSES\+=\("(.*)"\)', script)
    addresses = [json.loads(line.replace('\\"', '"')) for line in told]
    assert [(row["address"], row["port"]) for row in addresses] == [
        ("192.0.2.1", 31200), ("192.0.2.2", 31201), ("192.0.2.3", 31202),
    ]  # fmt: skip
    # The way in: one Service for each broker, on the port that it advertises; the chart's own is not made.
    assert not [item for item in found if item["kind"] == "Service" and item["spec"].get("type") == "NodePort"]
    release = rendered("redpanda").cases[case][0]
    assert release["external"] == ["192.0.2.1:31200", "192.0.2.2:31201", "192.0.2.3:31202"]
    services = [item for item in release["objects"] if item["kind"] == "Service"]
    listener = next(
        port for item in spec["containers"] for port in item.get("ports", []) if port["containerPort"] == 9094
    )
    for number, service in enumerate(services):
        selector = service["spec"]["selector"]
        assert selector["statefulset.kubernetes.io/pod-name"] == f"redpanda-{number}"
        labels = stateful["spec"]["template"]["metadata"]["labels"]
        assert selector["app.kubernetes.io/instance"] == labels["app.kubernetes.io/instance"] == "redpanda"
        (port,) = service["spec"]["ports"]
        assert (port["nodePort"], port["targetPort"]) == (31200 + number, listener["containerPort"])
    certificates = {
        item["metadata"]["name"]: item["spec"] for item in release["objects"] if item["kind"] == "Certificate"
    }
    assert certificates["redpanda-external"]["ipAddresses"] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert "*.redpanda.streams.svc.cluster.local" in certificates["redpanda-default"]["dnsNames"]
    bootstrap = json.loads(one(found, "ConfigMap", "redpanda")["data"][".bootstrap.json.in"])
    assert bootstrap["default_topic_replications"] == "3"
    assert bootstrap["enable_sasl"] == "true"


def test_a_small_board_is_let_in(objects: Objects) -> None:
    configuration = one(objects("redpanda", "small board"), "ConfigMap", "redpanda")["data"]["redpanda.yaml"]
    assert "developer_mode: true" in configuration
    assert "--smp=1" in configuration
    assert "overprovisioned: true" in configuration


# Shared volumes -------------------------------------------------------------------------------------------------------


def test_the_nfs_server_keeps_its_data_and_its_address(objects: Objects) -> None:
    found = objects("nfs_provisioner", "defaults")
    stateful = one(found, "StatefulSet")
    spec = stateful["spec"]["template"]["spec"]
    assert stateful["spec"]["replicas"] == 1
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    assert claim["spec"]["storageClassName"] == "local-path"
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert not [volume for volume in spec.get("volumes") or [] if "emptyDir" in volume]
    (server,) = spec["containers"]
    assert {"-provisioner=skerry.dev/nfs", "-device-based-fsids=false", "-grace-period=90"} <= set(server["args"])
    assert {"name": "data", "mountPath": "/export"} in server["volumeMounts"]
    service = one(found, "Service")
    assert service["spec"]["clusterIP"] == "10.43.0.49"
    assert service["spec"]["selector"].items() <= stateful["spec"]["template"]["metadata"]["labels"].items()
    # The grace period of locks has to pass before the pod is killed.
    assert spec["terminationGracePeriodSeconds"] > 90


def test_the_nfs_class_is_for_those_who_ask(objects: Objects) -> None:
    found = one(objects("nfs_provisioner", "defaults"), "StorageClass", "nfs")
    assert found["provisioner"] == "skerry.dev/nfs"
    assert found["mountOptions"] == ["nfsvers=4.1", "hard", "timeo=600", "retrans=2"]
    annotations = found["metadata"].get("annotations") or {}
    assert annotations.get("storageclass.kubernetes.io/is-default-class", "false") == "false"


def test_a_claim_that_is_there_is_used(objects: Objects) -> None:
    found = objects("nfs_provisioner", "ganesha with everything")
    stateful = one(found, "StatefulSet")
    spec = stateful["spec"]["template"]["spec"]
    assert not stateful["spec"].get("volumeClaimTemplates")
    assert spec["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}]
    assert spec["nodeSelector"] == {"skerry.dev/host-type": "cloud"}
    assert one(found, "StorageClass", "shared")["reclaimPolicy"] == "Retain"


def test_the_driver_mounts_on_every_node_from_the_sites_server(objects: Objects) -> None:
    found = objects("nfs_provisioner", "csi")
    storage = one(found, "StorageClass", "nfs-csi")
    assert storage["provisioner"] == one(found, "CSIDriver")["metadata"]["name"]
    assert storage["parameters"] == {
        "server": "nas.example.org",
        "share": "/export/k3s",
        "subDir": "${pvc.metadata.namespace}/${pvc.metadata.name}",
        "mountPermissions": "0770",
    }
    assert one(found, "DaemonSet")["spec"]["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]
    controller = one(found, "Deployment")["spec"]["template"]["spec"]
    assert controller["nodeSelector"]["skerry.dev/host-type"] == "cloud"
    assert {"key": "dedicated", "operator": "Exists"} in controller["tolerations"]
    assert "csi-snapshotter" not in {item["name"] for item in controller["containers"]}
    assert all(image.startswith("registry.site/sig-storage/") for image in images(found))
