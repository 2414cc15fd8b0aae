"""The provisioner's chart on a real k3s, and what every node gets. (Mounts are tried in tests/e2e/test_nfs.py.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry import paths

ROOT = paths.root()
INVENTORY = os.environ.get("SKERRY_TEST_INVENTORY") or str(ROOT / "molecule" / "inventory")
SERVER = "cloud-1"
SPACE = "nfs-provisioner"
NAME = "nfs-server-provisioner"
KUBECTL = "k3s kubectl --cache-dir=/tmp/kubectl-cache"


def get(host, what, space=SPACE):
    """An object, or None."""
    done = host.run(f"{KUBECTL} -n {space} get {what} -o json --ignore-not-found")
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture
def installed(host):
    """Skips where the chart could not be installed."""
    if host.backend.hostname != SERVER:
        pytest.skip("asked on the server")
    section = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string).get("k3s", {})
    if "role" not in section:
        pytest.skip(section.get("reason", "there is no k3s on the hosts"))
    if get(host, f"helmchart {NAME}", "kube-system") is None:
        pytest.skip("no chart of the provisioner, or no image of k3s's Helm job, in the mirror")


def play(*words):
    """Run the scenario's converge again with other variables: (changed on the server, all that was printed)."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"),
               str(ROOT / "molecule/nfs_provisioner/converge.yml"), "-i", INVENTORY, *words]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
                   "MOLECULE_PROJECT_DIRECTORY": str(ROOT)}  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    recap = [line for line in done.stdout.splitlines() if line.startswith(SERVER) and "changed=" in line]
    changed = int(recap[-1].split("changed=")[1].split()[0]) if recap else -1
    return changed, done.stdout + done.stderr


def test_every_host_has_what_mounts(host, support):
    assert host.package("nfs-common").is_installed
    assert host.file("/sbin/mount.nfs4").exists
    support.ran(host, "nfs", "client packages of a node")


def test_the_class_is_there_and_is_not_the_default(host, installed):
    job = get(host, f"job helm-install-{NAME}", "kube-system")
    assert [item["status"] for item in job["status"]["conditions"] if item["type"] == "Complete"] == ["True"]
    storage = get(host, "storageclass nfs")
    assert storage["provisioner"] == "skerry.dev/nfs"
    annotations = storage["metadata"].get("annotations", {})
    assert annotations.get("storageclass.kubernetes.io/is-default-class", "false") == "false"


def test_the_servers_address_and_disk_are_fixed(host, installed):
    assert get(host, f"service {NAME}")["spec"]["clusterIP"] == "10.43.0.49"
    stateful = get(host, f"statefulset {NAME}")
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "local-path"
    assert "-device-based-fsids=false" in stateful["spec"]["template"]["spec"]["containers"][0]["args"]


def test_hosts_that_cannot_mount_are_named(host, installed):
    _, printed = play()
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
            host.check_output(f"{KUBECTL} apply -f - <<'END'\n{json.dumps(item)}\nEND")
        _, printed = play("-e", "nfs_provisioner_state=absent")
        assert "STORAGE_003 volumes of class nfs are in use by default/user" in printed
        assert get(host, f"statefulset {NAME}") is not None
        host.check_output(f"{KUBECTL} -n default delete pod user --grace-period=0 --force")
        changed, printed = play("-e", "nfs_provisioner_state=absent")
        assert changed == 2, printed[-3000:]  # the release, and the chart's archive on the server
        assert get(host, f"statefulset {NAME}") is None
        assert get(host, "pvc data", "default") is not None
        changed, printed = play("-e", "nfs_provisioner_state=absent")
        assert changed == 0, printed[-3000:]
        play("-e", "nfs_provisioner_state=absent", "-e", "nfs_provisioner_remove_data=true")
        assert get(host, "pvc data", "default") is None
    finally:
        host.run(
            f"{KUBECTL} -n default delete pod/user pvc/data --ignore-not-found --grace-period=0 --force --wait=false"
        )
        changed, printed = play()
    assert changed >= 1, printed[-3000:]
    assert get(host, "storageclass nfs") is not None
