"""Redpanda's chart on a real k3s: what the cluster makes of the role's values, and how it goes away again."""

from __future__ import annotations

import json
from functools import partial

import pytest
from shared_cluster import SERVER, apply, get
from shared_hosts import run

SPACE = "redpanda"
#: Runs the scenario's playbook again, with other variables.
play = partial(run, "molecule/redpanda/converge.yml")


@pytest.fixture(autouse=True)
def _installed_or_reason(host, k3s_server):
    if get(host, "helmchart redpanda", "kube-system") is None:
        pytest.skip("no chart of Redpanda, or no image of k3s's Helm job, in the mirror")


def test_the_job_is_complete_and_the_release_keeps_its_data(host, support):
    chart = get(host, "helmchart redpanda", "kube-system")
    assert chart["spec"]["failurePolicy"] == "abort"
    assert chart["spec"]["targetNamespace"] == "redpanda"
    job = get(host, "job helm-install-redpanda", "kube-system")
    assert [item["status"] for item in job["status"]["conditions"] if item["type"] == "Complete"] == ["True"]
    stateful = get(host, "statefulset redpanda", SPACE)
    assert stateful["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    support.ran(host, "redpanda", "chart installed by k3s's Helm job; no image of the broker here")


def test_the_broker_is_meant_for_a_node_and_sized_by_it(host):
    stateful = get(host, "statefulset redpanda", SPACE)
    spec = stateful["spec"]["template"]["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    wanted = {row["key"]: row["values"] for row in terms[0]["matchExpressions"]}
    assert wanted["kubernetes.io/hostname"] == ["cloud-1"]
    node = get(host, "node cloud-1", SPACE)
    assert node["metadata"]["labels"]["kubernetes.io/arch"] in wanted["kubernetes.io/arch"]
    said = node["status"]["allocatable"]["memory"]
    have = int(said[:-2]) // {"Ki": 1024, "Mi": 1}[said[-2:]]
    broker = next(item for item in spec["containers"] if item["name"] == "redpanda")
    given = int(broker["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert given == min(have // 2, 8192) // 64 * 64
    assert broker["resources"]["requests"]["memory"] == broker["resources"]["limits"]["memory"]


def test_clients_outside_are_told_the_nodes_address(host):
    node = get(host, "node cloud-1", SPACE)
    address = next(item["address"] for item in node["status"]["addresses"] if item["type"] == "InternalIP")
    script = get(host, "secret redpanda-configurator", SPACE)["data"]["configurator.sh"]
    told = host.check_output(f"echo {script} | base64 -d | grep ADVERTISED_KAFKA_ADDRESSES+=")
    assert f'\\"address\\":\\"{address}\\"' in told
    assert '\\"port\\":31292' in told
    service = get(host, "service redpanda-0-external", SPACE)
    assert service["spec"]["ports"][0]["nodePort"] == 31292
    assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "redpanda-0"
    assert service["spec"]["externalTrafficPolicy"] == "Cluster"


def test_a_volume_that_would_change_is_refused(host):
    done = play("-e", "redpanda_storage_size=6Gi")
    assert "BROKER_004" in done.output
    assert "5Gi" in done.output


def test_no_node_for_a_broker_is_told_with_reasons(host):
    done = play("-e", json.dumps({"redpanda_node_selector": {"example.org/nowhere": "yes"}}))
    assert "BROKER_001" in done.output
    assert "lacks the label example.org/nowhere=yes" in done.output


def test_it_goes_and_leaves_its_volume(host):
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
            "resources": {"requests": {"storage": "5Gi"}}}  # fmt: skip
    metadata = {"name": "datadir-redpanda-0", "namespace": SPACE}
    apply(host, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    try:
        done = play("-e", "redpanda_state=absent")
        assert done.changed()[SERVER] == 2, done.output[-3000:]  # the release, and the chart's archive on the server
        assert get(host, "statefulset redpanda", SPACE) is None
        assert get(host, "service redpanda-0-external", SPACE) is None
        assert get(host, "pvc datadir-redpanda-0", SPACE) is not None
        done = play("-e", "redpanda_state=absent")
        assert done.changed()[SERVER] == 0, done.output[-3000:]
        play("-e", "redpanda_state=absent", "-e", "redpanda_remove_data=true")
        assert get(host, "pvc datadir-redpanda-0", SPACE) is None
    finally:
        done = play()
    assert done.changed()[SERVER] >= 1, done.output[-3000:]
    assert get(host, "statefulset redpanda", SPACE) is not None
