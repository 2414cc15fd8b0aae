"""`skerry status` on a real API server with simulated nodes."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry import paths
from skerry.status import kubeconfig, reads
from skerry.status.api import Api, Deadline
from skerry.status.model import Cluster as Seen
from skerry.testing.kube import simulated
from skerry.testing.kube.cluster import Cluster, Plan


def read(cluster: Cluster, seconds: float = 10.0, deep: bool = False) -> Seen:
    """What is seen of a cluster."""
    return reads.read_cluster(Api(kubeconfig.read(cluster.kubeconfig)), "test", seconds, deep)


def status(folder: Path, file: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """`skerry status --json`, as its users start it: its exit code and what it printed."""
    inventory = folder / "hosts.yml"
    inventory.write_text("skerry_servers: {hosts: {here: {ansible_connection: local}}}\n")
    options = ["-i", str(inventory), "--kubeconfig", str(file), "--json", *words]
    command = [str(paths.root() / "skerry"), "status", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def many(api_server: Cluster) -> Iterator[int]:
    """More ConfigMaps than a page has."""
    name = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}}
    api_server.admin.create(name)
    made = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number:04d}", "namespace": "many"}}
            for number in range(130)]  # fmt: skip
    api_server.admin.create_many(made)
    yield len(made)
    api_server.admin.delete(name)


def test_pages_follow_one_another_until_all_is_read(api_server: Cluster, many: int) -> None:
    api = Api(kubeconfig.read(api_server.kubeconfig))
    path = "/api/v1/namespaces/many/configmaps"
    pages = list(api.pages(path, Deadline(10), page=40))
    names = [item["metadata"]["name"] for page in pages for item in page.items]
    assert [name for name in names if name.startswith("c0")] == [f"c{number:04d}" for number in range(many)]
    assert [page.remaining for page in pages[:3]] == [len(names) - 40, len(names) - 80, len(names) - 120]
    assert pages[-1].remaining is None


def test_nodes_and_pods_are_seen(api_server: Cluster) -> None:
    pods = [simulated.pod(number, f"node-{number % 3:04d}", tier="web") for number in range(7)]
    api_server.admin.create_many(pods)
    try:
        api_server.wait("with running pods", lambda: read(api_server).phases["Running"] >= 7)
        seen = read(api_server, deep=True)
    finally:
        for pod in pods:
            api_server.admin.delete(pod)
    assert seen.error is None
    assert not [one for one in seen.partial if one.name not in ("metrics", "usage")], seen.partial
    assert {node.name: node.ready for node in seen.nodes.values()} == dict.fromkeys(
        ("node-0000", "node-0001", "node-0002"), "True"
    )
    assert sum(node.pods for node in seen.nodes.values()) == seen.pod_count >= 7
    first = seen.nodes["node-0000"]
    assert (first.host_type, first.region, first.arch, first.cpu) == ("cloud", "eu", "amd64", 16.0)
    assert first.cpu_requested == pytest.approx(0.03)
    assert seen.outcomes["helmcharts"].state == "absent"
    assert seen.health == {"status": 200, "failed": []}
    assert abs(seen.clock_skew or 99.0) < 2


def test_a_datastore_that_hangs_gives_a_partial_status_in_time(api_server: Cluster, tmp_path: Path) -> None:
    api_server.signal("etcd", signal.SIGSTOP)
    start = time.monotonic()
    try:
        code, told = status(tmp_path, api_server.kubeconfig, "--timeout", "1.5")
    finally:
        api_server.signal("etcd", signal.SIGCONT)
    assert time.monotonic() - start < 15
    assert code == 1
    assert not told["well"]
    assert told["hosts"]["here"]["known"]
    lost = {name: one for name, one in told["cluster"]["reads"].items() if one["state"] in ("failed", "partial")}
    assert lost, "nothing was missing"
    assert set(told["partial"]) & set(lost)
    assert {one["kind"] for one in lost.values()} <= {"timeout", "refused-request", "unavailable"}


def test_a_user_who_may_not_gets_what_he_may(api_server: Cluster, tmp_path: Path) -> None:
    nobody = api_server.kubeconfig_of("nobody")
    code, told = status(tmp_path, nobody)
    assert code == 1
    assert told["cluster"]["reads"]["nodes"]["kind"] == "forbidden"
    assert "cannot list resource" in told["cluster"]["reads"]["nodes"]["error"]


def test_an_api_that_is_gone_is_said_and_the_hosts_are_shown(api_server: Cluster, tmp_path: Path) -> None:
    text = api_server.kubeconfig.read_text().replace(f":{api_server.port}", ":1")
    file = tmp_path / "gone.yaml"
    file.write_text(text)
    code, told = status(tmp_path, file)
    assert code == 1
    assert "refuses the connection" in told["cluster"]["api"]["error"]
    assert told["hosts"]["here"]["known"]
    code, told = status(tmp_path, file, "--no-hosts")
    assert code == 4


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_thousand_nodes_take_five_seconds_and_300_megabytes(tmp_path: Path) -> None:
    nodes, pods = 1000, 10_000
    with Cluster(Plan(nodes=nodes)) as cluster:
        cluster.admin.create_many([simulated.pod(number, f"node-{number % nodes:04d}") for number in range(pods)])

        def running() -> bool:
            time.sleep(5)
            return not cluster.admin.get("/api/v1/pods?fieldSelector=status.phase%21%3DRunning&limit=1")["items"]

        cluster.wait("with running pods", running, 1200)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        start = time.monotonic()
        code, told = status(tmp_path, cluster.kubeconfig)
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert (len(told["cluster"]["nodes"]), told["cluster"]["pods"]["total"]) == (nodes, pods)
    assert (code, told["partial"]) == (0, [])
    print(f"{seconds:.1f} s, at most {peak / 1024:.0f} MB (before: {before / 1024:.0f} MB)", file=sys.stderr)
    assert seconds <= 5.0
    assert peak <= max(before, 300 * 1024)
