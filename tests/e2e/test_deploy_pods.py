"""Rung pod on a real cluster: modules brought to its nodes, rolled out, put back, limited; a node dies, its pods move.

The scenario of the role k3s shows the first of it on the shared hosts, in the default run.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
import yaml
from deploying import SERVICE, TICKER, TOKEN, Run, actions, build, objects, rows, settled, skerry
from sandboxes import Sandbox, playbook, up

from skerry.deploy.kube.render import AWAY_SECONDS
from skerry.sandbox import k3s_source
from skerry.targets.inventory import read

pytestmark = [pytest.mark.hosts, pytest.mark.own_hosts, pytest.mark.k3s, pytest.mark.full, pytest.mark.timeout(1800)]

SANDBOX = Sandbox("skerry-pods", "10.213.116")
HOSTS = {"cloud-1": ("11", "1536M"), "edge-1": ("21", "768M"), "edge-2": ("22", "768M")}
EDGES = ("edge-1", "edge-2")
POD = {**TICKER, "rung": "pod", "placement": {"replicas": 2}}
#: Seconds after which Kubernetes calls a node unreachable: its node-monitor-grace-period.
SILENT_SECONDS = 50


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of a server and two agents of its own, or that of SKERRY_RUN_INVENTORY."""
    if named := os.environ.get("SKERRY_RUN_INVENTORY"):
        yield Path(named)
        return
    folder = tmp_path_factory.mktemp("pods")
    hosts = {name: {"ansible_host": SANDBOX.address(last), "sandbox_memory": memory, "skerry_zone": f"zone-{name}"}
             for name, (last, memory) in HOSTS.items()}
    groups = {"skerry_servers": ["cloud-1"], "skerry_cloud": ["cloud-1"], "skerry_agents": EDGES, "skerry_edge": EDGES}
    settings = {"k3s_cluster_name": "pods", "k3s_kubeconfig_dir": str(folder / "kube"),
                "k3s_flannel_backend": "host-gw", **k3s_source.variables("amd64")}
    SANDBOX.inventory(folder, hosts, groups, **settings)
    with up(folder):
        playbook("hosts.yml", folder)
        SANDBOX.cluster(folder, "cloud-1")
        yield folder


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service, built with the toolchain from PyPI."""
    return build(SERVICE, tmp_path_factory.mktemp("module") / "ticker.wasm")


@pytest.fixture
def run(inventory: Path, tmp_path: Path, module: Path) -> Iterator[Run]:
    """Deploy documents; everything of them is gone afterwards."""
    (tmp_path / "config").write_text("first line\n")
    for name in ("loops", "eats", "prints", "unreachable"):
        (tmp_path / f"{name}.wasm").write_bytes(wasm_modules.module(name))
    (tmp_path / "ticker.wasm").write_bytes(module.read_bytes())
    known: set[str] = set()

    def deploy(*documents: dict[str, Any], code: int = 0, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        known.update(one["name"] for one in documents)
        (tmp_path / "e2e.yml").write_text(yaml.safe_dump_all(documents))
        return objects(skerry("deploy", tmp_path / "e2e.yml", "-i", inventory, "--json", *options, code=code))

    yield deploy
    for name in sorted(known):
        skerry("undeploy", name, "-i", inventory, code=None)


def test_a_service_stays_is_replaced_and_goes_back(run: Run, inventory: Path) -> None:
    assert actions(run(POD, options=("--dry-run",))) == {"create"}
    (first,) = run(POD)
    assert (first["action"], first["rung"]) == ("created", "pod")
    assert actions(run(POD)) == {"unchanged"}
    found = rows(inventory, "ticker")
    assert [(row["state"], row["ready"], row["rung"]) for row in found] == [("running", True, "pod")] * 2
    assert len({row["host"] for row in found}) == 2
    before = {row["revision"] for row in found}
    lines = objects(skerry("logs", "ticker", "-i", inventory, "--json", "-n", "100000"))
    said = {(one["host"], one["line"]) for one in lines if "token=" in one["line"]}
    assert said == {(row["host"], f"/ticker token={TOKEN} config=first") for row in found}
    (changed,) = run({**POD, "env": {"NEW": "1"}}, options=("--diff",))
    assert (changed["action"], changed["changes"]) == ("changed", {"env": [{}, {"NEW": "1"}]})
    skerry("rollback", "ticker", "-i", inventory)
    assert {row["revision"] for row in rows(inventory, "ticker")} == before
    pods = {row["pod"] for row in rows(inventory, "ticker")}
    skerry("restart", "ticker", "-i", inventory)
    assert not pods & {row["pod"] for row in rows(inventory, "ticker")}
    skerry("undeploy", "ticker", "-i", inventory)
    assert not rows(inventory, "ticker")


def test_what_does_not_come_up_leaves_the_former_one(run: Run, inventory: Path) -> None:
    run(POD)
    before = {row["pod"] for row in rows(inventory, "ticker")}
    silent = {**POD, "readiness": {"line": "is never said", "timeout": 3}}
    for bad in ({**POD, "args": ["3"]}, silent, {**POD, "module": "unreachable.wasm"}):
        (failed,) = run(bad, code=1)
        assert (failed["action"], failed["kept"], failed["error"]["code"]) == ("failed", True, "DEPLOY_087")
        assert {row["pod"] for row in rows(inventory, "ticker")} == before, "nothing that ran was touched"


LIMITS = {"loops": {"time": "3s"}, "eats": {"memory": "48Mi"}, "prints": {"output": "20Mi"}}


def test_a_limit_ends_a_job_and_is_told(run: Run, inventory: Path) -> None:
    run(*({"name": name, "kind": "job", "module": f"{name}.wasm", "rung": "pod", "limits": limits,
           "placement": {"replicas": 1}} for name, limits in LIMITS.items()), POD)
    for name, limits in LIMITS.items():
        [limit] = limits
        (row,) = settled(inventory, name, code=1)
        assert (row["state"], row["last"]["limit"], row["last"]["exit_code"]) == ("failed", limit, None), row
    assert all(row["ready"] for row in rows(inventory, "ticker")), "the neighbour goes on"


def test_a_job_runs_once_more_and_tells_its_trap(run: Run, inventory: Path) -> None:
    job = {"name": "job", "kind": "job", "module": "unreachable.wasm", "rung": "pod",
           "placement": {"host_type": "edge"}}
    run(job)
    first = {row["last"]["invocation"] for row in settled(inventory, "job", code=1)}
    [again] = skerry("job", "run", "job", "-i", inventory, "--id-only").stdout.split()
    time.sleep(1)
    found = settled(inventory, "job", code=1)
    assert {row["host"] for row in found} == set(EDGES), "one on each"
    assert {row["last"]["invocation"] for row in found} == {again.rpartition("/")[2]} != first
    assert all("unreachable" in row["last"]["trap"] for row in found)


def test_pods_of_a_dead_node_move(run: Run, inventory: Path) -> None:
    service = {**POD, "placement": {"host_type": "edge", "replicas": 2}, "readiness": {"line": "tick", "timeout": 30}}
    each = {**service, "name": "each", "placement": {"host_type": "edge"}}
    run(service, each)
    assert {row["host"] for row in rows(inventory, "ticker")} == set(EDGES)
    sandbox = next(one.variables["sandbox_name"] for one in read([str(inventory)]))
    dead, left = f"{sandbox}-edge-2", "edge-1"
    subprocess.run(["docker", "kill", dead], check=True, capture_output=True, timeout=60)
    began = time.monotonic()
    try:
        while True:
            found = rows(inventory, "ticker", code=None)
            if sum(row["host"] == left and row["state"] == "running" for row in found) == 2:
                break
            assert time.monotonic() - began < 300, found
            time.sleep(1)
        seconds = time.monotonic() - began
        known = {row["host"]: row["state"] for row in rows(inventory, "each", code=None)}
        assert known == {"edge-1": "running", "edge-2": "unknown"}, "one on each waits for its host"
        assert actions(run({**each, "env": {"NEW": "1"}})) == {"changed"}, "a dead node holds up no other"
    finally:
        subprocess.run(["docker", "start", dead], check=True, capture_output=True, timeout=60)
    print(f"a node died: its pod ran elsewhere after {seconds:.0f} s")
    assert SILENT_SECONDS - 20 + AWAY_SECONDS < seconds < SILENT_SECONDS + 70 + AWAY_SECONDS
    until = time.monotonic() + 180
    while {(row["host"], row["state"]) for row in rows(inventory, "each", code=None)} != {
        (host, "running") for host in EDGES
    }:
        assert time.monotonic() < until, "its own pod is not back with its node"
        time.sleep(2)
    assert {row["host"] for row in rows(inventory, "ticker")} == {left}, "what has moved stays"
