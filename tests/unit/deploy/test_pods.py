"""What becomes of a workload in a cluster: its objects, its nodes, its rows; nothing is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.deploy import kube, placement
from skerry.deploy.desired import desired
from skerry.deploy.kube import images, lines, pods, render, roll
from skerry.deploy.kube.revisions import History
from skerry.deploy.load import Module, Submitted
from skerry.deploy.model import Workload
from skerry.deploy.modules import Form
from skerry.deploy.placement import Assignment, HostView, NodeView
from skerry.targets.api import Target

DIGEST = "ab" * 32


def workload(**more: Any) -> Workload:
    return Workload.model_validate({"name": "a", "kind": "service", "module": "m.wasm", "rung": "pod", **more})


def submitted(form: Form = "core", **more: Any) -> Submitted:
    one = workload(**more)
    secrets = dict.fromkeys(one.secrets, b"hush")
    return Submitted(one, "site", Module(DIGEST, "My Module", 9, form, None), {}, None, {}, secrets)


def made(**more: Any) -> dict[str, Any]:
    one = submitted(**more)
    wanted = {"replicas": one.workload.placement.replicas, "nodes": ["n1", "n2"], "match": {"zone": "z"}}
    return desired(one, Assignment("cluster/c", "pod", {"name": "crun-wasm", "version": "", "command": ""}, "", wanted))


def target(name: str, cluster: str = "c", **more: Any) -> Target:
    group = "skerry_agents" if cluster else "skerry_plain"
    return Target(name, {"k3s_cluster_name": cluster, **more}, (group,), {"zone": name})


def node(name: str, *classes: str, taints: str = "", **labels: str) -> NodeView:
    return NodeView(name, name, labels, frozenset(classes), taints)


def cluster(*nodes: NodeView, running: frozenset[str] = frozenset()) -> HostView:
    return HostView("", {}, running, {one.name: one for one in nodes})


# -- where -------------------------------------------------------------------------------------------------------------


def choose(one: Workload, views: dict[str, HostView], *targets: Target, held: frozenset[str] = frozenset(),
           form: Form = "core") -> placement.Chosen:
    return placement.choose(one, form, targets, views, held)


def test_a_cluster_is_one_place_with_all_nodes_that_fit() -> None:
    views = {"cluster/c": cluster(node("e1", "crun-wasm"), node("e2", "crun-wasm"), node("e3"))}
    hosts = target("e1"), target("e2"), target("e3"), target("p", "")
    found = choose(workload(placement={"replicas": 1}), views, *hosts)
    (place,) = found.assignments
    assert (place.host, place.runtime["name"]) == ("cluster/c", "crun-wasm")
    assert place.pods == {"replicas": 1, "nodes": ["e1", "e2"], "match": {}}
    assert {one.host: one.reason for one in found.passed} == {
        "e3": "no RuntimeClass of its node was proved to run this (role wasm_runtime)",
        "p": "it is no node of a cluster"}


def test_replicas_are_shared_among_clusters_and_may_outnumber_nodes() -> None:
    views = {"cluster/c": cluster(node("e1", "crun-wasm")), "cluster/d": cluster(node("e2", "crun-wasm"))}
    found = choose(workload(placement={"replicas": 5}), views, target("e1"), target("e2", "d"))
    counts = {one.host: (one.pods or {})["replicas"] for one in found.assignments}
    assert sorted(counts.values()) == [2, 3]
    assert not found.short


def test_a_component_takes_the_class_that_runs_it() -> None:
    views = {"cluster/c": cluster(node("e1", "crun-wasm", "wasmtime"), node("e2", "crun-wasm"))}
    (place,) = choose(workload(), views, target("e1"), target("e2"), form="component").assignments
    assert (place.runtime["name"], (place.pods or {})["nodes"]) == ("wasmtime", ["e1"])
    (place,) = choose(workload(), views, target("e1"), target("e2")).assignments
    assert place.runtime["name"] == "crun-wasm", "the one that most nodes have"


@pytest.mark.parametrize(("more", "reason"), [
    ({"directories": [{"host": "/srv", "guest": "/d"}]}, "directories of a host"),
    ({"stdin": "x"}, "standard input"),
    ({"restart": "never"}, "restarts the pods of a service always"),
    ({"placement": {"region": "eu"}}, "label topology.kubernetes.io/region is not set, not eu"),
])
def test_what_no_pod_can_do_is_said(more: dict[str, Any], reason: str) -> None:
    found = choose(workload(**more), {"cluster/c": cluster(node("e1", "crun-wasm"))}, target("e1"))
    assert not found.assignments
    assert reason in found.passed[0].reason


def test_auto_takes_a_pod_only_where_the_host_has_nothing_less() -> None:
    wasmtime = {"wasm_runtime": {"runtimes": {"wasmtime": {"proved": True, "version": "48", "command": "wasmtime"}}}}
    views = {"e1": HostView("x86_64", wasmtime), "e2": HostView("x86_64", {}),
             "cluster/c": cluster(node("e1", "crun-wasm"), node("e2", "crun-wasm"))}
    auto = workload(rung="auto")
    assert not placement.needs_cluster(auto, "core", target("e1"), views["e1"])
    assert placement.needs_cluster(auto, "core", target("e2"), views["e2"])
    found = choose(auto, views, target("e1"), target("e2"))
    assert [(one.host, one.rung) for one in found.assignments] == [("e1", "process"), ("cluster/c", "pod")]
    assert (found.assignments[1].pods or {})["nodes"] == ["e2"]


def test_a_cluster_that_cannot_be_asked_keeps_what_it_was_given() -> None:
    found = choose(workload(placement={"replicas": 3}), {}, target("e1"), held=frozenset({"cluster/c"}))
    assert (found.assignments, found.short) == ([], "")
    assert choose(workload(placement={"replicas": 3}), {}, target("e1")).short == "no host can run it"


# -- objects -----------------------------------------------------------------------------------------------------------


def last(one: dict[str, Any]) -> dict[str, Any]:
    return render.objects(one)[-1]


def spec(one: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = last(one)["spec"]["template"]["spec"]
    return found


def test_more_replicas_replace_no_pod() -> None:
    two, three = made(placement={"replicas": 2}), made(placement={"replicas": 3})
    assert two["revision"] != three["revision"]
    assert last(two)["spec"]["template"] == last(three)["spec"]["template"]
    assert last(made(env={"A": "1"}, placement={"replicas": 2}))["spec"]["template"] != last(two)["spec"]["template"]


def test_a_replica_leaves_a_silent_node_and_one_on_each_waits() -> None:
    away = {one.get("tolerationSeconds") for one in spec(made(placement={"replicas": 2}))["tolerations"]}
    assert away == {render.AWAY_SECONDS}
    each = made()
    assert last(each)["kind"] == "DaemonSet"
    assert {one.get("tolerationSeconds") for one in spec(each)["tolerations"]} == {None}
    assert "PodDisruptionBudget" not in {one["kind"] for one in render.objects(each)}
    assert "PodDisruptionBudget" in {one["kind"] for one in render.objects(made(placement={"replicas": 1}))}


def test_requests_and_limits() -> None:
    (container,) = spec(made(limits={"memory": "64Mi", "cpu": 0.5}))["containers"]
    assert container["resources"] == {"limits": {"memory": str(64 << 20), "cpu": "500m"},
                                      "requests": {"memory": str(64 << 20), "cpu": "50m"}}
    job = made(kind="job", limits={"time": "90s", "output": "1Mi", "memory": None})
    assert spec(job)["activeDeadlineSeconds"] == 90
    assert spec(job)["containers"][0]["resources"]["limits"] == {"ephemeral-storage": str(1 << 20)}


def test_a_pod_passes_the_restricted_standard_and_reads_secrets_from_its_own_secret() -> None:
    one = made(secrets={"TOKEN": {"env": "X"}, "KEY": {"env": "Y", "mount": "/etc/key"}}, args=["-v"])
    pod = spec(one)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}
    assert (container["command"], container["args"]) == (["/My_Module"], ["-v"])
    assert (container["image"], container["imagePullPolicy"]) == (f"skerry.local/modules/my-module:{DIGEST}", "Never")
    name = render.content_name(one)
    assert container["env"] == [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": "TOKEN"}}}]
    assert container["volumeMounts"] == [
        {"name": "secrets", "mountPath": "/etc/key", "subPath": "KEY", "readOnly": True}]
    (secret,) = render.contents(one, {}, {"TOKEN": b"hush", "KEY": b"key"})
    assert (secret["metadata"]["name"], secret["immutable"], secret["data"]["TOKEN"]) == (name, True, "aHVzaA==")


@pytest.mark.parametrize(("more", "rules"), [
    ({}, ([], [])),
    ({"network": True}, ([{}], [{}])),
    ({"ports": [{"port": 8080}]}, ([{"ports": [{"port": 8080, "protocol": "TCP"}]}], [])),
])
def test_the_network_is_closed_unless_asked_for(more: dict[str, Any], rules: tuple[Any, Any]) -> None:
    policy = next(one for one in render.objects(made(**more)) if one["kind"] == "NetworkPolicy")
    assert (policy["spec"]["ingress"], policy["spec"]["egress"]) == rules


def test_runs_on_several_nodes_stand_each_for_itself() -> None:
    many = last(made(kind="job"))["spec"]
    assert (many["completions"], many["completionMode"], many["backoffLimitPerIndex"]) == (2, "Indexed", 0)
    assert last(made(kind="job", placement={"replicas": 1}, restart="on-failure"))["spec"]["backoffLimit"] == 6


def test_a_trial_is_known_to_no_service_and_ends_by_itself() -> None:
    one = made(placement={"replicas": 2})
    pod = render.trial(one, "abc", 40)
    assert render.INSTANCE not in pod["metadata"]["labels"]
    assert pod["metadata"]["labels"][render.NAME] == "a"
    assert (pod["spec"]["activeDeadlineSeconds"], pod["spec"]["restartPolicy"]) == (40, "Never")


def test_an_owner_that_is_no_label_becomes_a_digest() -> None:
    assert render.owner_label("site") == "site"
    assert len(render.owner_label("a site/of ours")) == 16


# -- what it does ------------------------------------------------------------------------------------------------------


def pod_of(one: dict[str, Any], node_name: str = "n1", *, reason: str = "", **state: Any) -> dict[str, Any]:
    status = {"phase": "Failed" if "terminated" in state else "Running", "reason": reason,
              "containerStatuses": [{"state": state, "restartCount": 0}],
              "conditions": [{"type": "Ready", "status": "True" if "running" in state else "False"}]}
    labels = {**render.labels(one), "batch.kubernetes.io/job-name": "a-1"}
    return {"metadata": {"name": "p", "labels": labels, "annotations": {render.CONTENT: render.content(one)}},
            "spec": {"nodeName": node_name}, "status": status}


def seen(one: dict[str, Any], *found: dict[str, Any], lost: frozenset[str] = frozenset()) -> pods.Seen:
    job = {"metadata": {"name": "a-1", "labels": render.labels(one)}, "status": {}}
    return pods.Seen("cluster/c", {"a": History("a", 3, {3: one})}, found, [job], (), {"n1": "edge-1"}, lost)


@pytest.mark.parametrize(("over", "reason", "told"), [
    ({"exitCode": 0}, "", {"code_lost": True}),
    ({"exitCode": 3}, "", {"exit_code": 3}),
    ({"exitCode": 137, "reason": "OOMKilled"}, "", {"limit": "memory"}),
    ({"exitCode": 137}, "DeadlineExceeded", {"limit": "time"}),
    ({"exitCode": 137}, "", {"signal": "SIGKILL"}),
    ({"exitCode": 1, "message": "[error] execution failed: unreachable, Code: 0x40a"}, "",
     {"trap": "[error] execution failed: unreachable, Code: 0x40a"}),
])
def test_how_a_run_ended(over: dict[str, Any], reason: str, told: dict[str, Any]) -> None:
    one = made(kind="job")
    (row,) = pods.rows(seen(one, pod_of(one, reason=reason, terminated=over)), 0)
    keys = ("exit_code", "limit", "trap", "signal", "code_lost")
    kept = {key: row["last"][key] for key in keys if row["last"].get(key) is not None}
    assert kept == told
    assert (row["host"], row["number"], row["last"]["invocation"]) == ("edge-1", 3, "a-1")


def test_an_evicted_pod_is_replaced_and_any_other_end_is_a_failure() -> None:
    gone = pod_of(made(), reason="Evicted", terminated={"exitCode": 137})
    assert not roll._hopeless(gone)
    assert "exit code 137" in roll._hopeless(pod_of(made(), terminated={"exitCode": 137}))


def test_what_a_lost_node_does_is_unknown_and_not_gone() -> None:
    one = made()
    (row,) = pods.rows(seen(one, pod_of(one, running={}), lost=frozenset({"n1"})), 0)
    assert (row["state"], row["ready"], row["host"]) == ("unknown", False, "edge-1")
    (row,) = pods.rows(seen(one, pod_of(one, running={})), 0)
    assert (row["state"], row["ready"]) == ("running", True)
    (row,) = pods.rows(seen(one), 0)
    assert (row["state"], row["host"]) == ("stopped", "cluster/c")


def test_a_revision_is_found_by_number_digest_or_module() -> None:
    known = {number: made(env={"N": str(number)}) for number in (1, 2, 3)}
    history = History("a", 3, known)
    assert history.find("") == 2
    assert history.find("r1") == history.find(known[1]["revision"][:8]) == 1
    assert history.find(DIGEST[:12]) == 3
    assert history.find("r9") is None
    assert History("a", 1, known).find("") is None


def test_nodes_without_the_module_are_left_out_of_the_same_revision() -> None:
    one = made()
    less = roll.without(one, ["n2"])
    assert (less["pods"]["nodes"], less["revision"]) == (["n1"], one["revision"])


def test_a_node_that_tells_many_images_may_lack_to_tell_one() -> None:
    few = {"status": {"images": [{"names": ["a:1"]}]}}
    many = {"status": {"images": [{"names": [f"a:{number}"]} for number in range(50)]}}
    known = {"few": images.told(few), "many": images.told(many)}
    assert images.lacking("a:1", ["few", "many"], known) == ["many"]
    assert images.lacking("b:1", ["few"], known) == ["few"]


@pytest.mark.parametrize(("text", "query"), [
    ("", {}), ("-10min", {"sinceSeconds": "600"}), ("-2d", {"sinceSeconds": "172800"}),
    ("2026-11-21 14:00", {"sinceTime": "2026-11-21T14:00:00+00:00"}),
])
def test_since_is_said_in_the_apis_words(text: str, query: dict[str, str]) -> None:
    assert lines.since(text) == query


def test_an_inventory_without_a_kubeconfig_here_has_no_cluster_to_ask(tmp_path: Path) -> None:
    one = target("e1", k3s_kubeconfig_dir=str(tmp_path))
    assert kube.places([one]) == []
    (tmp_path / "c.yaml").write_text("{}")
    (place,) = kube.places([one, target("p", "")])
    assert (place.side, [member.name for member in place.members]) == ("cluster/c", ["e1"])
    assert kube.node_of(Target("Edge_1")) == "edge-1"
    # A kubeconfig of former days, and an inventory that leaves k3s out.
    assert kube.places([target("e1", k3s_kubeconfig_dir=str(tmp_path), k3s_enabled=False)]) == []
