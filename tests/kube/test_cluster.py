"""The tests' own cluster: what other tests take for granted of it."""

from __future__ import annotations

from skerry.inventory.specs import load_roles
from skerry.testing.kube import build, simulated
from skerry.testing.kube.cluster import Cluster


def test_it_is_of_the_minor_release_that_the_k3s_role_installs(api_server: Cluster) -> None:
    found = api_server.admin.get("/version")
    assert found["gitVersion"] == build.kubernetes_version()
    default = str(load_roles()["k3s"].defaults["k3s_version"])
    assert default.removeprefix("v").split(".")[:2] == [found["major"], found["minor"]]


def test_its_nodes_are_ready_and_run_what_is_scheduled(api_server: Cluster) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "example.org/web:1"}]},
            },
        },
    }
    assert api_server.admin.create(deployment).status == 201
    path = api_server.admin.path_of(deployment)

    def ready() -> bool:
        return bool(api_server.admin.get(path).get("status", {}).get("readyReplicas") == 3)

    api_server.wait("with three pods", ready, 60)
    assert api_server.admin.delete(deployment).status == 200


def test_a_pod_keeps_a_status_that_a_test_gave_it(api_server: Cluster) -> None:
    pod = simulated.pod(7, "node-0001")
    pod["metadata"]["annotations"] = {"kwok.x-k8s.io/status": "custom"}
    assert api_server.admin.create(pod).status == 201
    path = api_server.admin.path_of(pod)
    status = {"status": {"phase": "Failed", "reason": "Evicted"}}
    assert api_server.admin.ask("PATCH", f"{path}/status", status, "application/merge-patch+json").status == 200
    other = simulated.pod(8, "node-0001")
    assert api_server.admin.create(other).status == 201
    beside = api_server.admin.path_of(other)
    api_server.wait("running the other", lambda: api_server.admin.get(beside)["status"]["phase"] == "Running", 60)
    assert api_server.admin.get(path)["status"]["phase"] == "Failed"
    assert api_server.admin.ask("DELETE", path).status == 200
    assert api_server.admin.ask("DELETE", beside).status == 200


def test_it_refuses_a_field_that_no_schema_has(api_server: Cluster) -> None:
    pod = simulated.pod(1, "node-0000")
    pod["spec"]["nodeNmae"] = "node-0000"
    assert "spec.nodeNmae: field not declared in schema" in api_server.admin.apply(pod).message
    path = "/api/v1/namespaces/default/pods?fieldValidation=Strict"
    created = api_server.admin.ask("POST", path, pod)
    assert (created.status, 'unknown field "spec.nodeNmae"' in created.message) == (400, True)


def test_users_are_who_their_certificates_say(api_server: Cluster) -> None:
    nobody = api_server.client("nobody")
    refused = nobody.ask("GET", "/api/v1/nodes")
    assert refused.status == 403
    assert 'User "nobody" cannot list resource "nodes"' in refused.message
