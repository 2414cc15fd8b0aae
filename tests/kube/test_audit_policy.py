"""The audit policy of role k3s on a real API server: it says who did what, never what a Secret holds, and no noise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from skerry import paths
from skerry.testing.kube.cluster import Cluster, Plan

POLICY = paths.root() / "roles" / "k3s" / "files" / "audit-policy.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    arguments = ("--audit-policy-file={dir}/audit.yaml", "--audit-log-path={dir}/audit.log")
    plan = Plan(nodes=1, apiserver=arguments, files={"audit.yaml": POLICY.read_text()})
    with Cluster(plan) as running:
        yield running


@pytest.fixture(scope="module")
def events(cluster: Cluster) -> list[dict[str, Any]]:
    """Events of what a person did: a Secret made and read, a pod listed, a role given."""
    person = cluster.client("olga", "system:masters")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password", "namespace": "default"},
              "stringData": {"value": "hunter2"}}  # fmt: skip
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "given"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}  # fmt: skip
    assert person.create(secret).status == 201
    assert person.ask("GET", person.path_of(secret)).status == 200
    assert person.ask("GET", "/api/v1/pods").status == 200
    assert person.create(role).status == 201
    person.ask("POST", "/api/v1/namespaces/default/pods/none/exec?command=sh")
    assert person.delete(secret).status == 200
    text = (cluster.folder / "audit.log").read_text()
    assert "hunter2" not in text
    assert "aHVudGVyMg" not in text
    return [json.loads(line) for line in text.splitlines()]


def of(events: list[dict[str, Any]], user: str) -> list[tuple[str, str, str]]:
    """(verb, resource, level) of a user's events."""
    found = []
    for event in events:
        where = event.get("objectRef") or {}
        resource = "/".join(filter(None, [where.get("resource"), where.get("subresource")]))
        if event["user"]["username"] == user:
            found.append((event["verb"], resource, event["level"]))
    return found


def test_a_person_s_changes_and_looks_at_secrets_are_logged(events: list[dict[str, Any]]) -> None:
    seen = of(events, "olga")
    for wanted in (("create", "secrets", "Metadata"), ("get", "secrets", "Metadata"), ("delete", "secrets", "Metadata"),
                   ("create", "clusterroles", "Request"), ("create", "pods/exec", "Metadata")):  # fmt: skip
        assert wanted in seen, wanted
    assert not any(resource == "pods" for _, resource, _ in seen)


def test_a_role_that_was_given_is_logged_with_its_rules(events: list[dict[str, Any]]) -> None:
    (given,) = [event for event in events if (event.get("objectRef") or {}).get("name") == "given"]
    assert given["requestObject"]["rules"][0]["resources"] == ["pods"]


def test_the_system_s_own_heartbeat_is_not(events: list[dict[str, Any]]) -> None:
    seen = {entry for user in {event["user"]["username"] for event in events} for entry in of(events, user)}
    noise = {"leases", "events", "nodes/status", "pods/status", "endpointslices", "subjectaccessreviews"}
    assert not noise & {resource for _, resource, _ in seen}
    assert not [(verb, resource) for verb, resource, _ in seen
                if verb in ("get", "list", "watch") and resource != "secrets"]  # fmt: skip
