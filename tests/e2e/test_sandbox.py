"""`skerry sandbox` as people use it: a process, real hosts, real packets. One sandbox of its own name for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry import paths
from skerry.sandbox.docker_api import Docker

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.own_hosts,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandbox hosts with links need root"),
]
NAME = "e2e-sandbox"
STATE = paths.state() / "sandbox" / NAME
#: One way; the round trip has twice as much, and a rate in both directions.
LINK = "latency=20ms,jitter=5ms,rate=8mbit"


def skerry(*words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(paths.root() / "skerry"), "sandbox", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd="/",
        stdin=subprocess.DEVNULL,
    )


def said(*words: str) -> dict[str, Any]:
    done = skerry(*words, "--name", NAME, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def on(host: str, *command: str) -> str:
    done = skerry("ssh", host, "--name", NAME, "--", *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def volumes(prefix: str) -> list[str]:
    found = Docker().call("GET", "/volumes")["Volumes"] or []
    return [volume["Name"] for volume in found if volume["Name"].startswith(prefix)]


def status(*words: str) -> dict[str, dict[str, Any]]:
    done = skerry("status", "--name", NAME, "--json", *words)
    assert done.returncode in (0, 1), done.stderr
    answer = json.loads(done.stdout)
    assert (done.returncode == 0) is answer["well"]
    return {host["name"]: host for host in answer["hosts"]}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[dict[str, Any]]:
    yield said("up", "--edge", "1", "--link", f"edge-1={LINK}")
    done = skerry("down", "--name", NAME)
    assert done.returncode == 0, done.stderr


def test_hosts_are_machines_of_their_own(sandbox: dict[str, Any]) -> None:
    assert sandbox["changed"] is True
    assert [host["name"] for host in sandbox["hosts"]] == ["cloud-1", "edge-1"]
    for host, release, mebibytes, cores in (("cloud-1", "13", 3072, "2"), ("edge-1", "12", 512, "1")):
        seen = on(
            host,
            "sh",
            "-c",
            "cat /proc/1/comm; . /etc/os-release; echo $VERSION_ID; hostname; "
            "awk '/MemTotal/ {print $2 / 1024}' /proc/meminfo; getconf _NPROCESSORS_ONLN",
        ).splitlines()
        assert seen == ["systemd", release, host, str(mebibytes), cores]
        deadline = time.monotonic() + 30
        while (state := on(host, "sh", "-c", "systemctl is-system-running || true")) == "starting":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert state == "running", on(host, "systemctl", "--failed", "--no-legend")
        assert on(host, "sudo", "-n", "id", "-u") == "0"


def test_memory_is_a_limit_not_a_number(sandbox: dict[str, Any]) -> None:
    eat = "b = bytearray(700 << 20); b[::4096] = b'x' * len(b[::4096])"
    assert on("edge-1", "sh", "-c", f'python3 -c "{eat}"; echo $?').splitlines()[-1] == "137"


def test_the_second_up_changes_nothing(sandbox: dict[str, Any]) -> None:
    again = said("up")
    assert again["changed"] is False
    assert again["inventory"] == sandbox["inventory"]


def test_the_link_asked_is_the_link_in_force(sandbox: dict[str, Any]) -> None:
    hosts = status()
    seen = hosts["edge-1"]["link_measured"]
    assert hosts["edge-1"]["link_in_force"] is True
    assert 38 <= seen["rtt_ms"] <= 80  # both ways; a busy machine adds to it
    assert seen["rtt_deviation_ms"] >= 3  # 5 ms either way: 4.1
    assert seen["loss_percent"] == 0
    for way in ("down_mbit", "up_mbit"):
        assert 5 <= seen[way] <= 9.5, seen
    assert hosts["cloud-1"]["link_measured"]["rtt_ms"] < 15


def test_a_changed_host_key_is_refused(sandbox: dict[str, Any], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    kind, key = (tmp_path / "key.pub").read_text().split()[:2]
    address = sandbox["hosts"][0]["address"]
    (tmp_path / "known_hosts").write_text(f"{address} {kind} {key}\n")
    command = [
        "ssh",
        "-F",
        str(STATE / "ssh_config"),
        "-o",
        f"UserKnownHostsFile={tmp_path}/known_hosts",
        "-o",
        "ControlPath=none",
        "cloud-1",
        "true",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_the_exit_code_of_a_command_is_kept_and_words_stay_words(sandbox: dict[str, Any]) -> None:
    assert skerry("ssh", "cloud-1", "--name", NAME, "--", "sh", "-c", "exit 7").returncode == 7
    assert on("cloud-1", "printf", "%s|", "a  b", "$HOME") == "a  b|$HOME|"


def test_what_cannot_be_is_refused_before_anything_changes(sandbox: dict[str, Any]) -> None:
    for words, code in (
        (("ssh", "edge-9", "--name", NAME), "SANDBOX_018"),
        (("up", "--name", NAME, "--link", "edge-1=warp"), "SANDBOX_020"),
        (("up", "--edge", "1"), "SANDBOX_013"),
    ):
        done = skerry(*words)
        assert done.returncode == 2
        assert code in done.stderr
        assert "remedy:" in done.stderr
    assert said("up")["changed"] is False


def test_addresses_of_another_network_are_refused(sandbox: dict[str, Any], tmp_path: Path) -> None:
    mine = (Path(sandbox["inventory"]) / "hosts.yml").read_text(encoding="utf-8")
    (tmp_path / "hosts.yml").write_text(mine.replace(f"sandbox_name: {NAME}", f"sandbox_name: {NAME}-2"))
    (tmp_path / "group_vars").symlink_to(Path(sandbox["inventory"]) / "group_vars")
    playbook = ["ansible-playbook", str(paths.root() / "playbooks" / "sandbox_up.yml"), "-i", str(tmp_path)]
    done = subprocess.run(playbook, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 2
    assert "SANDBOX_023" in done.stdout
    assert "| remedy: set another sandbox_subnet" in done.stdout


@pytest.mark.full
def test_a_restarted_host_gets_its_link_back(sandbox: dict[str, Any]) -> None:
    Docker().call("POST", f"/containers/{NAME}-edge-1/restart", {"t": "10"})
    assert status("--no-measure")["edge-1"]["link_in_force"] is False
    assert said("up")["changed"] is True
    again = status()["edge-1"]
    assert again["link_in_force"] is True
    assert again["link_measured"]["rtt_ms"] >= 38


def test_a_link_can_be_taken_away(sandbox: dict[str, Any]) -> None:
    assert said("up", "--link", "edge-1=none")["changed"] is True
    edge = status()["edge-1"]
    assert edge["link_measured"]["rtt_ms"] < 15
    assert not list((STATE / "links").iterdir())


def test_a_host_whose_definition_changes_is_made_anew_with_an_empty_disk(sandbox: dict[str, Any]) -> None:
    inventory = Path(sandbox["inventory"]) / "hosts.yml"
    before = inventory.read_text(encoding="utf-8")
    on("edge-1", "sudo", "touch", "/var/lib/left-here")
    playbook = [
        "ansible-playbook",
        str(paths.root() / "playbooks" / "sandbox_up.yml"),
        "-i",
        str(inventory.parent),
        "--limit",
        "edge-1",
        "-e",
        "sandbox_memory=640M",
    ]
    subprocess.run(playbook, check=True, capture_output=True, cwd="/")
    assert on(
        "edge-1", "sh", "-c", "awk '/MemTotal/ {print $2 / 1024}' /proc/meminfo; ls /var/lib | grep left || true"
    ).splitlines() == ["640"]
    assert inventory.read_text(encoding="utf-8") == before
    assert len(volumes(f"{NAME}-edge-1-")) == 1
    # --limit made one host anew and knows the other one still.
    assert on("cloud-1", "hostname") == "cloud-1"


def relays() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"skerry.sandbox.relay" in command and NAME.encode() in command:
            found.append(process.name)
    return found


def test_down_leaves_nothing_behind() -> None:
    """Last: takes down what the other tests used (the fixture's own down finds nothing, which is no failure)."""
    said("up", "--edge", "1", "--link", "edge-1=4g")
    address = status("--no-measure")["edge-1"]["address"]
    assert relays()
    bridge = f"br-{Docker().call('GET', f'/networks/{NAME}')['Id'][:12]}"
    assert Path(f"/sys/class/net/{bridge}").exists()
    assert len(volumes(f"{NAME}-")) == 2
    assert said("down")["removed"] == [NAME]
    assert Docker().by_label("containers", f"dev.skerry.sandbox={NAME}") == []
    assert Docker().by_label("networks", f"dev.skerry.sandbox={NAME}") == []
    assert volumes(f"{NAME}-") == []
    assert not Path(f"/sys/class/net/{bridge}").exists()
    assert relays() == []
    assert not STATE.exists()
    assert not (paths.state() / "inventories" / NAME).exists()
    subnet = address.rsplit(".", 1)[0] + "."
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    assert subnet not in rules
    # The kernel may still be closing connections; no process holds one.
    held = subprocess.run(["ss", "-tn", "state", "established"], capture_output=True, text=True, check=True).stdout
    assert subnet not in held
    assert skerry("down", "--name", NAME).returncode == 0
