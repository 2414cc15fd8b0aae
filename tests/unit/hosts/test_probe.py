"""What the modules read of hosts of several families, from trees of files."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils import host_network as network
from ansible_collections.skerry.edge.plugins.module_utils.host import (
    cgroup,
    listeners,
    memory,
    mount_of,
    on_sd_card,
)
from ansible_collections.skerry.edge.plugins.module_utils.host_facts import collect, identity, installed, others, system
from ansible_collections.skerry.edge.plugins.module_utils.kernel_features import FEATURES, features
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight import evaluate
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_model import Report
from unit.hosts.trees import RELEASES, put, settings, tree

ASKED: dict[str, Any] = {
    "paths": ["/", "/var/lib/rancher/k3s", "/var/lib/docker"],
    "ports": ["6443/tcp"],
    "targets": [],
    "names": [],
    "package_sources": True,
    "timeout": 1,
}


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_hosts_of_every_family_pass_all_checks(tmp_path: Path, release: str, support: Any) -> None:
    host = tree(tmp_path, release)
    if release == "raspios13":
        put(tmp_path, "/proc/sys/kernel/arch", "aarch64\n")
    put(tmp_path, "/proc/config.gz", "")
    names = [option for options, _modules in FEATURES.values() for option in options]
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress("".join(f"CONFIG_{name}=y\n" for name in names).encode()))
    put(tmp_path, "/proc/net/route", ROUTE)
    put(tmp_path, "/dev/kmsg", "")
    probe = collect(host, ASKED)
    findings = evaluate([Report("one", "server", settings(k3s_version="v1.36.5+k3s1"), probe)], {})
    disk = {"PREFLIGHT_010", "PREFLIGHT_011"}  # the free space is that of the machine which runs this test
    assert [finding.message() for finding in findings if finding.code not in disk] == []
    label = {"debian12": "Debian 12", "ubuntu2404": "Ubuntu 24.04", "raspios13": "Raspberry Pi OS 13"}
    label |= {"alma9": "EL 9", "rocky10": "EL 10", "leap156": "openSUSE Leap 15.6"}
    arch = "arm64" if release == "raspios13" else "amd64"
    support("preflight", label[release], arch, "rendered", "a tree of its files passes all checks")


ROUTE = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" + (
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)


def test_routes_are_read_in_network_order(tmp_path: Path) -> None:
    host = tree(tmp_path)
    put(tmp_path, "/proc/net/route", ROUTE)
    assert [(route["network"], route["bits"], route["gateway"]) for route in network.routes(host)] == [
        ("0.0.0.0", 0, "192.0.2.1"),
        ("192.0.2.0", 24, "0.0.0.0"),
    ]


def test_memory_is_what_the_tightest_cgroup_leaves(tmp_path: Path) -> None:
    host = tree(tmp_path, memory_mb=2048)
    assert memory(host) == {"total": 2048 << 20, "effective": 2048 << 20}
    put(tmp_path, "/sys/fs/cgroup/system.slice/ssh.service/memory.max", "max\n")
    put(tmp_path, "/sys/fs/cgroup/system.slice/memory.max", f"{512 << 20}\n")
    assert memory(host)["effective"] == 512 << 20
    put(tmp_path, "/proc/self/cgroup", "9:memory:/\n1:cpu:/\n")
    put(tmp_path, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory(host)["effective"] == 2048 << 20
    put(tmp_path, "/sys/fs/cgroup/memory/memory.limit_in_bytes", f"{256 << 20}\n")
    assert memory(host)["effective"] == 256 << 20


def test_the_hierarchy_that_services_use_decides_on_the_cgroup_version(tmp_path: Path) -> None:
    host = tree(tmp_path)
    assert cgroup(host) == {"version": 2, "controllers": ["cpu", "cpuset", "io", "memory", "pids"]}
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").unlink()
    put(tmp_path, "/sys/fs/cgroup/unified/cgroup.controllers", "\n")  # hybrid
    put(tmp_path, "/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t1\t0\n")
    assert cgroup(host) == {"version": 1, "controllers": ["cpu"]}


def test_mounts_and_sd_cards(tmp_path: Path) -> None:
    host = tree(tmp_path, device="179:2")
    assert mount_of(host, "/var/lib/rancher/k3s")["type"] == "xfs"
    assert mount_of(host, "/var/library")["mount"] == "/"
    assert mount_of(host, "/srv nfs/data")["type"] == "nfs4"
    assert on_sd_card(host, mount_of(host, "/")["device"])
    assert not on_sd_card(host, mount_of(host, "/var/lib")["device"])
    assert not on_sd_card(host, "")


def test_a_module_without_its_file_is_missing(tmp_path: Path) -> None:
    """EL 10 and Ubuntu for the Pi configure vxlan as a module and put it into a package of its own."""
    host = tree(tmp_path, "rocky10")
    put(
        tmp_path,
        "/boot/config-6.1.0-test",
        "CONFIG_VXLAN=m\nCONFIG_BRIDGE=m\nCONFIG_VETH=y\n# CONFIG_WIREGUARD is not set\n",
    )
    put(tmp_path, "/lib/modules/6.1.0-test/modules.dep", "kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko.xz\n")
    found = features(host)
    assert found["source"] == "/boot/config-6.1.0-test"
    states = found["states"]
    assert (states["bridge"], states["veth"], states["vxlan"], states["wireguard"]) == ("yes", "yes", "no", "no")
    put(tmp_path, "/lib/modules/6.1.0-test/modules.dep", "extra/vxlan.ko: \nkernel/bridge.ko:\n")
    assert features(host)["states"]["vxlan"] == "yes"


def test_without_a_configuration_module_lists_decide_and_else_nothing_is_claimed(tmp_path: Path) -> None:
    host = tree(tmp_path)
    assert features(host)["states"]["vxlan"] == "unknown"
    assert features(host)["states"]["overlay"] == "unknown"
    put(tmp_path, "/proc/filesystems", "nodev\tproc\nnodev\toverlay\n")
    put(tmp_path, "/lib/modules/6.1.0-test/modules.builtin", "kernel/drivers/net/veth.ko\n")
    states = features(host)["states"]
    assert (states["overlay"], states["veth"], states["vxlan"], states["memcg"]) == ("yes", "yes", "no", "unknown")


def test_listeners_of_both_families(tmp_path: Path) -> None:
    host = tree(tmp_path)
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
    put(tmp_path, "/proc/net/tcp", head + line.format(address="0100007F:192B", state="0A", inode=11))
    put(tmp_path, "/proc/net/tcp6", head + line.format(address="0" * 32 + ":192B", state="0A", inode=12))
    with (tmp_path / "proc/net/tcp").open("a") as stream:
        stream.write(line.format(address="0100007F:280A", state="01", inode=13))  # a connection, no listener
    put(tmp_path, "/proc/net/udp", head + line.format(address="00000000:2118", state="07", inode=14))
    assert listeners(host) == {"6443/tcp": ["11", "12"], "8472/udp": ["14"]}


def test_what_earlier_runs_and_other_tools_left(tmp_path: Path) -> None:
    host = tree(tmp_path)
    put(tmp_path, "/etc/ansible/facts.d/skerry.fact", json.dumps({"k3s": {}, "docker": {}}))
    put(tmp_path, "/usr/local/bin/k3s-uninstall.sh", "")
    put(tmp_path, "/snap/docker", "")
    found = others(host, {"k3s": "active"})
    assert (found["installed"], found["k3s_script"], found["docker_snap"]) == (["docker", "k3s"], True, True)
    assert found["k3s_running"] and not found["microk8s"]
    put(tmp_path, "/etc/ansible/facts.d/skerry.fact", "{damaged")
    assert installed(host) == []


def test_kernel_and_userland_are_two_architectures(tmp_path: Path) -> None:
    host = tree(tmp_path, "raspios13")
    put(tmp_path, "/proc/sys/kernel/arch", "aarch64\n")
    put(tmp_path, "/proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    found = system(host)
    assert (found["machine"], found["board"], found["userland"]) == ("aarch64", "Raspberry Pi 4 Model B Rev 1.5", "")
    assert identity(host)["hostname"] == "edge-1"


def test_servers_of_the_hosts_own_package_sources(tmp_path: Path) -> None:
    host = tree(tmp_path)
    put(
        tmp_path,
        "/etc/apt/sources.list",
        "# deb http://old.example.org/x a b\ndeb http://user@one.example.org/debian x y\n",
    )
    put(tmp_path, "/etc/apt/sources.list.d/a.sources", "URIs: https://two.example.org:8443/d http://192.0.2.5/x\n")
    put(tmp_path, "/etc/yum.repos.d/b.repo", "[b]\nbaseurl=https://three.example.org/el/$releasever\n")
    assert network.package_hosts(host) == ["one.example.org", "two.example.org"]


def test_a_refusal_is_told_from_an_open_port_and_from_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=server.accept, daemon=True)
        thread.start()
        assert network.reach("127.0.0.1", port, 2) == "open"
        thread.join(5)
    assert network.reach("127.0.0.1", port, 2) == "refused"
    assert network.reach("name.invalid", 1, 2) == "unknown name"
    targets = [{"name": "a", "address": "127.0.0.1", "ports": [port]}]
    assert network.reach_all(targets, 1) == {"a": {"address": "127.0.0.1", "ports": {str(port): "refused"}}}


def test_names_that_take_too_long_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: release.wait(5))
    assert network.resolve(["slow.example.org"], 0.05) == {"slow.example.org": "no answer within 0.05 s"}
    release.set()


RULESET = {
    "nftables": [
        {
            "chain": {
                "family": "inet",
                "table": "filter",
                "name": "input",
                "type": "filter",
                "hook": "input",
                "policy": "drop",
            }
        },
        {
            "chain": {
                "family": "inet",
                "table": "filter",
                "name": "output",
                "type": "filter",
                "hook": "output",
                "policy": "drop",
            }
        },
        {
            "chain": {
                "family": "inet",
                "table": "f2",
                "name": "in",
                "type": "filter",
                "hook": "input",
                "policy": "accept",
            }
        },
        {
            "chain": {
                "family": "inet",
                "table": "f3",
                "name": "in",
                "type": "filter",
                "hook": "input",
                "policy": "accept",
            }
        },
        {
            "chain": {
                "family": "ip",
                "table": "filter",
                "name": "FORWARD",
                "type": "filter",
                "hook": "forward",
                "policy": "drop",
            }
        },
        {"rule": {"family": "inet", "table": "f2", "chain": "in", "expr": [{"accept": None}]}},
        {"rule": {"family": "inet", "table": "f2", "chain": "in", "expr": [{"counter": {}}, {"reject": {}}]}},
        {
            "rule": {
                "family": "inet",
                "table": "f3",
                "chain": "in",
                "expr": [{"match": {}}, {"match": {}}, {"drop": None}],
            }
        },
    ]
}


def test_only_chains_that_end_in_a_drop_count_as_a_firewall() -> None:
    """Not those of iptables-nft, of which k3s and Docker look after their own rules."""
    assert [(chain["table"], chain["hook"]) for chain in network.dropping_chains(RULESET)] == [
        ("filter", "input"),
        ("f2", "input"),
    ]
