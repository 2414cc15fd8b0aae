"""Three servers with embedded etcd lose one and go on, get it back, and take one in that was made anew."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_hosts import ROOT, playbook

from skerry import paths
from skerry.sandbox import k3s_source

pytestmark = [pytest.mark.hosts, pytest.mark.k3s, pytest.mark.full, pytest.mark.timeout(1800)]

NAME, PREFIX = "skerry-ha", "10.213.87"
SERVERS = {"s1": "11", "s2": "12", "s3": "13"}
RESET = json.dumps({"skerry_reset_parts": ["k3s"], "skerry_reset_confirm": True})


def on(host: str, script: str, check: bool = True) -> str:
    """Run a shell script as root on a host; what it printed."""
    command = ["docker", "exec", "-i", f"{NAME}-{host}", "sh", "-e"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def nodes(host: str) -> dict[str, str]:
    """{node: status of its Ready condition}, asked on a server."""
    found: list[dict[str, Any]] = json.loads(on(host, "k3s kubectl get nodes -o json"))["items"]
    return {
        item["metadata"]["name"]: next(c["status"] for c in item["status"]["conditions"] if c["type"] == "Ready")
        for item in found
    }


def until(what: str, seconds: float, test: str, host: str) -> float:
    """Seconds until a shell test succeeds on a host."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        command = ["docker", "exec", "-i", f"{NAME}-{host}", "sh", "-ec", test]
        if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0:
            return time.monotonic() - start
        time.sleep(0.5)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An inventory of three servers that are up and form a cluster. SKERRY_KEEP_HOSTS=1 leaves them up."""
    folder = tmp_path_factory.mktemp("ha")
    keys = paths.state() / "sandbox" / NAME
    known = f"-o UserKnownHostsFile={keys / 'known_hosts'} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    common = {
        "sandbox_name": NAME,
        "sandbox_subnet": f"{PREFIX}.0/24",
        "sandbox_keys": str(keys),
        "ansible_ssh_private_key_file": str(keys / "id_ed25519"),
        "ansible_ssh_common_args": known,
        "k3s_cluster_name": "ha",
        "k3s_kubeconfig_dir": str(folder / "kube"),
        "k3s_flannel_backend": "host-gw",
        **k3s_source.variables("amd64"),
    }
    hosts = {
        host: {"ansible_host": f"{PREFIX}.{last}", "sandbox_memory": "2G", "sandbox_cpus": 2}
        for host, last in SERVERS.items()
    }
    groups: dict[str, Any] = {
        "skerry_servers": {"hosts": dict.fromkeys(SERVERS)},
        "skerry_cloud": {"hosts": dict.fromkeys(SERVERS)},
    }
    groups["skerry_sandbox"] = {"hosts": hosts, "vars": common}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    (folder / "group_vars").symlink_to(ROOT / "inventories" / "sandbox" / "group_vars")
    k3s_source.provide("amd64")
    playbook("sandbox_up.yml", folder)
    # The role host_tuning's part; the setting has no namespace, all hosts share the machine's.
    on("s1", "echo 8192 > /proc/sys/fs/inotify/max_user_instances")
    playbook("cluster.yml", folder)
    yield folder
    if not os.environ.get("SKERRY_KEEP_HOSTS"):
        playbook("sandbox_down.yml", folder)


def test_a_second_run_changes_nothing(cluster: Path) -> None:
    assert nodes("s1") == dict.fromkeys(SERVERS, "True")
    recap = playbook("cluster.yml", cluster).rpartition("PLAY RECAP")[2]
    assert recap.count("changed=0") == len(SERVERS), recap


def test_one_server_is_lost_the_others_go_on_and_it_comes_back(cluster: Path) -> None:
    subprocess.run(["docker", "kill", f"{NAME}-s1"], check=True, capture_output=True, timeout=60)
    try:
        api = until("the API of s2", 120, "k3s kubectl get --raw /readyz", "s2")
        write = until("a write", 120, "k3s kubectl create configmap meanwhile --from-literal=a=b", "s2")
    finally:
        subprocess.run(["docker", "start", f"{NAME}-s1"], check=True, capture_output=True, timeout=60)
    back = until("the API of s1", 300, "k3s kubectl get --raw /readyz && k3s kubectl get configmap meanwhile", "s1")
    until("all nodes", 180, "k3s kubectl wait --for=condition=Ready node --all --timeout=5s", "s2")
    assert nodes("s1") == dict.fromkeys(SERVERS, "True")
    print(f"lost s1: API of s2 after {api:.1f} s, a write after {write:.1f} s more; s1 back after {back:.1f} s")


def test_a_server_that_was_made_anew_joins_even_when_it_is_the_first(cluster: Path) -> None:
    playbook("reset.yml", cluster, "-e", RESET, "--limit", "s1")
    assert set(nodes("s2")) == {"s2", "s3"}
    assert on("s1", "ls /var/lib/rancher 2>/dev/null || echo gone").strip() == "gone"
    playbook("cluster.yml", cluster)
    assert nodes("s1") == dict.fromkeys(SERVERS, "True")
    assert "server:" in on("s1", "cat /etc/rancher/k3s/config.yaml")
    recap = playbook("cluster.yml", cluster).rpartition("PLAY RECAP")[2]
    assert recap.count("changed=0") == len(SERVERS), recap
