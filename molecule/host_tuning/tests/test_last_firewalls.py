"""firewalld, ufw and nftables for real, one on each host: who gets through, reload, a host that left, undone.

Runs after test_host_tuning.py, which leaves the hosts untuned.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared_hosts import HOSTS, converge, on

INSTALL = "export DEBIAN_FRONTEND=noninteractive; command -v {0} >/dev/null || apt-get -q -y install {1} >/dev/null"
#: A site's own rules: SSH, everything else dropped. The table is replaced at every load, whatever else there is stays.
RULES = """#!/usr/sbin/nft -f
table inet site
delete table inet site
table inet site {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iif lo accept
    tcp dport 22 accept
  }
}
"""
START = {
    "cloud-1": INSTALL.format("firewall-cmd", "firewalld") + "\nsystemctl enable --now firewalld\nfirewall-cmd --state",
    "edge-1": INSTALL.format("ufw", "ufw") + "\nufw allow 22/tcp\nufw --force enable",
    "edge-2": INSTALL.format("nft", "nftables")
    + f"\ncat > /etc/nftables.conf <<'END'\n{RULES}END\n"
    + "systemctl enable nftables\nsystemctl start nftables\nnft -f /etc/nftables.conf",
}
STOP = {
    "cloud-1": "systemctl disable --now firewalld",
    "edge-1": "ufw --force reset; ufw --force disable",
    # Stopping the service would flush what Docker and k3s have.
    "edge-2": "systemctl disable nftables; nft delete table inet site",
}
#: A port that the cluster uses on every host, and one that nothing opens.
OPEN, CLOSED = 10250, 9999


@pytest.fixture(scope="module")
def firewalls() -> Iterator[None]:
    """The three firewalls, active, and a listener on both ports of each host."""
    try:
        for host, script in START.items():
            on(host, script)
            for port in (OPEN, CLOSED):
                on(host, f"systemd-run -q --collect --unit skerry-listen-{port} python3 -m http.server {port}")
        yield
    finally:
        if any(on(host, "ls /etc/skerry/host_tuning.json 2>/dev/null || true") for host in HOSTS):
            converge("host_tuning", host_tuning_state="absent")  # the test has failed half-way
        for host, script in STOP.items():
            on(host, f"set +e\nsystemctl stop skerry-listen-{OPEN} skerry-listen-{CLOSED}\n{script}\ntrue")


def reaches(source: str, target: str, port: int) -> bool:
    """Whether a connection can be made; '' as source is the controller, which is no host of the cluster."""
    code = f"import socket; socket.create_connection(({HOSTS[target]!r}, {port}), 1.5)"
    if not source:
        return subprocess.run(["python3", "-c", code], capture_output=True, check=False).returncode == 0
    return on(source, f'python3 -c "{code}" 2>/dev/null && echo yes || echo no').strip() == "yes"


def picture() -> dict[str, list[bool]]:
    """Who gets through to each host: a neighbour to the open port, to the closed one, the controller to the first."""
    neighbours = {"cloud-1": "edge-1", "edge-1": "edge-2", "edge-2": "cloud-1"}
    with ThreadPoolExecutor() as pool:
        asked = {
            host: [
                pool.submit(reaches, source, host, port)
                for source, port in ((other, OPEN), (other, CLOSED), ("", OPEN))
            ]
            for host, other in neighbours.items()
        }
        return {host: [answer.result() for answer in answers] for host, answers in asked.items()}


def test_active_firewalls_are_opened_for_the_cluster_only_and_closed_again(firewalls):
    kinds = {"cloud-1": "firewalld", "edge-1": "ufw", "edge-2": "nftables"}
    assert picture() == {host: [False, False, False] for host in HOSTS}  # they do filter

    played = converge("host_tuning")
    assert played.code == 0, played.output
    assert picture() == {host: [True, False, False] for host in HOSTS}
    facts = {
        host: json.loads(on(host, "cat /etc/ansible/facts.d/skerry.fact"))["host_tuning"]["firewall"] for host in HOSTS
    }
    assert facts == kinds

    again = converge("host_tuning")
    assert [again.recap(host)["changed"] for host in HOSTS] == [0, 0, 0], again.output

    on("cloud-1", "firewall-cmd --reload")
    on("edge-1", "ufw reload")
    on("edge-2", "systemctl reload nftables")
    assert picture() == {host: [True, False, False] for host in HOSTS}

    left = converge("host_tuning", host_tuning_firewall_cluster_sources=[HOSTS["cloud-1"]])
    assert left.code == 0, left.output
    assert picture() == {"cloud-1": [False] * 3, "edge-1": [False] * 3, "edge-2": [True, False, False]}

    gone = converge("host_tuning", host_tuning_state="absent")
    assert gone.code == 0, gone.output
    assert picture() == {host: [False, False, False] for host in HOSTS}
    assert "skerry" not in on("edge-1", "ufw show added")
    assert "skerry" not in on("edge-2", "nft list ruleset")
    assert on("cloud-1", "firewall-cmd --list-rich-rules; firewall-cmd --permanent --list-rich-rules").strip() == ""
    assert on("cloud-1", "firewall-cmd --zone=trusted --list-sources").strip() == ""
