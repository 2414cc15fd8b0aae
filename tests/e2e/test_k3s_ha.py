"""Three servers with embedded etcd lose one and go on, get it back, and take one in that was made anew."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandboxes import Sandbox, playbook, up

from skerry.sandbox import k3s_source

pytestmark = [pytest.mark.hosts, pytest.mark.own_hosts, pytest.mark.k3s, pytest.mark.full, pytest.mark.timeout(1800)]

SANDBOX = Sandbox("skerry-ha", "10.213.87")
SERVERS = {"s1": "11", "s2": "12", "s3": "13"}
RESET = json.dumps({"skerry_reset_parts": ["k3s"], "skerry_reset_confirm": True})


def nodes(host: str) -> dict[str, str]:
    """{node: status of its Ready condition}, asked on a server."""
    found: list[dict[str, Any]] = json.loads(SANDBOX.on(host, "k3s kubectl get nodes -o json"))["items"]
    return {
        item["metadata"]["name"]: next(c["status"] for c in item["status"]["conditions"] if c["type"] == "Ready")
        for item in found
    }


def until(what: str, seconds: float, test: str, host: str) -> float:
    """Seconds until a shell test succeeds on a host."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        command = ["docker", "exec", "-i", f"{SANDBOX.name}-{host}", "sh", "-ec", test]
        if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0:
            return time.monotonic() - start
        time.sleep(0.5)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An inventory of three servers that are up and form a cluster. SKERRY_KEEP_HOSTS=1 leaves them up."""
    folder = tmp_path_factory.mktemp("ha")
    hosts = {
        host: {"ansible_host": SANDBOX.address(last), "sandbox_memory": "2G", "sandbox_cpus": 2}
        for host, last in SERVERS.items()
    }
    settings = {
        "k3s_cluster_name": "ha",
        "k3s_kubeconfig_dir": str(folder / "kube"),
        "k3s_flannel_backend": "host-gw",
        **k3s_source.variables("amd64"),
    }
    SANDBOX.inventory(folder, hosts, {"skerry_servers": SERVERS, "skerry_cloud": SERVERS}, **settings)
    with up(folder):
        SANDBOX.cluster(folder, "s1")
        yield folder


def test_a_second_run_changes_nothing(cluster: Path) -> None:
    assert nodes("s1") == dict.fromkeys(SERVERS, "True")
    recap = playbook("cluster.yml", cluster).rpartition("PLAY RECAP")[2]
    assert recap.count("changed=0") == len(SERVERS), recap


def test_one_server_is_lost_the_others_go_on_and_it_comes_back(cluster: Path) -> None:
    subprocess.run(["docker", "kill", f"{SANDBOX.name}-s1"], check=True, capture_output=True, timeout=60)
    try:
        api = until("the API of s2", 120, "k3s kubectl get --raw /readyz", "s2")
        write = until("a write", 120, "k3s kubectl create configmap meanwhile --from-literal=a=b", "s2")
    finally:
        subprocess.run(["docker", "start", f"{SANDBOX.name}-s1"], check=True, capture_output=True, timeout=60)
    back = until("the API of s1", 300, "k3s kubectl get --raw /readyz && k3s kubectl get configmap meanwhile", "s1")
    until("all nodes", 180, "k3s kubectl wait --for=condition=Ready node --all --timeout=5s", "s2")
    assert nodes("s1") == dict.fromkeys(SERVERS, "True")
    print(f"lost s1: API of s2 after {api:.1f} s, a write after {write:.1f} s more; s1 back after {back:.1f} s")


def test_a_server_that_was_made_anew_joins_even_when_it_is_the_first(cluster: Path) -> None:
    playbook("reset.yml", cluster, "-e", RESET, "--limit", "s1")
    assert set(nodes("s2")) == {"s2", "s3"}
    assert SANDBOX.on("s1", "ls /var/lib/rancher 2>/dev/null || echo gone").strip() == "gone"
    playbook("cluster.yml", cluster)
    assert nodes("s1") == dict.fromkeys(SERVERS, "True")
    assert "server:" in SANDBOX.on("s1", "cat /etc/rancher/k3s/config.yaml")
    recap = playbook("cluster.yml", cluster).rpartition("PLAY RECAP")[2]
    assert recap.count("changed=0") == len(SERVERS), recap
