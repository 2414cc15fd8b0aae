"""Redpanda's chart on a real k3s: what the cluster makes of the role's values, and how it goes away again."""

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
KUBECTL = "k3s kubectl --cache-dir=/tmp/kubectl-cache"


def get(host, what, space="redpanda"):
    """An object, or None."""
    done = host.run(f"{KUBECTL} -n {space} get {what} -o json --ignore-not-found")
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(autouse=True)
def _installed_or_reason(host):
    if host.backend.hostname != SERVER:
        pytest.skip("asked on the server")
    section = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string).get("k3s", {})
    if "role" not in section:
        pytest.skip(section.get("reason", "there is no k3s on the hosts"))
    if get(host, "helmchart redpanda", "kube-system") is None:
        pytest.skip("no chart of Redpanda, or no image of k3s's Helm job, in the mirror")


def play(*words):
    """Run the scenario's converge again with other variables: (changed on the server, all that was printed)."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(ROOT / "molecule/redpanda/converge.yml"),
               "-i", INVENTORY, *words]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
                   "MOLECULE_PROJECT_DIRECTORY": str(ROOT)}  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    recap = [line for line in done.stdout.splitlines() if line.startswith(SERVER) and "changed=" in line]
    changed = int(recap[-1].split("changed=")[1].split()[0]) if recap else -1
    return changed, done.stdout + done.stderr


def test_the_job_is_complete_and_the_release_keeps_its_data(host, support):
    chart = get(host, "helmchart redpanda", "kube-system")
    assert chart["spec"]["failurePolicy"] == "abort"
    assert chart["spec"]["targetNamespace"] == "redpanda"
    job = get(host, "job helm-install-redpanda", "kube-system")
    assert [item["status"] for item in job["status"]["conditions"] if item["type"] == "Complete"] == ["True"]
    stateful = get(host, "statefulset redpanda")
    assert stateful["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    support.ran(host, "redpanda", "chart installed by k3s's Helm job; no image of the broker here")


def test_the_broker_is_meant_for_a_node_and_sized_by_it(host):
    stateful = get(host, "statefulset redpanda")
    spec = stateful["spec"]["template"]["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    wanted = {row["key"]: row["values"] for row in terms[0]["matchExpressions"]}
    assert wanted["kubernetes.io/hostname"] == ["cloud-1"]
    node = get(host, "node cloud-1")
    assert node["metadata"]["labels"]["kubernetes.io/arch"] in wanted["kubernetes.io/arch"]
    said = node["status"]["allocatable"]["memory"]
    have = int(said[:-2]) // {"Ki": 1024, "Mi": 1}[said[-2:]]
    broker = next(item for item in spec["containers"] if item["name"] == "redpanda")
    given = int(broker["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert given == min(have // 2, 8192) // 64 * 64
    assert broker["resources"]["requests"]["memory"] == broker["resources"]["limits"]["memory"]


def test_clients_outside_are_told_the_nodes_address(host):
    node = get(host, "node cloud-1")
    address = next(item["address"] for item in node["status"]["addresses"] if item["type"] == "InternalIP")
    script = get(host, "secret redpanda-configurator")["data"]["configurator.sh"]
    told = host.check_output(f"echo {script} | base64 -d | grep ADVERTISED_KAFKA_ADDRESSES+=")
    assert f'\\"address\\":\\"{address}\\"' in told
    assert '\\"port\\":31292' in told
    service = get(host, "service redpanda-0-external")
    assert service["spec"]["ports"][0]["nodePort"] == 31292
    assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "redpanda-0"
    assert service["spec"]["externalTrafficPolicy"] == "Cluster"


def test_a_volume_that_would_change_is_refused(host):
    _, printed = play("-e", "redpanda_storage_size=6Gi")
    assert "BROKER_004" in printed
    assert "5Gi" in printed


def test_no_node_for_a_broker_is_told_with_reasons(host):
    _, printed = play("-e", json.dumps({"redpanda_node_selector": {"example.org/nowhere": "yes"}}))
    assert "BROKER_001" in printed
    assert "lacks the label example.org/nowhere=yes" in printed


def test_it_goes_and_leaves_its_volume(host):
    host.check_output(
        f"{KUBECTL} apply -f - <<'END'\n"
        '{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "datadir-redpanda-0", "namespace": '
        '"redpanda"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path", "resources": '
        '{"requests": {"storage": "5Gi"}}}}\nEND'
    )
    try:
        changed, printed = play("-e", "redpanda_state=absent")
        assert changed == 2, printed[-3000:]  # the release, and the chart's archive on the server
        assert get(host, "statefulset redpanda") is None
        assert get(host, "service redpanda-0-external") is None
        assert get(host, "pvc datadir-redpanda-0") is not None
        changed, printed = play("-e", "redpanda_state=absent")
        assert changed == 0, printed[-3000:]
        play("-e", "redpanda_state=absent", "-e", "redpanda_remove_data=true")
        assert get(host, "pvc datadir-redpanda-0") is None
    finally:
        changed, printed = play()
    assert changed >= 1, printed[-3000:]
    assert get(host, "statefulset redpanda") is not None
