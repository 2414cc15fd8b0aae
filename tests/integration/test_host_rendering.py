"""preflight and host_tuning: what their variables make of hosts of several kinds, rendered by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry import paths

HOSTS: dict[str, dict[str, Any]] = {
    "srv-1": {"ansible_host": "192.0.2.1"},
    "srv-2": {"ansible_host": "192.0.2.2"},
    "srv-3": {"ansible_host": "192.0.2.3", "k3s_node_ip": "198.51.100.3"},
    "edge-1": {"ansible_host": "192.0.2.11"},
    "named": {"ansible_host": "edge-2.example.org"},
    "plain": {"ansible_host": "192.0.2.21"},
}
GROUPS = {"skerry_servers": ["srv-1", "srv-2", "srv-3"], "skerry_agents": ["edge-1", "named"]}
SHOWN = {
    "host_tuning": ["__host_tuning_openings", "__host_tuning_packages", "__host_tuning_time_service"],
    "preflight": ["__preflight_settings", "__preflight_ports", "__preflight_names", "preflight_dns_package_sources"],
}


def rendered(folder: Path, role: str, **variables: Any) -> dict[str, dict[str, Any]]:
    """{host: {variable: value}} of the role's own variables on every made-up host."""
    groups: dict[str, dict[str, Any]] = {
        group: {"hosts": {name: {} for name in names}} for group, names in GROUPS.items()
    }
    inventory = folder / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": HOSTS, "children": groups}}))
    base = paths.root() / "roles" / role
    shown = {name.strip("_"): "{{ " + name + " }}" for name in SHOWN[role]}
    output = folder / "out"
    output.mkdir(exist_ok=True)
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "connection": "local",
            "vars_files": [str(base / "defaults/main.yml"), str(base / "vars/main.yml")],
            "tasks": [
                {
                    "ansible.builtin.copy": {
                        "content": "{{ shown | to_json }}",
                        "dest": str(output) + "/{{ inventory_hostname }}",
                        "mode": "0644",
                    },
                    "vars": {"shown": shown},
                }
            ],
        }
    ]
    playbook = folder / "play.yml"
    playbook.write_text(yaml.safe_dump(play))
    extra = {"ansible_python_interpreter": sys.executable, **variables}
    command = ["ansible-playbook", str(playbook), "-i", str(inventory), "-e", json.dumps(extra)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((output / name).read_text()) for name in HOSTS}


def opened(openings: list[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """{(protocol, port): sources}, without the cluster's own networks."""
    return {(item["proto"], port): item["sources"] for item in openings for port in item["ports"]}


NOTED = {"container": "", "time": {"active": False, "service": ""}, "firewall": {}, "notes": [], "reboot": False}
#: By address, as text sorts them; a host that is known by name only has to be named by the site.
MEMBERS = ["192.0.2.1", "192.0.2.11", "192.0.2.2", "198.51.100.3"]


def test_openings_are_for_exactly_the_ports_in_use(tmp_path: Path) -> None:
    hosts = rendered(tmp_path, "host_tuning", __host_tuning_done=NOTED, ansible_facts={"os_family": "Debian"})
    server = opened(hosts["srv-1"]["host_tuning_openings"])
    assert server == {
        ("tcp", "6443"): MEMBERS,
        ("tcp", "10250"): MEMBERS,
        ("tcp", "9100"): MEMBERS,
        ("udp", "8472"): MEMBERS,
        ("tcp", "2379-2380"): ["192.0.2.1", "192.0.2.2", "198.51.100.3"],
    }
    nodes = {("tcp", "10250"): MEMBERS, ("tcp", "9100"): MEMBERS, ("udp", "8472"): MEMBERS}
    assert opened(hosts["edge-1"]["host_tuning_openings"]) == nodes
    networks = [item["sources"] for item in hosts["edge-1"]["host_tuning_openings"] if not item["proto"]]
    assert networks == [["10.42.0.0/16", "10.43.0.0/16"]]
    assert opened(hosts["plain"]["host_tuning_openings"]) == {("tcp", "9100"): MEMBERS}


def test_openings_follow_the_settings_of_the_cluster(tmp_path: Path) -> None:
    hosts = rendered(
        tmp_path,
        "host_tuning",
        __host_tuning_done=NOTED,
        ansible_facts={"os_family": "Debian"},
        k3s_flannel_backend="wireguard-native",
        k3s_embedded_registry=True,
        k3s_https_listen_port=7443,
        prometheus_node_exporter_port=9101,
        node_exporter_state="absent",
        host_tuning_firewall_api_sources=["203.0.113.0/24"],
        host_tuning_firewall_extra=[{"sources": ["0.0.0.0/0"], "proto": "tcp", "ports": ["443"]}],
    )
    ports = {name: set(opened(host["host_tuning_openings"])) for name, host in hosts.items()}
    assert ports["edge-1"] == {
        ("tcp", "10250"), ("tcp", "9101"), ("tcp", "5001"), ("udp", "51820"), ("udp", "51821"), ("tcp", "443"),
    }  # fmt: skip
    assert ports["plain"] == {("tcp", "443")}
    api = [item["sources"] for item in hosts["srv-1"]["host_tuning_openings"] if item["ports"] == ["7443"]]
    assert api == [["203.0.113.0/24"]]


@pytest.mark.parametrize(
    ("family", "service", "zram"),
    [
        ("Debian", "chrony", "systemd-zram-generator"),
        ("RedHat", "chronyd", "zram-generator"),
        ("Suse", "chronyd", "zram-generator"),
    ],
)
def test_packages_of_each_family(tmp_path: Path, family: str, service: str, zram: str) -> None:
    facts = {"os_family": family}
    hosts = rendered(tmp_path, "host_tuning", __host_tuning_done=NOTED, ansible_facts=facts, host_tuning_swap="zram")
    assert hosts["plain"]["host_tuning_packages"] == ["chrony", zram]
    assert hosts["plain"]["host_tuning_time_service"] == service
    inside = {**NOTED, "container": "lxc"}
    hosts = rendered(tmp_path, "host_tuning", __host_tuning_done=inside, ansible_facts=facts, host_tuning_swap="zram")
    assert hosts["plain"]["host_tuning_packages"] == []


def test_preflight_judges_hosts_by_what_they_become(tmp_path: Path) -> None:
    hosts = rendered(tmp_path, "preflight")
    settings = {name: host["preflight_settings"] for name, host in hosts.items()}
    assert [settings[name]["role"] for name in ("srv-1", "edge-1", "plain")] == ["server", "agent", "plain"]
    assert settings["srv-1"]["etcd"] is True
    assert "vxlan" in settings["edge-1"]["kernel_required"]
    assert set(settings["plain"]["disk_needs"]) == {"root", "docker"}
    assert {"2379/tcp", "6443/tcp", "8472/udp"} <= set(hosts["srv-1"]["preflight_ports"])
    assert hosts["plain"]["preflight_ports"] == []
    assert hosts["edge-1"]["preflight_names"] == ["github.com"]


@pytest.mark.parametrize(
    ("variables", "names", "sources"),
    [
        ({"skerry_mirror": "https://mirror.example.org:8443/skerry"}, ["mirror.example.org"], True),
        ({"skerry_mirror": "/srv/mirror"}, [], True),
        ({"skerry_airgap": True}, [], False),
        ({"skerry_http_proxy": "http://p:3128", "skerry_https_proxy": "http://p:3128"}, [], False),
    ],
)
def test_preflight_asks_for_the_names_that_the_site_needs(
    tmp_path: Path, variables: dict[str, Any], names: list[str], sources: bool
) -> None:
    host = rendered(tmp_path, "preflight", **variables)["edge-1"]
    assert host["preflight_names"] == names
    assert host["preflight_dns_package_sources"] is sources
