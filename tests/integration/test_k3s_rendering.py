"""The k3s role's files on architectures and sites that do not run here: rendered by Ansible from made-up facts."""

from __future__ import annotations

import configparser
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

ROLE = paths.root() / "roles" / "k3s"
HOSTS = {
    "srv-1": {"made_up": "x86_64", "ansible_host": "192.0.2.1"},
    "srv-2": {"made_up": "aarch64", "ansible_host": "192.0.2.2"},
    "srv-3": {"made_up": "x86_64", "ansible_host": "192.0.2.3"},
    "edge_1": {"made_up": "x86_64", "skerry_region": "eu", "skerry_zone": "eu-1"},
    "pi4": {"made_up": "aarch64"},
    "pi2": {"made_up": "armv7l"},
}
WANTED = {
    "artifacts": "{{ __k3s_artifacts }}",
    "config": "{{ __k3s_config }}",
    "labels": "{{ __k3s_labels }}",
    "name": "{{ k3s_node_name }}",
    "unit": "{{ lookup('ansible.builtin.template', '" + str(ROLE / "templates/k3s.service.j2") + "') }}",
    "environment": "{{ lookup('ansible.builtin.template', '" + str(ROLE / "templates/k3s.env.j2") + "') }}",
    "registries": "{{ __k3s_registries_text }}",
    "seed": "{{ __k3s_seed }}",
    "join": "{{ __k3s_join_url }}",
    "urls": "{{ __k3s_server_urls }}",
    "roles": "{{ k3s_node_roles }}",
}
Render = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """render(variable=value, ...) -> {host: {name of WANTED: value}}."""
    folder = tmp_path_factory.mktemp("rendering")

    def call(**variables: Any) -> dict[str, dict[str, Any]]:
        groups = {
            "skerry_servers": {"hosts": dict.fromkeys(["srv-1", "srv-2", "srv-3"])},
            "skerry_agents": {"hosts": dict.fromkeys(["edge_1", "pi4", "pi2"])},
            "skerry_cloud": {"hosts": dict.fromkeys(["srv-1", "srv-2", "srv-3"])},
        }
        inventory = {"all": {"hosts": HOSTS, "children": groups, "vars": {"ansible_connection": "local"}}}
        (folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
        play = {
            "name": "Render",
            "hosts": "all",
            "gather_facts": False,
            "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
            "tasks": [
                {
                    "name": "Write what the role would",
                    "ansible.builtin.copy": {
                        "content": "{{ wanted | to_json }}",
                        "dest": str(folder) + "/{{ inventory_hostname }}.json",
                        "mode": "0600",
                    },
                    "vars": {"wanted": WANTED, "__k3s_arch": "{{ __k3s_archs[made_up] }}"},
                },
            ],
        }
        (folder / "play.yml").write_text(yaml.safe_dump([play]))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "play.yml"]
        command += ["-e", json.dumps(variables)]
        environment = {**os.environ, "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        return {host: json.loads((folder / f"{host}.json").read_text()) for host in HOSTS}

    return call


@pytest.fixture(scope="module")
def plain(render: Render) -> dict[str, dict[str, Any]]:
    return render(k3s_version="v1.36.5+k3s1", k3s_airgap_images=[{"component": "k3s", "file": "images-ARCH.tar"}])


@pytest.mark.parametrize(
    ("host", "binary", "arch"),
    [("srv-1", "k3s", "amd64"), ("pi4", "k3s-arm64", "arm64"), ("pi2", "k3s-armhf", "arm")],
)
def test_three_names_for_32_bit_arm(plain: dict[str, dict[str, Any]], host: str, binary: str, arch: str) -> None:
    release = "https://github.com/k3s-io/k3s/releases/download/v1.36.5%2Bk3s1"
    first, images = plain[host]["artifacts"]
    assert first["url"] == f"{release}/{binary}"
    assert first["checksum"] == f"sha256:{release}/sha256sum-{arch}.txt"
    assert (first["arch"], first["file"], first["dest"]) == (arch, binary, "/usr/local/bin/k3s")
    assert images["dest"] == f"/var/lib/rancher/k3s/agent/images/images-{arch}.tar"
    assert images["version"] == "v1.36.5+k3s1"


@pytest.mark.parametrize(
    ("component", "family", "arch", "host"),
    [
        ("k3s server", "Ubuntu 24.04", "amd64", "srv-1"),
        ("k3s agent", "EL 9", "amd64", "edge_1"),
        ("k3s agent", "EL 10", "arm64", "pi4"),
        ("k3s agent", "openSUSE Leap 15.6", "amd64", "edge_1"),
        ("k3s agent", "Raspberry Pi OS 13", "arm64", "pi4"),
        ("k3s agent", "Raspberry Pi OS 12", "armv7", "pi2"),
    ],
)
def test_the_same_unit_everywhere(
    plain: dict[str, dict[str, Any]], support: Any, component: str, family: str, arch: str, host: str
) -> None:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(plain[host]["unit"])
    role = component.split()[1]
    assert parser["Service"]["ExecStart"] == f"/usr/local/bin/k3s {role}"
    assert parser["Service"]["Type"] == "notify"
    assert parser["Service"]["KillMode"] == "process"
    assert "token" not in plain[host]["unit"].lower()
    support(component, family, arch, "rendered", "artifact, unit, configuration")


def test_servers_and_agents_get_their_own_configuration(plain: dict[str, dict[str, Any]]) -> None:
    assert "cluster-cidr" in plain["srv-1"]["config"]
    assert not {"cluster-cidr", "tls-san", "disable", "flannel-backend"} & set(plain["pi4"]["config"])
    assert plain["srv-1"]["config"] == plain["srv-3"]["config"]
    assert plain["srv-1"]["config"]["tls-san"] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert plain["edge_1"]["name"] == "edge-1"
    assert (plain["srv-1"]["roles"], plain["pi4"]["roles"]) == ([], ["worker"])


def test_labels_come_from_the_inventory_and_empty_ones_stay_away(plain: dict[str, dict[str, Any]]) -> None:
    assert plain["edge_1"]["labels"] == {
        "skerry.dev/host-type": "edge",
        "topology.kubernetes.io/region": "eu",
        "topology.kubernetes.io/zone": "eu-1",
    }
    assert plain["srv-1"]["labels"] == {"skerry.dev/host-type": "cloud"}


def test_without_a_cluster_the_first_server_begins(plain: dict[str, dict[str, Any]]) -> None:
    assert {host["seed"] for host in plain.values()} == {"srv-1"}
    assert plain["pi4"]["join"] == "https://192.0.2.1:6443"
    assert plain["pi4"]["urls"] == [f"https://192.0.2.{last}:6443" for last in (1, 2, 3)]
    assert not plain["pi4"]["environment"]


def test_an_endpoint_a_proxy_and_registries(render: Render) -> None:
    found = render(
        k3s_api_endpoint="https://api.example.org:6443",
        skerry_http_proxy="http://proxy.example.org:3128",
        skerry_no_proxy="intern.example.org, 10.0.0.0/8",
        k3s_registries={"mirrors": {"*": {"endpoint": ["https://mirror.example.org"]}}},
        k3s_airgap=True,
        skerry_mirror="https://mirror.example.org",
    )
    agent = found["pi4"]
    assert agent["join"] == "https://api.example.org:6443"
    assert agent["urls"] == []
    assert "api.example.org" in found["srv-1"]["config"]["tls-san"]
    values = dict(line.split("=", 1) for line in agent["environment"].splitlines() if line)
    assert values["HTTP_PROXY"] == "http://proxy.example.org:3128"
    assert {"10.42.0.0/16", "10.43.0.0/16", ".cluster.local", "intern.example.org", "10.0.0.0/8"} <= set(
        values["NO_PROXY"].split(",")
    )
    assert "HTTPS_PROXY" not in values
    assert yaml.safe_load(agent["registries"])["mirrors"]["*"]["endpoint"] == ["https://mirror.example.org"]
    assert agent["config"]["disable-default-registry-endpoint"] is True
