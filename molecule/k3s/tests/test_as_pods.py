"""A workload as pods of the scenario's cluster: `skerry deploy` with the scenario's own kubeconfig, and no registry."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploying import SERVICE, TICKER, TOKEN, actions, build, objects, skerry
from shared_hosts import INVENTORY

from skerry import paths

PROJECT = Path(os.environ.get("MOLECULE_PROJECT_DIRECTORY") or paths.root())
#: As vars.yml has them.
CLUSTER = {"k3s_cluster_name": "molecule", "k3s_kubeconfig_dir": str(PROJECT / ".skerry" / "molecule-kube")}
HOSTS = ("cloud-1", "edge-1", "edge-2")


@pytest.fixture
def inventory(tmp_path):
    """The shared hosts, and which cluster they are now."""
    if not (Path(CLUSTER["k3s_kubeconfig_dir"]) / "molecule.yaml").exists():
        pytest.skip("the scenario has no cluster: the mirror has no k3s")
    (tmp_path / "cluster.yml").write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys(HOSTS, CLUSTER)}}))
    return ["-i", INVENTORY, "-i", tmp_path / "cluster.yml"]


def test_a_service_runs_as_pods_where_its_runtime_was_proved(inventory, tmp_path):
    build(SERVICE, tmp_path / "ticker.wasm")
    (tmp_path / "config").write_text("first line\n")
    # The smaller hosts have as little as 512 MB, of which k3s takes most.
    wanted = {**TICKER, "rung": "pod", "limits": {"memory": "48Mi"}, "placement": {"replicas": 2}}
    (tmp_path / "site.yml").write_text(yaml.safe_dump(wanted))

    def deploy(*words, code=0):
        return objects(skerry("deploy", tmp_path / "site.yml", *inventory, "--json", *words, code=code))

    planned = skerry("deploy", tmp_path / "site.yml", *inventory, "--dry-run", code=None)
    if planned.returncode == 1 and "no RuntimeClass of its node was" in " ".join(planned.stdout.split()):
        pytest.skip("no node was proved to run WebAssembly in pods (role wasm_runtime)")
    assert actions(deploy("--dry-run")) == {"create"}
    try:
        assert actions(deploy()) == {"created"}
        assert actions(deploy()) == {"unchanged"}
        deadline = time.monotonic() + 90  # a node of 512 MB may evict a pod: the cluster replaces it
        found: list[dict[str, Any]] = []
        while (not found or not all(row["ready"] for row in found)) and time.monotonic() < deadline:
            found = objects(skerry("ps", "ticker", *inventory, "--json", code=None))
        assert [(row["state"], row["ready"], row["rung"], row["cluster"]) for row in found] == [
            ("running", True, "pod", "molecule")] * 2
        lines = objects(skerry("logs", "ticker", *inventory, "--json", "-n", "100000", code=None))
        said = {one["line"] for one in lines if "token=" in one["line"]}
        assert said == {f"/ticker token={TOKEN} config=first"}
    finally:
        skerry("undeploy", "ticker", *inventory, code=None)
    assert not objects(skerry("ps", "ticker", *inventory, "--json", code=None))
