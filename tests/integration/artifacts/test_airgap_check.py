"""The check of an air-gapped site as site.yml runs it, after `skerry mirror build`; no host but this one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_registry import Registry, chart, serving

from skerry import paths
from skerry.mirror.charts import helm
from skerry.mirror.reference import parse

BINARY = os.urandom(200_000)
PAUSE, TRAEFIK, APP = "docker.io/rancher/pause:3.6", "docker.io/rancher/mirrored-library-traefik:3", "busybox:1"
PARTS = ("controller", "webhook", "cainjector", "acmesolver", "startupapicheck")


@dataclass
class Site:
    """An inventory of this machine alone, a server in upstream's place, and a mirror."""

    folder: Path
    registry: Registry

    @property
    def mirror(self) -> Path:
        """Its directory."""
        return self.folder / "mirror"

    def inventory(self, **more: Any) -> Path:
        """One host of a cluster."""
        variables = {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "skerry_arch": "amd64",
            "skerry_airgap": True, "skerry_mirror": str(self.mirror), "k3s_version": "v1.36.5+k3s1",
            "k3s_download_url": f"{self.registry.url}/k3s", "k3s_disable": ["traefik"], "images_k3s": [APP],
            "wasm_runtime_state": "absent", "redpanda_state": "unmanaged", "nfs_provisioner_state": "unmanaged",
            "prometheus_state": "unmanaged", **more,
        }  # fmt: skip
        path = self.folder / "inventory.yml"
        hosts = {"skerry_servers": {"hosts": {"one": None}}}
        path.write_text(yaml.safe_dump({"all": {"children": hosts, "vars": variables}}))
        return path

    def build(self, inventory: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """`skerry mirror build`."""
        elsewhere = [f"--registry={host}={self.registry.url}" for host in ("docker.io", "quay.io")]
        command = [sys.executable, "-m", "skerry", "mirror", "build", "-i", str(inventory), "-d", str(self.mirror)]
        environment = {**os.environ, "PYTHONPATH": str(paths.root() / "tools"), "NO_COLOR": "1"}
        return subprocess.run(
            [*command, *elsewhere, *words], env=environment, capture_output=True, text=True, check=False
        )

    def check(self, inventory: Path) -> subprocess.CompletedProcess[str]:
        """The first part of site.yml that is about the mirror."""
        beside = Path(sys.executable).with_name("ansible-playbook")
        command = [str(beside), str(paths.root() / "playbooks" / "airgap.yml"), "-i", str(inventory)]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving() as registry:
        release = "/k3s/v1.36.5%2Bk3s1"
        registry.files[f"{release}/k3s"] = BINARY
        registry.files[f"{release}/sha256sum-amd64.txt"] = f"{hashlib.sha256(BINARY).hexdigest()}  k3s\n".encode()
        registry.files[f"{release}/k3s-images.txt"] = f"{PAUSE}\n{TRAEFIK}\n".encode()
        for repository, tag in (("rancher/pause", "3.6"), ("library/busybox", "1")):
            registry.image(repository, tag, {"amd64": {"x": b"x"}, "arm64": {"x": b"y"}})
        yield Site(tmp_path, registry)


def words(done: subprocess.CompletedProcess[str]) -> str:
    """What a run printed, on one line."""
    return " ".join((done.stdout + done.stderr).split())


def test_a_mirror_is_built_shown_beforehand_and_found_whole(site: Site) -> None:
    inventory = site.inventory()
    built = site.build(inventory)
    assert built.returncode == 0, built.stdout + built.stderr
    sizes = {line.split()[-1]: " ".join(line.split()[:-1]) for line in built.stderr.splitlines() if "/amd64/" in line}
    assert sizes["k3s/v1.36.5+k3s1/amd64/k3s"] == "0.2 MB"
    assert set(sizes) == {"k3s/v1.36.5+k3s1/amd64/k3s", parse(PAUSE).place("amd64"), parse(APP).place("amd64")}
    assert "to download: 3 files, 0.2 MB" in words(built)
    assert not list(site.mirror.rglob("*traefik*"))  # k3s_disable has it
    done = site.check(inventory)
    assert done.returncode == 0, words(done)


def test_no_mirror_and_an_empty_one_stop_the_run(site: Site) -> None:
    assert "AIRGAP_002" in words(site.check(site.inventory(skerry_mirror="")))
    assert "AIRGAP_003" in words(site.check(site.inventory()))


def test_everything_that_is_missing_is_named_at_once(site: Site) -> None:
    assert site.build(site.inventory()).returncode == 0
    (site.mirror / "k3s/v1.36.5+k3s1/amd64/k3s").unlink()
    done = site.check(site.inventory(images_k3s=[APP, "quay.io/team/forgotten:1"], images_docker=["tool:2"]))
    assert done.returncode != 0
    for missing in (
        "k3s/v1.36.5+k3s1/amd64/k3s (for one)", "image quay.io/team/forgotten:1 (amd64)",
        "image docker.io/library/tool:2 (amd64)", "lacks 3 of", "nothing was changed", "skerry mirror build",
    ):  # fmt: skip
        assert missing in words(done)


def test_a_site_with_internet_is_not_checked(site: Site) -> None:
    done = site.check(site.inventory(skerry_airgap=False, skerry_mirror=""))
    assert done.returncode == 0
    assert "AIRGAP" not in words(done)


def test_images_of_a_chart_that_the_role_does_not_know_are_wanted_too(site: Site) -> None:
    if not helm():
        pytest.skip("no helm: it is built by ./skerry test 'kubernetes build'")
    for part in PARTS:
        site.registry.image(f"jetstack/cert-manager-{part}", "v0.0.1", {"amd64": {"x": part.encode()}})
    site.registry.image("team/added", "1", {"amd64": {"x": b"x"}})
    pod = "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: quay.io/team/added:1}]}\n"
    archive = chart("cert-manager", "v0.0.1", {}, {"pod.yaml": f"apiVersion: v1\n{pod}"})
    repo = site.registry.chart_in_repository("charts", "cert-manager", "v0.0.1", archive)
    inventory = site.inventory(
        cert_manager_state="present", cert_manager_version="v0.0.1", cert_manager_chart_repo=repo
    )
    built = site.build(inventory)
    assert built.returncode == 0, built.stdout + built.stderr
    added = site.mirror / parse("quay.io/team/added:1").place("amd64")
    assert added.is_file()
    assert site.check(inventory).returncode == 0
    added.unlink()
    done = site.check(inventory)
    assert done.returncode != 0
    assert "image quay.io/team/added:1 (amd64) (for one)" in words(done)
