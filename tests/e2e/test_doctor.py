"""`skerry doctor` and `skerry status` on a real k3s, while things are broken on it one after another."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doctor_faults import FAULTS, Fault
from own_hosts import ROOT
from sandboxes import Sandbox, up
from support_record import Support

from skerry.doctor.collect import collect, diagnose
from skerry.doctor.facts import Facts
from skerry.doctor.findings import Finding
from skerry.sandbox import k3s_source
from skerry.status.collect import Wanted
from skerry.targets import inventory as inventories

pytestmark = [pytest.mark.hosts, pytest.mark.own_hosts, pytest.mark.k3s, pytest.mark.timeout(300)]

SANDBOX = Sandbox("skerry-doctor", "10.213.88")
HOSTS = {"server": ("11", "2G"), "agent": ("12", "1G")}


class Ward:
    """A cluster of two hosts that is broken and mended."""

    def __init__(self, inventory: Path) -> None:
        self.inventory = inventory
        self.targets = inventories.read([str(inventory)])

    @property
    def kubeconfig(self) -> Path:
        return self.inventory / "kube" / "doctor.yaml"

    def look(self, **options: Any) -> tuple[Facts, list[Finding]]:
        """What the doctor sees and says."""
        facts = collect([str(self.inventory)], Wanted(self.targets, host_seconds=12, together=15, **options))
        return facts, diagnose(facts)

    def until(self, seconds: float, first: tuple[str, str] | None, **options: Any) -> list[Finding]:
        """Look again and again until the first cause is as wanted (None: there is no cause at all)."""
        end = time.monotonic() + seconds
        while True:
            facts, found = self.look(**options)
            named = (found[0].code, found[0].where) if found else None
            if named == first:
                return found
            if time.monotonic() > end:
                listed = "\n".join(
                    f"{one.code} {one.likelihood} {one.where}: {one.cause} {one.evidence}" for one in found
                )
                hosts = {look.name: look.fault or look.report.get("missing") for look in facts.looks.values()}
                pytest.fail(f"not {first} first within {seconds:.0f} s, but:\n{listed or 'nothing'}\n{hosts}")
            time.sleep(0.5)

    def well(self) -> None:
        """Wait until the doctor finds nothing and both nodes are Ready."""
        self.until(120, None)
        SANDBOX.on("server", "k3s kubectl wait --for=condition=Ready node --all --timeout=60s")


def inventory(folder: Path) -> Path:
    """The inventory of the two hosts."""
    hosts = {
        host: {
            "ansible_host": SANDBOX.address(last),
            "sandbox_memory": memory,
            "sandbox_cpus": 2,
            "k3s_cluster_name": "doctor",
        }
        for host, (last, memory) in HOSTS.items()
    }
    groups = {
        "skerry_servers": ["server"], "skerry_cloud": ["server"], "skerry_agents": ["agent"], "skerry_edge": ["agent"]
    }  # fmt: skip
    cluster = {"k3s_kubeconfig_dir": str(folder / "kube"), "k3s_flannel_backend": "host-gw"}
    return SANDBOX.inventory(folder, hosts, groups, **cluster, **k3s_source.variables("amd64"))


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """The cluster, well. SKERRY_KEEP_HOSTS=1 leaves it up."""
    folder = inventory(tmp_path_factory.mktemp("doctor"))
    with up(folder):
        SANDBOX.cluster(folder, "server")
        found = Ward(folder)
        found.well()
        yield found


def skerry(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ROOT / "skerry"), *words], capture_output=True, text=True, timeout=60, check=False)


def test_a_well_cluster_is_well_in_both(ward: Ward, support: Support) -> None:
    # What this machine itself has left is not the cluster's.
    loose = ["--threshold=cpu=1000", *(f"--threshold={name}=100" for name in ("memory", "disk", "inodes"))]
    done = skerry("status", "-i", str(ward.inventory), "--json", *loose)
    told = json.loads(done.stdout)
    assert done.returncode == 0, told
    assert told["well"]
    assert {node["name"]: node["ready"] for node in told["cluster"]["nodes"]} == {"server": "True", "agent": "True"}
    assert all(node["memory_used"] and node["cpu_used"] is not None for node in told["cluster"]["nodes"])
    assert {name: host["known"] for name, host in told["hosts"].items()} == {"server": True, "agent": True}
    assert told["hosts"]["agent"]["versions"]["k3s"] == told["cluster"]["version"]
    (k3s,) = [one for one in told["components"] if one["name"] == "k3s"]
    assert (k3s["state"], k3s["ready"], k3s["desired"]) == ("healthy", 2, 2)
    seen = skerry("doctor", "-i", str(ward.inventory), "--json")
    assert (seen.returncode, json.loads(seen.stdout)["causes"]) == (0, [])
    support("status and doctor", "Debian 13", "amd64", "ran here", "a k3s of two hosts, well and with faults")


def _marked(fault: Fault) -> Any:
    return pytest.param(fault, marks=[] if fault.quick else [pytest.mark.full], id=fault.name.replace(" ", "-"))


@pytest.mark.parametrize("fault", [_marked(fault) for fault in FAULTS])
def test_a_fault_is_named_first(fault: Fault, ward: Ward) -> None:
    if fault.code == "CLUSTER_107" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("this machine has control groups of version 2")

    def run(script: str) -> None:
        if fault.on == "controller":
            subprocess.run(script.format(host=f"{SANDBOX.name}-{fault.where}"), shell=True, check=True, timeout=60)
        elif script:
            SANDBOX.on(fault.on, script)

    if fault.objects:
        SANDBOX.on("server", f"k3s kubectl apply -f - >/dev/null <<'END'\n{fault.objects}\nEND")
    try:
        run(fault.breaks)
        found = ward.until(fault.seconds, (fault.code, fault.where))
        assert found[0].confirm, "no command confirms it"
        assert found[0].evidence, "nothing was seen of it"
        assert len(found) == 1 or found[1].likelihood <= found[0].likelihood
    finally:
        run(fault.mends)
        if fault.objects:
            SANDBOX.on(
                "server",
                f"k3s kubectl delete --force --grace-period=0 -f - >/dev/null 2>&1 <<'END'\n{fault.objects}\nEND",
            )
    ward.well()
