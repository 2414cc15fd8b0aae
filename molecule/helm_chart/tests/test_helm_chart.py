"""A chart on a real k3s: installed, upgraded, refused with the job's log, taken away; second runs that only look."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from one_module import call
from shared_cluster import SERVER, get
from shared_hosts import INVENTORY

pytestmark = pytest.mark.usefixtures("k3s_server")

SPACE = "greetings"
ARCHIVE = "/var/lib/rancher/k3s/server/static/charts/hello.tgz"
VARIABLES = yaml.safe_load((Path(__file__).parents[1] / "vars.yml").read_text())
WANTED = {
    "name": "hello", "namespace": SPACE, "chart": "hello", "version": "1.0.0", "archive": ARCHIVE, "timeout": 120,
    **{key: VARIABLES[f"helm_chart_{key}"] for key in ("values", "secret_values", "ready", "objects")},
}  # fmt: skip
PURGE = [{"kind": "PersistentVolumeClaim", "name": "hello"}]


@pytest.fixture
def installed(host):
    """Skips where there is no image of the Helm job, and no registry to have it from."""
    if not host.file(ARCHIVE).exists:
        pytest.skip("no image of k3s's Helm job (docker.io/rancher/klipper-helm) in the mirror")


def release(*words, **arguments):
    """The result of one call of the module on the server."""
    called = call("skerry.edge.helm_release", {**WANTED, **arguments}, *words, host=SERVER, inventory=INVENTORY)
    assert "not-to-be-shown" not in called.output
    return called.result


def test_the_chart_is_installed_and_its_job_is_complete(host, installed, support):
    chart = get(host, "helmchart hello", "kube-system")
    assert chart["spec"]["version"] == "1.0.0"
    assert chart["spec"]["failurePolicy"] == "abort"
    job = get(host, "job helm-install-hello", "kube-system")
    assert [item["status"] for item in job["status"]["conditions"] if item["type"] == "Complete"] == ["True"]
    assert get(host, "configmap hello", SPACE)["data"] == {"greeting": "good morning", "chart": "1.0.0"}
    assert get(host, "secret hello", SPACE)["data"]["password"] == "bm90LXRvLWJlLXNob3du"
    assert get(host, "deployment hello", SPACE)["status"]["availableReplicas"] == 1
    assert get(host, "configmap beside", SPACE)["metadata"]["labels"]["skerry.dev/owner"] == "hello"
    support.ran(host, "helm_chart", "a chart installed by k3s's Helm job")


def test_looking_costs_half_a_second_at_most(installed):
    looks = [release() for _ in range(3)]
    assert [look["changed"] for look in looks] == [False] * 3
    assert min(look["seconds"] for look in looks) < 0.5


def test_an_upgrade_is_foretold_and_done(host, installed):
    values = {"greeting": "good evening"}
    foretold = release("--check", "--diff", values=values, objects=WANTED["objects"][1:])
    assert foretold["changed"]
    assert {item["after_header"] for item in foretold["diff"]} == {
        "HelmChart kube-system/hello", "ConfigMap greetings/beside"
    }  # fmt: skip
    assert get(host, "configmap hello", SPACE)["data"]["greeting"] == "good morning"
    assert release(values=values, objects=WANTED["objects"][1:])["changed"]
    assert get(host, "configmap hello", SPACE)["data"]["greeting"] == "good evening"
    assert get(host, "configmap beside", SPACE) is None
    assert not release("--check", values=values, objects=WANTED["objects"][1:])["changed"]


def test_secret_values_are_kept_apart(host, installed):
    changed = release("--diff", secret_values={"password": "another-one"})
    assert changed["changed"]
    assert "another-one" not in json.dumps(changed)
    assert get(host, "secret hello", SPACE)["data"]["password"] == "YW5vdGhlci1vbmU="
    assert release()["changed"]
    chart = get(host, "helmchart hello", "kube-system")
    names = [item["metadata"]["name"] for item in get(host, "secrets", "kube-system")["items"]]
    assert [name for name in names if name.startswith("values-hello-")] == [chart["spec"]["valuesSecrets"][0]["name"]]


def test_what_is_made_once_is_not_made_again(host, installed):
    other = [{**WANTED["objects"][1], "stringData": {"password": "other"}}]
    foretold = release("--check", "--diff", objects=[WANTED["objects"][0], *other])
    assert not foretold["changed"], foretold["diff"]
    assert get(host, "secret once", SPACE)["data"]["password"] == "bWFkZS1vbmNl"


@pytest.mark.full
def test_values_that_the_chart_refuses_are_told_from_the_jobs_log(host, installed):
    failed = release(values={"greting": "hello"}, timeout=90)
    assert failed["failed"]
    assert failed["code"] == "CHART_003"
    assert "additional properties 'greting' not allowed" in failed["msg"]
    assert release()["changed"]
    assert get(host, "configmap hello", SPACE)["data"]["greeting"] == "good morning"


@pytest.mark.full
def test_a_workload_that_does_not_come_up_is_told_with_its_pod(installed):
    failed = release(values={"image": "nowhere.example/none:1"}, timeout=12)
    assert failed["code"] == "CHART_010"
    assert "nowhere.example/none:1" in failed["msg"]
    assert "docs/airgap.md" in failed["remedy"]
    assert release()["changed"]


@pytest.mark.full
def test_a_job_that_cannot_start_ends_at_the_deadline(host, support):
    """This one needs no image: the HelmChart is accepted, and what keeps its job is named."""
    start = time.monotonic()
    other = {"archive": "", "name": "never", "repo": "https://charts.example.org", "namespace": "never", "objects": []}
    try:
        failed = release(**other, job_image="nowhere.example/helm:1", timeout=15)
        assert failed["code"] == "CHART_001"
        assert "nowhere.example/helm:1" in failed["msg"]
        assert time.monotonic() - start < 40
        assert get(host, "helmchart never", "kube-system")["spec"]["repo"] == "https://charts.example.org"
    finally:
        # Its uninstallation would need the image as well: the object is let go by hand.
        patch = """-p '{"metadata": {"finalizers": []}}' --type=merge"""
        host.run("k3s kubectl -n kube-system delete helmchart never --wait=false")
        host.run(f"k3s kubectl -n kube-system patch helmchart never {patch}")
        host.run("k3s kubectl delete namespace never --wait=false")
        host.run("k3s kubectl -n kube-system delete job helm-install-never helm-delete-never --ignore-not-found")
        host.run("k3s kubectl -n kube-system delete configmap skerry-objects-never --ignore-not-found")
    support.ran(host, "helm_chart", "HelmChart accepted; a job without its image explained")


def test_an_uninstallation_leaves_data_until_it_is_asked_for(host, installed):
    assert release("--check", state="absent")["changed"]
    assert get(host, "deployment hello", SPACE) is not None
    assert release(state="absent")["changed"]
    assert get(host, "helmchart hello", "kube-system") is None
    assert get(host, "deployment hello", SPACE) is None
    assert get(host, "persistentvolumeclaim hello", SPACE) is not None
    assert get(host, "secret once", SPACE) is not None
    assert not release(state="absent")["changed"]
    assert release(state="absent", keep_data=False, purge=PURGE)["changed"]
    assert get(host, "persistentvolumeclaim hello", SPACE) is None
    assert host.run("k3s kubectl get namespace greetings").rc != 0
    assert not release(state="absent", keep_data=False, purge=PURGE)["changed"]
