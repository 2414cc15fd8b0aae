"""Sandbox hosts for the benchmark scripts: inventories of any size, made and removed by the project's playbooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from checkout import BIN, ROOT

from skerry import paths
from skerry.sandbox import k3s_source


def write_inventory(name: str, subnet: str, edges: int, variables: dict[str, Any] | None = None) -> Path:
    """An inventory of one cloud host and ``edges`` edge hosts (every other one Debian 12).

    Args:
        name: of the sandbox; its containers and network begin with it.
        subnet: a /24, such as ``10.213.90.0/24``.
        edges: number of hosts of 512 MB and one core.
        variables: for all hosts, over the defaults.
    """
    prefix = subnet.rsplit(".", 1)[0]
    hosts: dict[str, dict[str, Any]] = {
        "cloud-1": {
            "ansible_host": f"{prefix}.11",
            "sandbox_image": "debian13",
            "sandbox_memory": "3G",
            "sandbox_cpus": 2,
        }
    }
    for number in range(1, edges + 1):
        image = "debian12" if number % 2 else "debian13"
        hosts[f"edge-{number}"] = {"ansible_host": f"{prefix}.{20 + number}", "sandbox_image": image}
    k3s_source.provide("amd64")
    k3s = k3s_source.variables("amd64")
    agents: dict[str, dict[str, Any]] = {host: {} for host in hosts if host != "cloud-1"}
    groups: dict[str, Any] = {
        "skerry_servers": {"hosts": {"cloud-1": {}}},
        "skerry_agents": {"hosts": agents},
        "skerry_cloud": {"hosts": {"cloud-1": {}}},
        "skerry_edge": {"hosts": agents},
        "skerry_sandbox": {
            "hosts": hosts,
            "vars": {"sandbox_name": name, "sandbox_subnet": subnet, **k3s, **(variables or {})},
        },
    }
    return _written(name, groups)


def write_edges(name: str, subnet: str, count: int, zones: int = 1) -> Path:
    """An inventory of ``count`` plain edge hosts (no k3s, 512 MB, one core) in so many zones."""
    prefix = subnet.rsplit(".", 1)[0]
    hosts = {f"edge-{number}": {"ansible_host": f"{prefix}.{20 + number}", "skerry_zone": f"zone-{number % zones}",
                                "sandbox_image": "debian12"} for number in range(1, count + 1)}  # fmt: skip
    variables = {"sandbox_name": name, "sandbox_subnet": subnet, "skerry_mirror": str(paths.mirror())}
    groups: dict[str, Any] = {"skerry_edge": {"hosts": {host: {} for host in hosts}},
                              "skerry_sandbox": {"hosts": hosts, "vars": variables}}  # fmt: skip
    return _written(name, groups)


def _written(name: str, groups: dict[str, Any]) -> Path:
    """The folder of an inventory with these groups, and what every sandbox shares."""
    folder = ROOT / ".skerry" / "benchmarks" / "inventories" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    for shared in ("group_vars", "zzz_login.yml"):
        link = folder / shared
        if not link.exists():
            link.symlink_to(ROOT / "inventories" / "sandbox" / shared)
    return folder


def playbook(name: str, inventory: Path, *words: str) -> float:
    """Run a playbook with stock ansible-playbook; seconds it took. Ends the script where it fails."""
    started = time.monotonic()
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    command = [str(BIN / "ansible-playbook"), str(ROOT / name), "-i", str(inventory), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - started


@contextmanager
def sandbox(inventory: Path) -> Iterator[Path]:
    """Hosts of ``inventory`` while the block runs, bare at its start, gone at its end."""
    playbook("playbooks/sandbox_up.yml", inventory)
    try:
        yield inventory
    finally:
        playbook("playbooks/sandbox_down.yml", inventory)


@dataclass(frozen=True)
class Measured:
    """One run of a playbook by the wrapper: seconds, what it told as JSON, peak memory of the controller in bytes."""

    seconds: float
    told: dict[str, Any]
    memory_bytes: int

    @property
    def changed(self) -> int:
        return sum(int(host["changed"]) for host in self.told["hosts"].values())

    @property
    def failures(self) -> list[str]:
        return [f"{name}: {found}" for name, host in self.told["hosts"].items() for found in host["failures"]]


def _children(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it ended meanwhile
            continue
        parents[int(stat.parent.name)] = int(text.rsplit(")", 1)[1].split()[1])
    found = {root}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        grew = bool(more)
        found |= more
    return found


def _proportional_set(pids: set[int]) -> int:
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it ended meanwhile
            continue
        total += next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total


def provision(inventory: Path, *words: str) -> Measured:
    """``skerry provision --json`` on ``inventory``, its process tree's proportional set watched every 0.25 s."""
    started = time.monotonic()
    process = subprocess.Popen(
        [str(ROOT / "skerry"), "provision", "-i", str(inventory), "--json", *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.25):
            peak = max(peak, _proportional_set(_children(process.pid)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    output, _ = process.communicate()
    seconds = time.monotonic() - started
    ended.set()
    watcher.join()
    return Measured(seconds, json.loads(output), peak)
