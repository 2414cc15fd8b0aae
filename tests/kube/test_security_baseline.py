"""The security baseline on a real API server: what it forbids is refused, what it allows works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube import applying
from kube.applying import APPLY, Case, Recorded

from skerry.testing.kube.client import Client, Object
from skerry.testing.kube.cluster import Cluster

SPACE = "skerry-workloads"
#: Small, so that a test reaches it; and a second namespace with settings of its own.
CASE = Case(
    "security_baseline",
    "small",
    {
        "security_baseline_namespaces": {
            SPACE: {},
            "baseline-test-open": {"pod_security": "baseline", "isolate": False, "quota": {}, "limits": [],
                                   "labels": {"team": "a"}, "operators": [], "viewers": []},
            "baseline-test-own": {"allow": ["dns", "broker"]},
        },
        "security_baseline_quota": {"pods": "3", "requests.memory": "1Gi", "services.nodeports": "0"},
        "security_baseline_exceptions": {"broker": {"egress": [{"ports": [{"port": 9092, "protocol": "TCP"}]}]}},
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    found = applying.record([CASE], tmp_path_factory.mktemp("baseline"))[CASE]
    assert not found.failure, found.failure
    return found


@pytest.fixture(scope="module")
def cluster(api_server: Cluster, recorded: Recorded) -> Iterator[Cluster]:
    """The API server with the baseline; it goes with all its namespaces."""
    arguments = recorded.calls[0][1]
    applying.bring(api_server, APPLY, arguments)

    def account_and_quota() -> bool:
        counted = api_server.admin.ask("GET", f"/api/v1/namespaces/{SPACE}/resourcequotas/skerry-baseline").body
        return "used" in counted.get("status", {})

    api_server.wait("with a counted quota", account_and_quota, 30)
    yield api_server
    applying.bring(api_server, APPLY, {**arguments, "state": "absent", "keep_data": False})


@pytest.fixture
def operator(cluster: Cluster) -> Client:
    return cluster.client("olga", "skerry:wasm-operators")


@pytest.fixture
def viewer(cluster: Cluster) -> Client:
    return cluster.client("vera", "skerry:wasm-viewers")


def pod(name: str, namespace: str = SPACE, **changes: Any) -> Object:
    """A pod that the level `restricted` lets in; ``changes`` go into its container."""
    container = {
        "name": "main",
        "image": "example.org/app:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **changes,
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {"securityContext": security, "containers": [container]}}  # fmt: skip


FORBIDDEN: dict[str, dict[str, Any]] = {
    "root": {"securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}},
    "privileged": {"securityContext": {"privileged": True}},
    "escalation": {"securityContext": {"capabilities": {"drop": ["ALL"]}}},
    "capabilities": {"securityContext": {"allowPrivilegeEscalation": False}},
    "net_admin": {"securityContext": {"allowPrivilegeEscalation": False,
                                      "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}},
    "host port": {"ports": [{"containerPort": 80, "hostPort": 80}]},
}  # fmt: skip


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_pod_that_wants_too_much_is_refused(what: str, operator: Client) -> None:
    answer = operator.create(pod("greedy", **FORBIDDEN[what]))
    assert answer.status == 403, answer
    assert "violates PodSecurity" in answer.message


@pytest.mark.parametrize("field", [{"hostNetwork": True}, {"hostPID": True},
                                   {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}])
def test_a_pod_that_wants_the_host_is_refused(field: dict[str, Any], operator: Client) -> None:
    item = pod("greedy")
    item["spec"].update(field)
    answer = operator.create(item)
    assert (answer.status, "violates PodSecurity" in answer.message) == (403, True), answer


def test_a_modest_pod_runs_with_the_limits_of_the_namespace_and_no_token(cluster: Cluster, operator: Client) -> None:
    answer = operator.create(pod("modest"))
    assert answer.status == 201, answer
    container = answer.body["spec"]["containers"][0]
    assert container["resources"] == {"limits": {"cpu": "1", "memory": "128Mi"},
                                      "requests": {"cpu": "50m", "memory": "32Mi"}}  # fmt: skip
    assert not container.get("volumeMounts")
    path = f"/api/v1/namespaces/{SPACE}/pods/modest"
    cluster.wait("running the pod", lambda: operator.get(path)["status"]["phase"] == "Running", 60)
    assert operator.ask("DELETE", path).status == 200


def test_the_quota_ends_what_one_namespace_may_take(cluster: Cluster, operator: Client) -> None:
    def pods() -> int:
        return len(operator.get(f"/api/v1/namespaces/{SPACE}/pods")["items"])

    cluster.wait("without pods", lambda: pods() == 0, 60)
    answers = [operator.create(pod(f"one-of-many-{number}")) for number in range(5)]
    assert [answer.status for answer in answers] == [201, 201, 201, 403, 403]
    assert "exceeded quota: skerry-baseline" in answers[-1].message
    operator.ask("DELETE", f"/api/v1/namespaces/{SPACE}/pods")
    cluster.wait("without pods", lambda: pods() == 0, 60)


def test_one_container_gets_no_more_than_the_limit(operator: Client) -> None:
    answer = operator.create(pod("fat", resources={"limits": {"memory": "3Gi"}}))
    assert answer.status == 403
    assert "maximum memory usage per Container is 2Gi" in answer.message


def test_a_service_that_would_open_a_port_of_every_node_is_refused(operator: Client) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "open", "namespace": SPACE},
               "spec": {"type": "NodePort", "ports": [{"port": 80}]}}  # fmt: skip
    answer = operator.create(service)
    assert (answer.status, "exceeded quota" in answer.message) == (403, True), answer


@pytest.fixture
def password(cluster: Cluster) -> Iterator[str]:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password", "namespace": SPACE},
              "stringData": {"value": "hunter2"}}  # fmt: skip
    assert cluster.admin.create(secret).status == 201
    yield f"/api/v1/namespaces/{SPACE}/secrets/password"
    cluster.admin.delete(secret)


def test_a_viewer_sees_what_runs_and_no_secret(viewer: Client, password: str) -> None:
    for path in ("pods", "services", "events", "configmaps", "resourcequotas"):
        assert viewer.ask("GET", f"/api/v1/namespaces/{SPACE}/{path}").status == 200, path
    assert viewer.ask("GET", "/api/v1/nodes").status == 200
    assert viewer.ask("GET", "/apis/node.k8s.io/v1/runtimeclasses").status == 200
    for path in (password, f"/api/v1/namespaces/{SPACE}/secrets", "/api/v1/secrets"):
        answer = viewer.ask("GET", path)
        assert (answer.status, "hunter2" in str(answer.body)) == (403, False), path


def test_a_viewer_changes_nothing(viewer: Client) -> None:
    assert viewer.create(pod("mine")).status == 403
    for path in ("pods/x/exec?command=sh", "pods/x/attach"):
        assert viewer.ask("POST", f"/api/v1/namespaces/{SPACE}/{path}").status == 403, path
    assert viewer.ask("DELETE", f"/api/v1/namespaces/{SPACE}/pods").status == 403


def test_an_operator_reads_the_secrets_of_the_namespace_and_of_no_other(operator: Client, password: str) -> None:
    assert operator.ask("GET", password).status == 200
    assert operator.ask("GET", "/api/v1/namespaces/kube-system/secrets").status == 403
    assert operator.ask("GET", "/api/v1/secrets").status == 403


@pytest.mark.parametrize(
    "path",
    [
        f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies/skerry-default-deny",
        f"/api/v1/namespaces/{SPACE}/resourcequotas/skerry-baseline",
        f"/api/v1/namespaces/{SPACE}/limitranges/skerry-baseline",
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SPACE}/rolebindings/wasm-viewer",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/wasm-operator",
        f"/api/v1/namespaces/{SPACE}",
        "/api/v1/nodes/node-0000",
    ],
)
def test_an_operator_cannot_take_the_guards_away(path: str, operator: Client) -> None:
    assert operator.ask("DELETE", path).status == 403
    label = {"metadata": {"labels": {"x": "y"}}}
    assert operator.ask("PATCH", path, label, "application/merge-patch+json").status == 403


def test_an_operator_cannot_give_rights_away(operator: Client) -> None:
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "metadata": {"name": "mine", "namespace": SPACE},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
               "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "olga"}]}  # fmt: skip
    assert operator.create(binding).status == 403
    path = f"/api/v1/namespaces/{SPACE}/serviceaccounts/default/token"
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
    assert operator.ask("POST", path, token).status == 403


def test_strangers_have_nothing(cluster: Cluster) -> None:
    stranger = cluster.client("mallory")
    assert stranger.ask("GET", f"/api/v1/namespaces/{SPACE}/pods").status == 403
    assert stranger.ask("GET", "/api/v1/nodes").status == 403


def test_the_network_is_closed_but_for_the_exceptions_that_are_named(cluster: Cluster) -> None:
    def policies(space: str) -> dict[str, Object]:
        items = cluster.admin.get(f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies")["items"]
        return {item["metadata"]["name"]: item["spec"] for item in items}

    usual = policies(SPACE)
    assert sorted(usual) == ["skerry-allow-dns", "skerry-allow-monitoring", "skerry-allow-same-namespace",
                             "skerry-default-deny"]  # fmt: skip
    assert usual["skerry-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert usual["skerry-allow-dns"]["policyTypes"] == ["Egress"]
    assert policies("baseline-test-open") == {}
    own = policies("baseline-test-own")
    assert sorted(own) == ["skerry-allow-broker", "skerry-allow-dns", "skerry-default-deny"]
    assert own["skerry-allow-broker"]["egress"] == [{"ports": [{"port": 9092, "protocol": "TCP"}]}]


def test_a_namespace_has_the_settings_of_its_own(cluster: Cluster) -> None:
    labels = cluster.admin.get("/api/v1/namespaces/baseline-test-open")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    assert labels["team"] == "a"
    # Baseline lets root in, but not the host.
    answer = cluster.admin.create(pod("root", "baseline-test-open", **FORBIDDEN["root"]))
    assert answer.status == 201, answer
    assert cluster.admin.create(pod("host", "baseline-test-open", **FORBIDDEN["privileged"])).status == 403


def test_what_is_no_longer_listed_goes_and_namespaces_stay(cluster: Cluster, recorded: Recorded) -> None:
    arguments = recorded.calls[0][1]
    fewer = [item for item in arguments["objects"]
             if "baseline-test-own" not in (item["metadata"].get("namespace"), item["metadata"]["name"])]
    applying.bring(cluster, APPLY, {**arguments, "objects": fewer})
    base = "/apis/networking.k8s.io/v1/namespaces/baseline-test-own/networkpolicies"
    assert cluster.admin.get(base)["items"] == []
    assert cluster.admin.ask("GET", "/api/v1/namespaces/baseline-test-own").status == 200
    assert applying.bring(cluster, APPLY, arguments)
    assert applying.bring(cluster, APPLY, arguments) == []


def test_taking_it_away_leaves_the_namespaces_and_what_is_in_them(cluster: Cluster, recorded: Recorded) -> None:
    arguments = recorded.calls[0][1]
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": SPACE}}
    assert cluster.admin.create(settings).status == 201
    absent = {**arguments, "state": "absent"}
    assert applying.bring(cluster, APPLY, absent, check=True)
    assert applying.bring(cluster, APPLY, absent)
    assert applying.bring(cluster, APPLY, absent) == []
    for path in (f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies/skerry-default-deny",
                 f"/api/v1/namespaces/{SPACE}/resourcequotas/skerry-baseline",
                 "/apis/rbac.authorization.k8s.io/v1/clusterroles/wasm-operator"):  # fmt: skip
        assert cluster.admin.ask("GET", path).status == 404, path
    assert cluster.admin.delete(settings).status == 200
    applying.bring(cluster, APPLY, arguments)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "exception": ({"a": {"allow": ["dsn"]}}, "allows dsn (known: dns, ingress, internet"),
    "level": ({"a": {"pod_security": "strict"}}, "has pod_security strict (known: privileged"),
    "setting": ({"a": {"podsecurity": "restricted"}}, "has an unknown setting podsecurity"),
}


def test_a_mistake_is_named_before_anything_changes(tmp_path: Path) -> None:
    variable = "security_baseline_namespaces"
    wanted = [Case("security_baseline", name, {variable: spaces}) for name, (spaces, _) in BAD.items()]
    for case, found in applying.record(wanted, tmp_path).items():
        assert found.calls == []
        assert "POLICY_001" in found.failure
        assert BAD[case.name][1] in found.failure
