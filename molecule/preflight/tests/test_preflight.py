"""Preflight on real hosts: nothing to say of good ones; a dozen broken things on three of them, all told at once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_hosts import HOSTS, Played, converge, on

#: host, how it is broken, how it is mended, and the code that has to tell of it, on which hosts.
BROKEN = [
    (
        "edge-2",
        "systemd-run -q --unit skerry-hog python3 -m http.server 10250",
        "systemctl stop skerry-hog",
        "PREFLIGHT_033",
        ["edge-2"],
    ),
    ("edge-2", "hostname edge-1", "hostname edge-2", "PREFLIGHT_026", ["edge-1", "edge-2"]),
    (
        "cloud-1",
        "cp -p /etc/machine-id /root/machine-id; echo uninitialized > /etc/machine-id",
        "cat /root/machine-id > /etc/machine-id; rm /root/machine-id",
        "PREFLIGHT_028",
        ["cloud-1"],
    ),
    (
        "edge-1",
        "mkdir -p /mnt/small; mount -t tmpfs -o size=50m tmpfs /mnt/small",
        "umount /mnt/small; rmdir /mnt/small",
        "PREFLIGHT_010",
        ["edge-1"],
    ),
    (
        "edge-2",
        "cp -p /etc/resolv.conf /root/resolv.conf; echo nameserver 192.0.2.1 > /etc/resolv.conf",
        "cat /root/resolv.conf > /etc/resolv.conf; rm /root/resolv.conf",
        "PREFLIGHT_036",
        ["edge-2"],
    ),
    (
        "edge-2",
        "ip route show default > /root/route; ip route del default",
        "ip route add $(cat /root/route); rm /root/route",
        "PREFLIGHT_037",
        ["edge-2"],
    ),
    ("edge-1", "ip route add 10.42.7.0/24 dev eth0", "ip route del 10.42.7.0/24 dev eth0", "PREFLIGHT_038", ["edge-1"]),
    (
        "cloud-1",
        "command -v iptables >/dev/null || { apt-get -q update; apt-get -q -y install iptables; } >/dev/null;"
        f" iptables -I INPUT -p tcp --dport 6443 -s {HOSTS['edge-1']} -j DROP",
        f"iptables -D INPUT -p tcp --dport 6443 -s {HOSTS['edge-1']} -j DROP",
        "PREFLIGHT_032",
        ["edge-1"],
    ),
    (
        "edge-2",
        f"ip route add unreachable {HOSTS['cloud-1']}/32",
        f"ip route del unreachable {HOSTS['cloud-1']}/32",
        "PREFLIGHT_031",
        ["edge-2"],
    ),
    (
        "cloud-1",
        "mkdir -p /etc/rancher/rke2",
        "rmdir /etc/rancher/rke2; rmdir --ignore-fail-on-non-empty /etc/rancher",
        "PREFLIGHT_019",
        ["cloud-1"],
    ),
]
#: What is broken by a variable: the hosts have 512 MB, and edge-1 a file system of 50 MB in memory.
WISHES = {"preflight_agent_memory_min_mb": 600, "preflight_docker_data_dir": "/mnt/small"}
BY_WISH = {("edge-1", "PREFLIGHT_008"), ("edge-2", "PREFLIGHT_008"), ("edge-1", "PREFLIGHT_012")}


def seen(output: str) -> set[tuple[str, str]]:
    """(host, code) of every error in the list of findings."""
    flat = " ".join(output.split())
    return set(re.findall(r"(cloud-1|edge-1|edge-2): (PREFLIGHT_\d+) ", flat))


def codes(output: str) -> set[str]:
    """Every code that is shown."""
    return set(re.findall(r"PREFLIGHT_\d+", output))


@pytest.fixture(scope="module")
def good_run() -> tuple[Played, float]:
    """One run on hosts in order, and its seconds."""
    started = time.monotonic()
    return converge("preflight"), time.monotonic() - started


@pytest.fixture(scope="module")
def broken_hosts() -> Iterator[None]:
    """Everything in BROKEN at once; mended again whatever happens."""
    try:
        for host in HOSTS:
            on(host, "\n".join(breaking for name, breaking, *_more in BROKEN if name == host))
        yield
    finally:
        for host in HOSTS:
            # Not all of it was broken when the breaking itself failed: every line is tried.
            on(host, "set +e\n" + "\n".join(mending for name, _break, mending, *_more in BROKEN if name == host))


def test_good_hosts_pass_quickly_and_nothing_changes(host, good_run, support):
    played, seconds = good_run
    assert played.code == 0, played.output
    assert "error:" not in played.output
    assert played.recap(host.backend.hostname)["changed"] == 0
    assert seconds < 30  # about 2 s with the start of Ansible; the machine may be busy
    support.ran(host, "preflight", f"all checks, {len(HOSTS)} hosts")


def elsewhere(folder: Path, host: str, address: str) -> str:
    """An inventory file that gives a host another address."""
    file = folder / "elsewhere.yml"
    file.write_text(json.dumps({"all": {"hosts": {host: {"ansible_host": address}}}}))
    return str(file)


def test_a_limit_to_one_host_still_compares_with_the_inventory(tmp_path):
    played = converge("preflight", "--limit", "edge-1", "-i", elsewhere(tmp_path, "edge-1", HOSTS["cloud-1"]))
    assert played.code == 2
    assert "PREFLIGHT_029" in played.output


def test_a_host_that_cannot_be_reached_is_told_with_the_others(tmp_path):
    words = ("-i", elsewhere(tmp_path, "edge-2", HOSTS["edge-2"].rpartition(".")[0] + ".99"))
    played = converge("preflight", *words, preflight_plain_memory_min_mb=1, preflight_agent_memory_min_mb=600)
    assert played.code in (2, 4), played.output
    assert {"PREFLIGHT_001", "PREFLIGHT_008"} <= codes(played.output)
    assert [played.recap(host)[word] for host, word in (("cloud-1", "failed"), ("edge-2", "unreachable"))] == [0, 1]


def test_everything_broken_is_told_at_once_and_nothing_changes(broken_hosts):
    before = {host: on(host, "cat /etc/ansible/facts.d/skerry.fact 2>/dev/null || true") for host in HOSTS}
    played = converge("preflight", preflight_failed_hosts="stop", **WISHES)
    assert played.code == 2, played.output
    wanted = {(name, code) for _host, _break, _mend, code, names in BROKEN for name in names} | BY_WISH
    assert wanted - seen(played.output) == set(), played.output
    assert played.output.count("Preflight: ") == 1  # one table
    assert "nothing was changed on any host" in " ".join(played.output.split())
    assert all(played.recap(host)["changed"] == 0 for host in HOSTS)
    assert before == {host: on(host, "cat /etc/ansible/facts.d/skerry.fact 2>/dev/null || true") for host in HOSTS}


def test_checks_that_are_skipped_or_softened_do_not_stop(broken_hosts):
    broken = sorted({code for _host, _break, _mend, code, _names in BROKEN} | {code for _host, code in BY_WISH})
    skipped, softened = broken[::2], broken[1::2]
    played = converge("preflight", preflight_skip_checks=skipped, preflight_warn_checks=softened, **WISHES)
    assert played.code == 0, played.output
    assert set(softened) <= codes(played.output)
    assert not set(skipped) & codes(played.output)


def test_hosts_with_errors_are_left_out_and_the_others_go_on(broken_hosts):
    played = converge("preflight", preflight_warn_checks=["PREFLIGHT_019", "PREFLIGHT_028"])
    assert played.code == 2, played.output
    assert [played.recap(host)["failed"] for host in HOSTS] == [0, 1, 1]
    assert "PREFLIGHT_026" in played.output
