"""docker and wasm_runtime on distributions that do not run here: rendered by Ansible from made-up facts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry import paths

#: Host -> facts as ansible.builtin.setup gives them there.
FACTS: dict[str, dict[str, str]] = {
    "debian12": {"os_family": "Debian", "distribution": "Debian", "distribution_major_version": "12",
                 "distribution_release": "bookworm"},
    "debian13": {"os_family": "Debian", "distribution": "Debian", "distribution_major_version": "13",
                 "distribution_release": "trixie"},
    "ubuntu2204": {"os_family": "Debian", "distribution": "Ubuntu", "distribution_major_version": "22",
                   "distribution_release": "jammy"},
    "ubuntu2404": {"os_family": "Debian", "distribution": "Ubuntu", "distribution_major_version": "24",
                   "distribution_release": "noble"},
    # 64-bit kernel, 32-bit userland: what a Raspberry Pi 4 with the 32-bit image reports.
    "pios12mixed": {"os_family": "Debian", "distribution": "Debian", "distribution_major_version": "12",
                    "distribution_release": "bookworm", "architecture": "aarch64", "userspace_bits": "32"},
    "pios13": {"os_family": "Debian", "distribution": "Debian", "distribution_major_version": "13",
               "distribution_release": "trixie", "architecture": "aarch64"},
    "pi2": {"os_family": "Debian", "distribution": "Raspbian", "distribution_major_version": "12",
            "distribution_release": "bookworm", "architecture": "armv7l", "userspace_bits": "32"},
    "rocky9": {"os_family": "RedHat", "distribution": "Rocky", "distribution_major_version": "9"},
    "rhel10": {"os_family": "RedHat", "distribution": "RedHat", "distribution_major_version": "10",
               "architecture": "aarch64"},
    "leap15": {"os_family": "Suse", "distribution": "openSUSE Leap", "distribution_major_version": "15"},
}  # fmt: skip
#: Where each host stands in docs/support.md: family and architecture.
CELLS = {
    "ubuntu2204": ("Ubuntu 22.04", "amd64"), "ubuntu2404": ("Ubuntu 24.04", "amd64"),
    "pios12mixed": ("Raspberry Pi OS 12", "armv7"), "pios13": ("Raspberry Pi OS 13", "arm64"),
    "rocky9": ("EL 9", "amd64"), "rhel10": ("EL 10", "arm64"), "leap15": ("openSUSE Leap 15.6", "amd64"),
}  # fmt: skip
RENDERED = {
    "packages": "__docker_packages", "arch": "__docker_arch", "source": "__docker_source",
    "yum_url": "__docker_yum_url", "rivals": "__docker_rivals", "config": "__docker_config",
    "wasm_arch": "__wasm_runtime_arch", "wasm_packages": "__wasm_runtime_packages",
    "wasm_artifacts": "__wasm_runtime_artifacts", "key": "__docker_artifacts",
}  # fmt: skip
Render = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """The roles' own variables on every made-up host: render(variable=value, ...) -> {host: {name: value}}."""
    tmp_path = tmp_path_factory.mktemp("rendering")
    known: dict[str, dict[str, dict[str, Any]]] = {}

    def cached(**variables: Any) -> dict[str, dict[str, Any]]:
        key = json.dumps(variables, sort_keys=True)
        if key not in known:
            known[key] = run(**variables)
        return known[key]

    def run(**variables: Any) -> dict[str, dict[str, Any]]:
        defaults = {"architecture": "x86_64", "userspace_bits": "64"}
        hosts = {name: {"made_up": {**defaults, **facts}} for name, facts in FACTS.items()}
        inventory = tmp_path / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        template = paths.root() / "roles" / "docker" / "templates" / "docker.sources.j2"
        facts = {key: "{{ made_up." + key + " | default('') }}" for key in
                 ("architecture", "userspace_bits", "os_family", "distribution", "distribution_major_version",
                  "distribution_release")}
        shown = {key: "{{ " + name + " }}" for key, name in RENDERED.items()}
        shown["sources"] = "{{ lookup('ansible.builtin.template', '" + str(template) + "') }}"
        play = [{
            "hosts": "all", "gather_facts": False, "connection": "local",
            "tasks": [
                {"ansible.builtin.set_fact": {**facts, "cacheable": True}},
                {"ansible.builtin.import_role": {"name": "wasm_runtime", "tasks_from": "artifacts.yml"}},
                {"ansible.builtin.import_role": {"name": "docker", "tasks_from": "artifacts.yml"}},
                {"name": "Show", "ansible.builtin.debug": {"msg": shown}},
            ],
        }]  # fmt: skip
        (tmp_path / "play.yml").write_text(yaml.safe_dump(play, sort_keys=False))
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(tmp_path / "play.yml"),
             "-e", json.dumps(variables)],
            env={**os.environ, "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
                 "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        tasks = json.loads(done.stdout[done.stdout.index("{"):])["plays"][0]["tasks"]
        return {host: result["msg"] for host, result in tasks[-1]["hosts"].items()}

    return cached


def test_packages_of_each_distribution(render: Render, support: Any) -> None:
    hosts = render()
    packages = {name: host["packages"] for name, host in hosts.items()}
    assert packages["debian12"] == ["docker.io"]
    assert packages["debian13"] == ["docker.io", "docker-cli"]
    assert packages["ubuntu2204"] == packages["ubuntu2404"] == ["docker.io"]
    assert packages["pios12mixed"] == packages["pi2"] == ["docker.io"]
    assert packages["pios13"] == ["docker.io", "docker-cli"]
    assert packages["leap15"] == ["docker"]
    for el in ("rocky9", "rhel10"):
        assert hosts[el]["source"] == "upstream"
        assert packages[el] == ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"]
    for name, (family, arch) in CELLS.items():
        support("docker", family, arch, "rendered", f"packages {', '.join(packages[name])}")


def test_dockers_repository(render: Render) -> None:
    hosts = render(docker_source="upstream")
    assert "URIs: https://download.docker.com/linux/ubuntu\nSuites: noble\n" in hosts["ubuntu2404"]["sources"]
    assert "URIs: https://download.docker.com/linux/debian\nSuites: trixie\n" in hosts["debian13"]["sources"]
    # Engine 29 has no packages for Raspbian: Debian's are taken, for the userland's architecture.
    for name in ("pios12mixed", "pi2"):
        assert "/linux/debian\n" in hosts[name]["sources"]
        assert "Architectures: armhf\n" in hosts[name]["sources"]
    assert "Architectures: arm64\n" in hosts["pios13"]["sources"]
    assert hosts["rocky9"]["yum_url"] == "https://download.docker.com/linux/centos/$releasever/$basearch/stable"
    assert "/linux/rhel/" in hosts["rhel10"]["yum_url"]
    assert "docker.io" in hosts["debian13"]["rivals"]
    key = hosts["ubuntu2404"]["key"][0]
    assert key["url"] == "https://download.docker.com/linux/ubuntu/gpg"
    assert len(key["checksum"]) == len("sha256:") + 64
    assert hosts["rocky9"]["key"] == []


def test_a_mirror_of_dockers_repository(render: Render) -> None:
    hosts = render(docker_source="upstream", docker_repository_url="https://mirror.example/docker",
                   docker_repository_distribution="alma")
    assert hosts["rocky9"]["yum_url"] == "https://mirror.example/docker/alma/$releasever/$basearch/stable"


def test_daemon_json_of_the_variables(render: Render) -> None:
    config = render(docker_mtu=1400, docker_config={"debug": True, "live-restore": False})["debian12"]["config"]
    assert config["mtu"] == 1400
    assert config["debug"] is True
    assert config["live-restore"] is False
    assert config["log-opts"] == {"max-size": "10m", "max-file": "3"}
    assert "mtu" not in render()["debian12"]["config"]


def test_wasm_runtimes_of_each_distribution(render: Render, support: Any) -> None:
    hosts = render()
    wasm = {name: host["wasm_packages"] for name, host in hosts.items()}
    assert wasm["debian13"] == wasm["ubuntu2404"] == wasm["pios13"] == ["crun", "libwasmedge0", "wasmedge"]
    assert wasm["debian12"] == wasm["ubuntu2204"] == wasm["rocky9"] == []
    assert wasm["leap15"] == ["crun", "libwasmedge0", "wasmedge"]
    # No runtime is built for 32-bit ARM, whatever the kernel has.
    for name in ("pios12mixed", "pi2"):
        assert hosts[name]["wasm_arch"] == ""
        assert wasm[name] == []
        assert hosts[name]["wasm_artifacts"] == []
    for runtime in ("crun", "wasmedge", "wasmtime"):
        for name in ("ubuntu2404", "pios13", "leap15"):
            support(runtime, *CELLS[name], "rendered", f"packages {', '.join(wasm[name])}")
        support(runtime, *CELLS["pios12mixed"], "unsupported", "no runtime is built for 32-bit ARM")


def test_artifacts_fill_what_the_distribution_lacks(render: Render) -> None:
    hosts = render()
    files = {name: [item["file"] for item in host["wasm_artifacts"]] for name, host in hosts.items()}
    assert files["debian13"] == ["wasmtime-v48.0.8-x86_64-linux.tar.xz"]
    assert files["pios13"] == ["wasmtime-v48.0.8-aarch64-linux.tar.xz"]
    assert set(files["debian12"]) == {"wasmtime-v48.0.8-x86_64-linux.tar.xz",
                                      "WasmEdge-0.14.1-manylinux_2_28_x86_64.tar.gz"}
    assert all(item["optional"] for host in hosts.values() for item in host["wasm_artifacts"])
    epel = render(wasm_runtime_epel=True)["rocky9"]
    assert epel["wasm_packages"] == ["crun", "crun-wasm", "wasmedge"]
    assert [item["component"] for item in epel["wasm_artifacts"]] == ["wasmtime"]


def test_shims(render: Render) -> None:
    names = ["shim-wasmtime", "shim-wasmedge", "shim-wasmer", "shim-spin"]
    hosts = render(wasm_runtime_wanted=[{"name": name, "required": True} for name in names])
    artifacts = {item["dest"]: item for item in hosts["pios13"]["wasm_artifacts"]}
    assert set(artifacts) == {f"/usr/local/bin/containerd-shim-{name}" for name in
                              ("wasmtime-v1", "wasmedge-v1", "wasmer-v1", "spin-v2")}
    wasmtime = artifacts["/usr/local/bin/containerd-shim-wasmtime-v1"]
    assert wasmtime["url"] == (
        "https://github.com/containerd/runwasi/releases/download/containerd-shim-wasmtime%2Fv0.6.0/"
        "containerd-shim-wasmtime-aarch64-linux-musl.tar.gz"
    )
    spin = artifacts["/usr/local/bin/containerd-shim-spin-v2"]
    assert spin["checksum"].startswith("sha256:a923f08d")
    assert not any(item["optional"] for item in artifacts.values())
