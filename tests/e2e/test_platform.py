"""The whole of site.yml and the ladder, on the three shared hosts: a cloud server and two edge agents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playbooks import Played
from support_record import Support

from skerry import paths
from skerry.testing.needs import unmet
from skerry.testing.stages import Need

ROOT = paths.root()
FAMILIES = {"cloud-1": "Debian 13", "edge-1": "Debian 12", "edge-2": "Debian 13"}

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900)]


def site(inventory: Path, folder: Path, *words: str) -> dict[str, dict[str, int]]:
    """Run site.yml with stock ansible-playbook, from another folder and without this checkout's ansible.cfg.

    Returns the recap: host -> {ok, changed, unreachable, failed, ...}.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["MOLECULE_PROJECT_DIRECTORY"] = str(ROOT)
    # The scenario's variables, so that k3s is where it was; the kubeconfig where `skerry bench` looks for it.
    variables = ("-e", f"@{ROOT / 'molecule' / 'k3s' / 'vars.yml'}", "-e", f"k3s_kubeconfig_dir={ROOT}/.skerry/kube")
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, str(ROOT / "site.yml"), "-i", str(inventory), *variables, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return Played(done.returncode, done.stdout).recaps()


def skerry(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ROOT / "skerry"), *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def platform(shared_inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventory of hosts that site.yml has been through."""
    recap = site(shared_inventory, tmp_path_factory.mktemp("elsewhere"))
    assert set(recap) >= set(FAMILIES)
    assert all(counts["failed"] == counts["unreachable"] == 0 for counts in recap.values()), recap
    return shared_inventory


def test_a_second_run_changes_nothing(platform: Path, tmp_path: Path) -> None:
    recap = site(platform, tmp_path)
    assert {host: counts["changed"] for host, counts in recap.items()} == dict.fromkeys(recap, 0)


def test_check_mode_on_converged_hosts_reports_no_change(platform: Path, tmp_path: Path) -> None:
    recap = site(platform, tmp_path, "--check", "--diff")
    assert {host: counts["changed"] for host, counts in recap.items()} == dict.fromkeys(recap, 0)


@pytest.fixture(scope="module")
def measured(platform: Path) -> dict[str, Any]:
    """What a short benchmark of `hello` says."""
    few = ("--samples", "1", "--memory-samples", "1", "--warmups", "1", "--minutes", "1", "--seed", "7")
    done = skerry("bench", "-i", str(platform), "--workload", "hello", *few, "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_ladder_is_measured_on_every_host(measured: dict[str, Any], support: Support) -> None:
    seen = {(row["host"], row["rung"]) for row in measured["ladder"]}
    wanted = {(host, rung) for host in FAMILIES for rung in ("native", "embedded")}
    wanted |= {(host, "container") for host in FAMILIES}
    if unmet(Need.K3S, install=False) is None:
        wanted |= {(host, "pod") for host in FAMILIES}
    assert wanted <= seen, sorted(wanted - seen)
    for host, rung in sorted(seen):
        engines = {row["engine"] for row in measured["ladder"] if (row["host"], row["rung"]) == (host, rung)}
        support(f"rung {rung}", FAMILIES[host], "amd64", "ran here", f"hello measured: {', '.join(sorted(engines))}")
