"""The cluster as the role leaves it: nodes Ready with labels and taints, secrets kept, pods running; then removed."""

from __future__ import annotations

import base64
import json
import re
import stat
import sys

import pytest
from kubernetes import client, config
from shared_cluster import KUBECTL, SERVER, facts
from shared_hosts import run

from skerry import paths
from skerry.images import write_image

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import (
    OUTPUT,
    SPEAKING_MODULE,
)

ROOT = paths.root()
PAUSE = "docker.io/rancher/mirrored-pause:3.6"


@pytest.fixture(autouse=True)
def _k3s_or_reason(host):
    section = facts(host, "k3s")
    if section.get("enabled") is False:
        pytest.skip(section["reason"])


def name_of(host):
    return host.backend.hostname


def kubectl(host, *words):
    return host.check_output(f"{KUBECTL} {' '.join(words)}")


def again(*words):
    done = run("playbooks/cluster.yml", "-e", f"@{ROOT}/molecule/k3s/vars.yml", *words)
    return done.code, done.output


def test_the_unit_runs_and_starts_with_the_host(host):
    service = host.service("k3s" if name_of(host) == SERVER else "k3s-agent")
    assert service.is_running
    assert service.is_enabled


def own_taints(node):
    """Without those that Kubernetes itself puts and takes, such as memory-pressure on a small host."""
    return [item for item in node["spec"].get("taints", []) if not item["key"].startswith("node.kubernetes.io/")]


def test_every_node_is_ready_with_its_labels_and_taints(host, support):
    if name_of(host) != SERVER:
        pytest.skip("asked on the server")
    nodes = {
        item["metadata"]["name"]: item for item in json.loads(kubectl(host, "get", "nodes", "-o", "json"))["items"]
    }
    assert set(nodes) == {"cloud-1", "edge-1", "edge-2"}
    for name, node in nodes.items():
        ready = [item["status"] for item in node["status"]["conditions"] if item["type"] == "Ready"]
        assert ready == ["True"], name
        labels = node["metadata"]["labels"]
        assert labels["skerry.dev/host-type"] == ("cloud" if name == SERVER else "edge")
        assert labels["topology.kubernetes.io/region"] == "eu"
        assert labels["topology.kubernetes.io/zone"] == ("eu-core" if name == SERVER else "eu-shore")
        assert labels["example.org/rack"] == "7"
        assert labels.get("node-role.kubernetes.io/worker") == (None if name == SERVER else "true")
        taints = [f"{item['key']}={item['value']}:{item['effect']}" for item in own_taints(node)]
        assert taints == (["example.org/small=true:PreferNoSchedule"] if name == "edge-1" else [])


def test_each_node_joined(host, support):
    role = "server" if name_of(host) == SERVER else "agent"
    assert facts(host, "k3s")["role"] == role
    support.ran(host, f"k3s {role}", "node Ready")


def test_secrets_are_private_and_nowhere_else(host):
    for path in ("token", "config.yaml", "registries.yaml"):
        file = host.file(f"/etc/rancher/k3s/{path}")
        assert stat.S_IMODE(file.mode) == 0o600, path
        assert file.user == "root"
    token = host.file("/etc/rancher/k3s/token").content_string.strip().split(":")[-1]
    assert len(token) >= 32
    listed = host.check_output("ps -eo args=")
    assert token not in listed
    assert token not in host.check_output("journalctl --no-pager -o cat")
    assert token not in host.file("/etc/rancher/k3s/config.yaml").content_string


def test_agents_hold_a_token_that_cannot_join_servers(host):
    token = host.file("/etc/rancher/k3s/token").content_string.strip()
    if name_of(host) == SERVER:
        agents = host.file("/etc/rancher/k3s/agent-token").content_string.strip()
        assert agents != token
        return
    assert re.match(r"^K10[0-9a-f]{64}::node:", token)
    assert not host.file("/etc/rancher/k3s/agent-token").exists


def test_server_keys_stay_on_servers(host):
    config = host.file("/etc/rancher/k3s/config.yaml").content_string
    assert ("tls-san" in config) is (name_of(host) == SERVER)
    assert "fail-cgroupv1" not in config or host.run("test -e /sys/fs/cgroup/cgroup.controllers").rc != 0


def test_a_pod_runs_on_this_host(host, support):
    if not host.file("/var/lib/rancher/k3s/agent/images/pause-amd64.tar").exists:
        pytest.skip("no pause image in the mirror")
    name, server = name_of(host), host.get_host(f"ssh://{SERVER}", ssh_config=_ssh_config(), sudo=True)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pause-{name}"},
        "spec": {
            "nodeName": name,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [{"name": "pause", "image": PAUSE, "imagePullPolicy": "Never"}],
        },
    }
    server.run(f"k3s kubectl --cache-dir=/tmp/kubectl-cache apply -f - <<'EOF'\n{json.dumps(pod)}\nEOF")
    try:
        kubectl(server, "wait", f"pod/pause-{name}", "--for=condition=Ready", "--timeout=90s")
    finally:
        kubectl(server, "delete", "pod", f"pause-{name}", "--now", "--wait=false")
    support.ran(host, "k3s pods", "a pod of an imported image ran")


def test_a_wasm_pod_runs_where_its_runtime_was_proved(host, support, tmp_path):
    handlers = facts(host, "k3s")["runtime_classes"]
    if "crun-wasm" not in handlers:
        pytest.skip("no wasm handler was proved on this host (role wasm_runtime)")
    write_image(tmp_path / "probe.tar", "docker.io/skerry/probe:1", {"/probe.wasm": SPEAKING_MODULE}, ["/probe.wasm"])
    text, place = base64.b64encode((tmp_path / "probe.tar").read_bytes()).decode(), "/tmp/skerry-probe.tar"
    host.check_output(
        f"echo {text} | base64 -d > {place} && k3s ctr --namespace k8s.io images import {place}; rm {place}"
    )
    name, server = f"wasm-{name_of(host)}", host.get_host(f"ssh://{SERVER}", ssh_config=_ssh_config(), sudo=True)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {"module.wasm.image/variant": "compat"}},
        "spec": {
            "runtimeClassName": "crun-wasm",
            "nodeSelector": {"kubernetes.io/hostname": name_of(host)},
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [{"name": "probe", "image": "docker.io/skerry/probe:1", "imagePullPolicy": "Never"}],
        },
    }
    server.run(f"k3s kubectl --cache-dir=/tmp/kubectl-cache apply -f - <<'EOF'\n{json.dumps(pod)}\nEOF")
    try:
        kubectl(server, "wait", f"pod/{name}", "--for=jsonpath='{.status.phase}'=Succeeded", "--timeout=90s")
        assert kubectl(server, "logs", name) == OUTPUT.strip()
    finally:
        kubectl(server, "delete", "pod", name, "--now", "--wait=false")
    support.ran(host, "k3s pods", "a wasm pod ran through a RuntimeClass")


def _ssh_config():
    return str(ROOT / ".skerry" / "sandbox" / "skerry-test" / "ssh_config")


def test_the_kubeconfig_lies_in_the_project_and_works(host):
    if name_of(host) != SERVER:
        pytest.skip("one kubeconfig a cluster")
    path = ROOT / ".skerry" / "molecule-kube" / "molecule.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "https://10.213.78.11:6443" in text
    assert "current-context: molecule" in text
    api = client.CoreV1Api(config.new_client_from_config(str(path)))
    assert len(api.list_node().items) == 3


def test_a_changed_label_changes_the_node_and_restarts_nothing(host):
    if name_of(host) != SERVER:
        pytest.skip("once is enough")
    since = host.check_output("systemctl show k3s --property=InvocationID")
    code, said = again("-e", '{"k3s_node_labels": {"example.org/row": "3"}, "k3s_node_taints": []}')
    assert code == 0, said[-3000:]
    for node in json.loads(kubectl(host, "get", "nodes", "-o", "json"))["items"]:
        assert node["metadata"]["labels"].get("example.org/row") == "3"
        assert "example.org/rack" not in node["metadata"]["labels"]
        assert not own_taints(node)
    assert host.check_output("systemctl show k3s --property=InvocationID") == since


def test_a_misspelt_key_stops_before_anything_changes(host):
    if name_of(host) != SERVER:
        pytest.skip("once is enough")
    before = host.file("/etc/rancher/k3s/config.yaml").content_string
    code, said = again("-e", '{"k3s_server_config": {"tls-sna": ["x.example.org"]}}', "--limit", SERVER)
    assert code != 0
    assert "K3S_001" in said
    assert "did you mean tls-san?" in said
    assert host.file("/etc/rancher/k3s/config.yaml").content_string == before


def test_a_reset_brings_back_what_was_there(host):
    if name_of(host) != SERVER:
        pytest.skip("all hosts at once")
    if not host.file("/var/tmp/before-k3s.json").exists:
        pytest.skip("k3s was on the hosts before the scenario was prepared: nothing to compare with")
    try:
        _reset_and_compare(host)
    finally:  # what comes after wants the cluster again
        code, said = again()
    assert code == 0, said[-3000:]


def _reset_and_compare(host):
    variables = '{"skerry_reset_parts": ["k3s"], "skerry_reset_confirm": true}'
    for _ in range(2):
        done = run("playbooks/reset.yml", "-e", variables)
        assert done.code == 0, done.output[-3000:]
    assert list(done.changed().values()) == [0, 0, 0], done.output[-1500:]
    script = (ROOT / "molecule" / "k3s" / "files" / "listing.py").read_text()
    for name in ("cloud-1", "edge-1", "edge-2"):
        one = host.get_host(f"ssh://{name}", ssh_config=_ssh_config(), sudo=True)
        before = json.loads(one.file("/var/tmp/before-k3s.json").content_string)
        after = json.loads(one.check_output(f"python3 - <<'EOF'\n{script}\nEOF"))
        for part, lines in before.items():
            assert sorted(set(after[part]) ^ set(lines)) == [], f"{name}: {part}"
