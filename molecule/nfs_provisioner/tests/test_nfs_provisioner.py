"""The provisioner's chart on a real k3s, and what every node gets. (Mounts are tried in tests/e2e/test_nfs.py.)"""

from __future__ import annotations

from functools import partial

import pytest
from shared_cluster import KUBECTL, SERVER, apply, get
from shared_hosts import run

SPACE = "nfs-provisioner"
NAME = "nfs-server-provisioner"
#: Runs the scenario's playbook again, with other variables.
play = partial(run, "molecule/nfs_provisioner/converge.yml")


@pytest.fixture
def installed(host, k3s_server):
    """Skips where the chart could not be installed."""
    if get(host, f"helmchart {NAME}", "kube-system") is None:
        pytest.skip("no chart of the provisioner, or no image of k3s's Helm job, in the mirror")


def test_every_host_has_what_mounts(host, support):
    assert host.package("nfs-common").is_installed
    assert host.file("/sbin/mount.nfs4").exists
    support.ran(host, "nfs", "client packages of a node")


def test_the_class_is_there_and_is_not_the_default(host, installed):
    job = get(host, f"job helm-install-{NAME}", "kube-system")
    assert [item["status"] for item in job["status"]["conditions"] if item["type"] == "Complete"] == ["True"]
    storage = get(host, "storageclass nfs", SPACE)
    assert storage["provisioner"] == "skerry.dev/nfs"
    annotations = storage["metadata"].get("annotations", {})
    assert annotations.get("storageclass.kubernetes.io/is-default-class", "false") == "false"


def test_the_servers_address_and_disk_are_fixed(host, installed):
    assert get(host, f"service {NAME}", SPACE)["spec"]["clusterIP"] == "10.43.0.49"
    stateful = get(host, f"statefulset {NAME}", SPACE)
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "local-path"
    assert "-device-based-fsids=false" in stateful["spec"]["template"]["spec"]["containers"][0]["args"]


def test_hosts_that_cannot_mount_are_named(host, installed):
    printed = play().output
    if "nfs" in host.file("/proc/filesystems").content_string:
        assert "STORAGE_005" not in printed
    else:
        assert "STORAGE_005 these hosts cannot mount volumes of class nfs" in " ".join(printed.split())


def test_it_does_not_go_while_its_volumes_are_used_and_then_leaves_its_data(host, installed):
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"},
             "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs",
                      "resources": {"requests": {"storage": "1Mi"}}}}  # fmt: skip
    user = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": "default"},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "a", "image": "made.up/a:1"}],
                     "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}}  # fmt: skip
    try:
        for item in (claim, user):
            apply(host, item)
        done = play("-e", "nfs_provisioner_state=absent")
        assert "STORAGE_003 volumes of class nfs are in use by default/user" in done.output
        assert get(host, f"statefulset {NAME}", SPACE) is not None
        host.check_output(f"{KUBECTL} -n default delete pod user --grace-period=0 --force")
        done = play("-e", "nfs_provisioner_state=absent")
        assert done.changed()[SERVER] == 2, done.output[-3000:]  # the release, and the chart's archive on the server
        assert get(host, f"statefulset {NAME}", SPACE) is None
        assert get(host, "pvc data", "default") is not None
        done = play("-e", "nfs_provisioner_state=absent")
        assert done.changed()[SERVER] == 0, done.output[-3000:]
        play("-e", "nfs_provisioner_state=absent", "-e", "nfs_provisioner_remove_data=true")
        assert get(host, "pvc data", "default") is None
    finally:
        host.run(
            f"{KUBECTL} -n default delete pod/user pvc/data --ignore-not-found --grace-period=0 --force --wait=false"
        )
        done = play()
    assert done.changed()[SERVER] >= 1, done.output[-3000:]
    assert get(host, "storageclass nfs", SPACE) is not None
