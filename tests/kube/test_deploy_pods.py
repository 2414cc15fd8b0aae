"""Rung pod against a real API server: what is applied passes the restricted standard, stays, changes, fails, goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
import yaml

from skerry import paths
from skerry.deploy import kube, load, verbs
from skerry.deploy.exchange import connect
from skerry.deploy.kube import render, revisions
from skerry.deploy.kube.cluster import NAMESPACE
from skerry.deploy.kube.side import Side
from skerry.deploy.placement import candidates
from skerry.deploy.rollout import Outcome, Report, Rollout
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target
from skerry.testing.kube.client import Object
from skerry.testing.kube.cluster import Cluster

SIDE = "cluster/kube"
SERVICE = {"name": "ticker", "kind": "service", "module": "m.wasm", "rung": "pod", "placement": {"replicas": 2},
           "limits": {"memory": "64Mi", "cpu": 0.5}}
JOB = {"name": "once", "kind": "job", "module": "m.wasm", "rung": "pod", "placement": {"replicas": 1}}

Deploy = Callable[..., Report]


@pytest.fixture(scope="module")
def targets(api_server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    """Hosts of an inventory whose nodes are the cluster's; their nodes tell that they have the module."""
    folder = tmp_path_factory.mktemp("kube")
    (folder / "kube.yaml").write_bytes(api_server.kubeconfig.read_bytes())
    module = wasm_modules.module("loops")
    (folder / "m.wasm").write_bytes(module)
    image = kube.image_of("m", load.digest(folder / "m.wasm"))
    found = []
    for number, node in enumerate(api_server.admin.get("/api/v1/nodes")["items"]):
        name = node["metadata"]["name"]
        zone = f"z{number}"
        change: Object = {"metadata": {"labels": {"skerry.dev/runtime-crun-wasm": "true",
                                                  "topology.kubernetes.io/zone": zone}}}
        merge = "application/merge-patch+json"
        assert api_server.admin.ask("PATCH", f"/api/v1/nodes/{name}", change, merge).status == 200
        status = {"status": {"images": [{"names": [image], "sizeBytes": 200}]}}
        assert api_server.admin.ask("PATCH", f"/api/v1/nodes/{name}/status", status, merge).status == 200
        host_type = node["metadata"]["labels"]["skerry.dev/host-type"]
        variables = {"k3s_cluster_name": "kube", "k3s_kubeconfig_dir": str(folder), "k3s_node_name": name}
        found.append(Target(f"host-{number}", variables, ("skerry_agents",), {"host_type": host_type, "zone": zone}))
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "crun-wasm"},
               "handler": "crun-wasm", "scheduling": {"nodeSelector": {"skerry.dev/runtime-crun-wasm": "true"}}}
    assert api_server.admin.apply(runtime).status in (200, 201)
    return found


@pytest.fixture
def deploy(targets: list[Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Deploy documents; everything of them is gone afterwards."""
    monkeypatch.setattr(paths, "state", lambda: tmp_path / "state")
    monkeypatch.setenv("SKERRY_TEST_TOKEN", "hush")
    (tmp_path / "m.wasm").write_bytes(wasm_modules.module("loops"))
    (tmp_path / "config").write_text("first line\n")
    inventory = [str(tmp_path / "inventory")]

    def run(*documents: dict[str, Any], dry_run: bool = False, prune: bool = False, owner: str = "") -> Report:
        (tmp_path / "site.yml").write_text(yaml.safe_dump_all(documents))
        submitted = load.read(tmp_path / "site.yml", {}, owner)
        rollout = Rollout(targets, submitted, inventory, prune)
        # With prune every host is asked, and these are names without a machine.
        rollout._involved = list  # type: ignore[method-assign]
        return rollout.plan() if dry_run else rollout.run()

    yield run
    with connect([], 20, kube.places(targets)) as sides:
        names = sorted(sides.open[SIDE].view.running)
        list(sides.open[SIDE].ask({"op": "remove", "names": names}))


def ask(targets: list[Target], **message: Any) -> list[dict[str, Any]]:
    """One question to the cluster's side."""
    with connect([], 20, kube.places(targets)) as sides:
        assert not sides.faults
        return list(sides.open[SIDE].ask(message))


def rows(targets: list[Target], name: str) -> list[dict[str, Any]]:
    (answer,) = ask(targets, op="status")
    return [row for row in answer["workloads"] if row["name"] == name]


def only(report: Report) -> Outcome:
    (found,) = report.outcomes
    assert found.host == SIDE
    return found


def listed(api_server: Cluster, path: str) -> list[Object]:
    base, _, plural = path.rpartition("/")
    found: list[Object] = api_server.admin.get(f"/{base}/namespaces/{NAMESPACE}/{plural}")["items"]
    return found


def names(items: list[Object]) -> set[str]:
    return {item["metadata"]["name"] for item in items}


def test_a_plan_asks_the_server_and_makes_nothing(deploy: Deploy, api_server: Cluster) -> None:
    found = only(deploy(SERVICE, dry_run=True))
    assert (found.action, found.rung) == ("create", "pod")
    assert found.why == "asked for: 2 on host-0, host-1, host-2"
    assert api_server.admin.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets").body.get("items", []) == []
    # A CronJob's name may have 52 letters.
    late = {**JOB, "name": "n" * 53, "kind": "schedule", "schedule": {"cron": "@daily"}}
    refused = only(deploy(late, dry_run=True))
    assert refused.action == "failed"
    assert refused.error is not None
    assert refused.error.code == "DEPLOY_081"


def test_a_service_is_a_deployment_that_the_restricted_standard_lets_in(deploy: Deploy, api_server: Cluster,
                                                                        targets: list[Target]) -> None:
    wanted = {**SERVICE, "secrets": {"TOKEN": {"env": "SKERRY_TEST_TOKEN"}}, "ports": [{"port": 8080}],
              "files": [{"source": "config", "guest": "/etc/app/config"}], "readiness": {"tcp": 8080, "timeout": 20}}
    assert only(deploy(wanted)).action == "created"
    assert only(deploy(wanted)).action == "unchanged"
    label = api_server.admin.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["labels"]
    assert label["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = listed(api_server, "api/v1/pods")
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    for pod in pods:
        assert pod["spec"]["runtimeClassName"] == "crun-wasm"
        assert pod["spec"]["nodeSelector"] == {"skerry.dev/runtime-crun-wasm": "true"}
        away = {one["key"]: one["tolerationSeconds"] for one in pod["spec"]["tolerations"]}
        assert away == dict.fromkeys(("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"),
                                     render.AWAY_SECONDS)
    (deployment,) = listed(api_server, "apis/apps/v1/deployments")
    fields = deployment["metadata"]["managedFields"]
    assert {one["manager"] for one in fields if one["operation"] == "Apply"} == {"skerry"}
    for path in ("api/v1/services", "apis/policy/v1/poddisruptionbudgets", "apis/networking.k8s.io/v1/networkpolicies"):
        assert names(listed(api_server, path)) == {"ticker"}
    assert "hush" not in json.dumps(listed(api_server, "apis/apps/v1/deployments"))
    found = rows(targets, "ticker")
    assert [(row["state"], row["ready"], row["rung"], row["cluster"]) for row in found] == [
        ("running", True, "pod", "kube")] * 2
    assert {row["host"] for row in found} <= {target.name for target in targets}


def test_only_its_own_fields_are_taken_and_drift_is_mended(deploy: Deploy, api_server: Cluster) -> None:
    deploy(SERVICE)
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/ticker"
    merge = "application/merge-patch+json"
    api_server.admin.ask("PATCH", path, {"metadata": {"annotations": {"example.org/note": "kept"}}}, merge)
    assert only(deploy(SERVICE)).action == "unchanged"
    api_server.admin.ask("PATCH", path, {"spec": {"replicas": 1}}, merge)
    assert only(deploy(SERVICE, dry_run=True)).action == "repair"
    assert only(deploy(SERVICE)).action == "repaired"
    after = api_server.admin.get(path)
    assert after["spec"]["replicas"] == 2
    assert after["metadata"]["annotations"]["example.org/note"] == "kept"


def test_rollback_goes_to_any_of_the_last_five(deploy: Deploy, api_server: Cluster, targets: list[Target]) -> None:
    def at(number: int) -> dict[str, Any]:
        return {**SERVICE, "placement": {"replicas": 1}, "env": {"N": str(number)},
                "secrets": {"TOKEN": {"env": "SKERRY_TEST_TOKEN"}}}

    deploy(at(1))
    first = rows(targets, "ticker")[0]["revision"]
    changed = only(deploy(at(2)))
    assert (changed.action, changed.changes) == ("changed", {"env": [{"N": "1"}, {"N": "2"}]})
    (back,) = ask(targets, op="rollback", name="ticker", revision="")
    assert back["result"]["action"] == "rolled back"
    assert {row["revision"] for row in rows(targets, "ticker")} == {first}
    for number in (3, 4, 5, 6):
        deploy(at(number))
    with pytest.raises(SkerryError, match="DEPLOY_088"):
        ask(targets, op="rollback", name="ticker", revision=first)
    ask(targets, op="rollback", name="ticker", revision="r4")
    (deployment,) = listed(api_server, "apis/apps/v1/deployments")
    assert {"name": "N", "value": "4"} in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    contents = [item for item in listed(api_server, "api/v1/secrets")
                if item["metadata"]["labels"].get(render.PART) == "content"]
    assert len(contents) == 1, "one Secret for all revisions that have the same secrets"


def test_what_does_not_come_up_is_put_back(deploy: Deploy, api_server: Cluster, targets: list[Target],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "START_SECONDS", 2)
    deploy(SERVICE)
    before = {row["pod"] for row in rows(targets, "ticker")}
    large = {**SERVICE, "limits": {"memory": "900Gi"}, "readiness": {"tcp": 8080, "timeout": "1s"},
             "ports": [{"port": 8080}]}
    found = only(deploy(large))
    assert (found.action, found.kept) == ("failed", True)
    assert found.error is not None
    assert found.error.code == "DEPLOY_087"
    assert "Insufficient memory" in found.error.cause
    assert {row["pod"] for row in rows(targets, "ticker") if row["ready"]} == before
    assert listed(api_server, "api/v1/services") == [], "what only the new revision had is gone"
    new = only(deploy({**large, "name": "other"}))
    assert (new.action, new.kept) == ("failed", False)
    assert names(listed(api_server, "apis/apps/v1/deployments")) == {"ticker"}


def test_one_on_each_is_a_daemon_set(deploy: Deploy, api_server: Cluster, targets: list[Target]) -> None:
    each = {**SERVICE, "placement": {"host_type": "edge"}}
    assert only(deploy(each)).action == "created"
    assert {row["host"] for row in rows(targets, "ticker")} == {"host-1", "host-2"}
    assert only(deploy(SERVICE)).action == "changed"
    assert listed(api_server, "apis/apps/v1/daemonsets") == []
    assert names(listed(api_server, "apis/apps/v1/deployments")) == {"ticker"}


def test_a_job_runs_once_and_once_more(deploy: Deploy, api_server: Cluster, targets: list[Target]) -> None:
    assert only(deploy(JOB)).action == "created"

    def wait(runs: int) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            jobs = listed(api_server, "apis/batch/v1/jobs")
            if len(jobs) == runs and all((job.get("status") or {}).get("succeeded") for job in jobs):
                return
            time.sleep(0.2)
        pytest.fail("the job does not end")

    wait(1)
    (row,) = rows(targets, "once")
    assert (row["state"], row["last"]["exit_code"]) == ("done", 0)  # this module cannot end with another code
    assert only(deploy(JOB)).action == "unchanged", "what has run is not run again"
    (said,) = ask(targets, op="run", name="once")
    wait(2)
    (row,) = rows(targets, "once")
    assert row["last"]["invocation"] == said["result"]["invocation"]
    assert only(deploy({**JOB, "args": ["2"]})).action == "changed"
    wait(3)


def test_a_schedule_is_a_cron_job_in_its_time_zone(deploy: Deploy, api_server: Cluster, targets: list[Target]) -> None:
    schedule = {**JOB, "name": "nightly", "kind": "schedule",
                "schedule": {"cron": "30 2 * * mon-fri", "time_zone": "Europe/Berlin"}}
    assert only(deploy(schedule)).action == "created"
    (cron,) = listed(api_server, "apis/batch/v1/cronjobs")
    assert (cron["spec"]["timeZone"], cron["spec"]["concurrencyPolicy"]) == ("Europe/Berlin", "Forbid")
    (row,) = rows(targets, "nightly")
    assert (row["state"], row["host"]) == ("waiting", SIDE)
    assert only(deploy(schedule)).action == "unchanged"


def test_nobody_elses_objects_are_touched(deploy: Deploy, api_server: Cluster, targets: list[Target]) -> None:
    deploy(SERVICE)
    other = only(deploy(SERVICE, owner="other"))
    assert other.error is not None
    assert (other.action, other.error.code, other.kept) == ("failed", "DEPLOY_083", True)
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs", "namespace": NAMESPACE},
               "spec": {"ports": [{"port": 80}]}}
    assert api_server.admin.apply(foreign, manager="somebody").status == 201
    refused = only(deploy({**SERVICE, "name": "theirs", "ports": [{"port": 80}]}))
    assert refused.error is not None
    assert refused.error.code == "DEPLOY_082"
    deploy({**SERVICE, "name": "mine"}, owner="other")
    pruned = deploy({**SERVICE, "name": "last"}, prune=True)
    assert {(one.name, one.action) for one in pruned.outcomes} == {("last", "created"), ("ticker", "removed")}
    assert {row["name"] for row in ask(targets, op="status")[0]["workloads"]} == {"mine", "last"}
    assert "theirs" in names(listed(api_server, "api/v1/services"))


def test_a_restart_replaces_the_pods_and_is_no_drift(deploy: Deploy, targets: list[Target]) -> None:
    deploy(SERVICE, JOB)
    before = {row["pod"] for row in rows(targets, "ticker")}
    said = ask(targets, op="restart", names=["ticker", "once", "none"])
    assert [one["result"]["action"] for one in said] == ["restarted", "not a service", "absent"]
    assert not before & {row["pod"] for row in rows(targets, "ticker")}
    assert {one.action for one in deploy(SERVICE, JOB).outcomes} == {"unchanged"}


def test_one_of_two_controllers_wins(deploy: Deploy, targets: list[Target]) -> None:
    deploy(SERVICE)
    with connect([], 20, kube.places(targets)) as sides:
        side = sides.open[SIDE]
        assert isinstance(side, Side)
        late = revisions.every(side.cluster)["ticker"]
        assert only(deploy({**SERVICE, "env": {"A": "1"}})).action == "changed"
        assert late.current is not None
        with pytest.raises(SkerryError, match="DEPLOY_085"):
            revisions.write(side.cluster, late, late.current, 3)
    assert {row["number"] for row in rows(targets, "ticker")} == {2}


def test_hosts_that_were_not_selected_keep_their_pods(deploy: Deploy, targets: list[Target]) -> None:
    deploy(SERVICE)
    with pytest.raises(SkerryError, match="DEPLOY_089"):
        ask(targets[:1], op="remove", names=["ticker"])
    assert len(rows(targets, "ticker")) == 2


def test_nodes_that_cannot_run_it_are_passed_over_with_the_reason(deploy: Deploy, api_server: Cluster,
                                                                  targets: list[Target]) -> None:
    taint = {"spec": {"taints": [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]}}
    path = f"/api/v1/nodes/{targets[2].variables['k3s_node_name']}"
    merge = "application/merge-patch+json"
    api_server.admin.ask("PATCH", path, taint, merge)
    try:
        report = deploy({**SERVICE, "placement": {"host_type": "edge", "replicas": 3}})
    finally:
        api_server.admin.ask("PATCH", path, {"spec": {"taints": None}}, merge)
    assert only(report).why == "asked for: 3 on host-1"
    assert {one.host: one.reason for one in report.chosen["ticker"].passed} == {
        "host-0": "its host_type is cloud, not edge", "host-2": "its node is tainted: dedicated:NoSchedule"}
    with pytest.raises(SkerryError, match="directories of a host are not for pods"):
        deploy({**SERVICE, "name": "b", "directories": [{"host": "/srv", "guest": "/data"}]})


def test_an_api_that_does_not_answer_is_unknown_and_nothing_is_gone(
    deploy: Deploy, targets: list[Target], tmp_path: Path
) -> None:
    deploy(SERVICE)
    lost = yaml.safe_load((Path(targets[0].variables["k3s_kubeconfig_dir"]) / "kube.yaml").read_text())
    lost["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "kube.yaml").write_text(yaml.safe_dump(lost))
    away = [Target(one.name, {**one.variables, "k3s_kubeconfig_dir": str(tmp_path)}, one.groups, one.labels)
            for one in targets]
    submitted = load.read(tmp_path / "site.yml", {})
    report = Rollout(away, submitted, [str(tmp_path / "inventory")]).run()
    found = only(report)
    assert found.error is not None
    assert (found.action, found.error.code, report.exit_code) == ("unknown", "DEPLOY_080", Exit.UNREACHABLE)
    assert verbs.given({"site": {"ticker": [SIDE]}}, SIDE)[0]["state"] == "unknown"
    assert candidates(submitted[0].workload, away)[0]
    assert only(deploy(SERVICE)).action == "unchanged", "it is known again, as it was"
