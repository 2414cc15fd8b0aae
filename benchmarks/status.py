"""`skerry status` on clusters of simulated nodes, against a plain listing of the same API: seconds and memory.

    .venv/bin/python benchmarks/status.py [--sizes 3:30 1000:10000] [--runs 3]

Each run is a whole process from cold, its inventory read and one host looked at. The plain listing reads nodes and pods
page by page and throws them away. Prints the ratio of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkout import ROOT

from skerry.testing.kube import cluster as kube
from skerry.testing.kube import simulated

#: What is compared with: no decoding, no reduction, one connection.
PLAIN = """
import http.client, re, ssl, sys
from urllib.parse import quote, urlsplit
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from skerry.status.kubeconfig import read
access = read(Path(sys.argv[1]))
link = http.client.HTTPSConnection(access.host, access.port, context=access.context())
size = 0
for path in ("/api/v1/nodes", "/api/v1/pods"):
    token = ""
    while True:
        link.request("GET", f"{path}?limit=500&continue={quote(token)}")
        body = link.getresponse().read()
        size += len(body)
        found = re.match(rb'.{0,400}?"continue":"([^"]*)"', body[:4096], re.DOTALL)
        token = found[1].decode() if found else ""
        if not token:
            break
print(size)
"""


@dataclass(frozen=True)
class Cost:
    """One process: wall and processor seconds, peak memory of it and its children (bytes), what it printed."""

    seconds: float
    cpu: float
    memory: int
    output: str


def run(command: list[str]) -> Cost:
    """Run a command and account for it."""
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stdin=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        output.seek(0)
        return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output.read().decode())


def fill(cluster: Any, nodes: int, pods: int) -> None:
    """Give a cluster its pods, spread over its nodes, and wait until they run."""
    cluster.admin.create_many([simulated.pod(number, f"node-{number % nodes:04d}") for number in range(pods)])

    def running() -> bool:
        time.sleep(min(5.0, pods / 1000))  # each look costs the server a walk over all pods
        return not cluster.admin.get("/api/v1/pods?fieldSelector=status.phase%21%3DRunning&limit=1")["items"]

    cluster.wait(f"with {pods} running pods", running, 900)


def measure(nodes: int, pods: int, runs: int) -> None:
    """Both ways on one cluster, turn by turn."""
    with tempfile.TemporaryDirectory() as folder, kube.Cluster(kube.Plan(nodes=nodes)) as cluster:
        fill(cluster, nodes, pods)
        inventory = Path(folder) / "hosts.yml"
        inventory.write_text("skerry_servers: {hosts: {here: {ansible_connection: local}}}\n")
        options = ["-i", str(inventory), "--kubeconfig", str(cluster.kubeconfig), "--json"]
        status = [str(ROOT / "skerry"), "status", *options]
        plain = [sys.executable, "-c", PLAIN, str(cluster.kubeconfig), str(ROOT / "tools")]
        ours, theirs = [], []
        for _ in range(runs):
            theirs.append(run(plain))
            ours.append(run(status))
        told = json.loads(ours[-1].output)
        seen = len(told["cluster"]["nodes"]), told["cluster"]["pods"]["total"]
        if seen != (nodes, pods) or told["partial"]:
            raise SystemExit(f"not all was read: {seen} of {(nodes, pods)}, partial: {told['partial']}")
    mine, his = (statistics.median(one.seconds for one in costs) for costs in (ours, theirs))
    cpu = statistics.median(one.cpu for one in ours)
    size, read = int(theirs[-1].output) / 1e6, told["seconds"]
    print(
        f"{nodes:>6,} {pods:>7,} {size:>6.1f} {his:>8.2f} {mine:>8.2f} {cpu:>6.2f} {read:>8.2f} {mine / his:>6.2f}"
        f" {max(one.memory for one in theirs) / 1e6:>8.0f} {max(one.memory for one in ours) / 1e6:>8.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["3:30", "1000:10000"], help="NODES:PODS of each cluster")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median is shown")
    asked = parser.parse_args()
    print(f"{'nodes':>6} {'pods':>7} {'MB':>6} {'plain s':>8} {'status s':>8} {'cpu s':>6} {'reading':>8} {'ratio':>6}"
          f" {'plain MB':>8} {'ours MB':>8}")  # fmt: skip
    for size in asked.sizes:
        nodes, _, pods = size.partition(":")
        measure(int(nodes), int(pods), asked.runs)


if __name__ == "__main__":
    main()
