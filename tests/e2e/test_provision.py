"""Bad input of `skerry provision`: one clear coded error, its remedy, the other hosts carry on, nothing half done.

Every test ruins host `bad` in one way, runs site.yml on it and `good`, and puts it back. "Nothing half done" is looked
at from outside: all files of the host's system folders before and after.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_hosts import ROOT, SANDBOX, OwnHosts, Told
from sandboxes import playbook

from skerry import paths

pytestmark = [pytest.mark.hosts, pytest.mark.own_hosts]

#: The quickest part of site.yml that leaves something on a host.
QUICK = ("--tags", "host_tuning_configure")
TUNED = "/etc/ansible/facts.d/skerry.fact"
SECRET = "hush-4f0c9d8e7a6b5c4d"
PAYLOAD = 3_000_000
WASMTIME = "/usr/local/bin/wasmtime"


def files(hosts: OwnHosts, host: str) -> set[str]:
    """Type, mode, owner, size, time and name of everything that a role could touch."""
    folders = "/etc /opt /root /home /srv /usr /var/lib /boot"
    told = hosts.on(host, f"find {folders} -xdev ! -type d -printf '%y %m %u %s %T@ %p\\n' 2>/dev/null || true")
    assert "/etc/passwd" in told
    return {line for line in told.splitlines() if not line.endswith(("random-seed", "/timesync/clock"))}


@contextlib.contextmanager
def untouched(hosts: OwnHosts, host: str) -> Iterator[None]:
    """Fails when the block leaves the host other than it was."""
    before = files(hosts, host)
    yield
    assert files(hosts, host) ^ before == set()


def forget(hosts: OwnHosts, host: str = "good") -> None:
    """Takes away what shows that a run came through on a host."""
    hosts.on(host, f"rm -f {TUNED} {WASMTIME} /var/lib/skerry/artifacts.json")


def carried_on(hosts: OwnHosts, told: Told) -> None:
    """`good` was served to the end."""
    assert told.host("good")["failures"] == []
    assert told.host("good")["changed"] > 0
    assert "host_tuning" in hosts.on("good", f"cat {TUNED}")


# -- login -------------------------------------------------------------------------------------------------------


def _fresh_ssh(known_hosts: Path) -> str:
    """Options of ssh without a connection that is still open from an earlier run."""
    return f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o ControlPath=none"


def _keypair(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def _unused_port(folder: Path) -> dict[str, Any]:
    return {"ansible_port": 9}


def _wrong_key(folder: Path) -> dict[str, Any]:
    _keypair(folder / "wrong")
    known = SANDBOX.keys / "known_hosts"
    return {"ansible_ssh_private_key_file": str(folder / "wrong"), "ansible_ssh_common_args": _fresh_ssh(known)}


def _changed_host_key(folder: Path) -> dict[str, Any]:
    known = folder / "known_hosts"
    known.write_text(f"{SANDBOX.address('12')} {_keypair(folder / 'other')}")
    return {"ansible_ssh_common_args": _fresh_ssh(known)}


def _unknown_name(folder: Path) -> dict[str, Any]:
    return {"ansible_host": "no-such-host.invalid"}


LOGINS = {
    "nothing listens": (_unused_port, "Connection refused", "ansible_port"),
    "wrong key": (_wrong_key, "Permission denied", "authorized_keys"),
    "changed host key": (_changed_host_key, "Host key verification failed", "known_hosts"),
    "unknown name": (_unknown_name, "Could not resolve", "ansible_host"),
}


@pytest.mark.parametrize("case", LOGINS)
def test_host_that_cannot_be_logged_in_to(own_hosts: OwnHosts, tmp_path: Path, case: str) -> None:
    variables, cause, remedy = LOGINS[case]
    inventory = own_hosts.inventory(case.replace(" ", "-"), {"good": {}, "bad": variables(tmp_path)})
    forget(own_hosts)
    with untouched(own_hosts, "bad"):
        told = own_hosts.provision(inventory, *QUICK)
    assert told.code == 4
    assert told.host("bad")["unreachable"]
    (failure,) = told.host("bad")["failures"]
    assert failure["code"] == "PREFLIGHT_001"
    assert cause in failure["cause"]
    assert remedy in failure["remedy"]
    carried_on(own_hosts, told)


def test_unknown_host(own_hosts: OwnHosts) -> None:
    inventory = own_hosts.inventory("unknown", {"good": {}, "bad": {}})
    forget(own_hosts)
    with untouched(own_hosts, "bad"):
        told = own_hosts.provision(inventory, "--limit", "good,badd", *QUICK)
    assert told.code == 1
    (error,) = told.told["errors"]
    assert error["code"] == "PROVISION_003"
    assert "did you mean bad?" in error["remedy"]
    carried_on(own_hosts, told)


# -- rights and Python -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _without_sudo(hosts: OwnHosts, host: str) -> Iterator[None]:
    hosts.on(host, "mv /etc/sudoers.d/skerry /root/sudoers.kept")
    try:
        yield
    finally:
        hosts.on(host, "mv /root/sudoers.kept /etc/sudoers.d/skerry")


def test_no_sudo_rights(own_hosts: OwnHosts) -> None:
    inventory = own_hosts.inventory("no-sudo", {"good": {}, "bad": {}})
    forget(own_hosts)
    with _without_sudo(own_hosts, "bad"), untouched(own_hosts, "bad"):
        told = own_hosts.provision(inventory, *QUICK)
    assert told.code == 1
    assert told.codes("bad") == ["PREFLIGHT_003"]
    assert "sudo" in told.remedy("bad")
    carried_on(own_hosts, told)


def test_wrong_sudo_password_is_told_and_never_shown(own_hosts: OwnHosts) -> None:
    inventory = own_hosts.inventory("sudo-password", {"good": {}, "bad": {"ansible_become_password": SECRET}})
    forget(own_hosts)
    with _without_sudo(own_hosts, "bad"), untouched(own_hosts, "bad"):
        told = own_hosts.provision(inventory, *QUICK)
    assert told.code == 1
    assert told.codes("bad") == ["PREFLIGHT_003"]
    carried_on(own_hosts, told)
    assert SECRET not in str(told.told) + told.errors + _everything_kept(told)


def test_without_python(own_hosts: OwnHosts) -> None:
    """Refused without rights; installed with them, and the run goes on on that host too."""
    inventory = own_hosts.inventory("no-python", {"good": {}, "bad": {}})
    forget(own_hosts)
    own_hosts.on(
        "bad",
        f"rm -f {TUNED}; dpkg --purge --force-depends $(dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n'"
        " 'python3*' 'libpython3*' | awk '$2 == \"installed\" {print $1}') >/dev/null 2>&1; ! command -v python3",
    )
    with _without_sudo(own_hosts, "bad"), untouched(own_hosts, "bad"):
        told = own_hosts.provision(inventory, *QUICK)
    assert told.code == 1
    assert set(told.codes("bad")) <= {"PREFLIGHT_002", "PREFLIGHT_003"}
    assert "PREFLIGHT_002" in told.codes("bad")
    carried_on(own_hosts, told)

    told = own_hosts.provision(inventory, *QUICK)
    assert told.code == 0, told.told
    assert "host_tuning" in own_hosts.on("bad", f"cat {TUNED}; python3 --version")


# -- artifacts ---------------------------------------------------------------------------------------------------


def _mirror(folder: Path) -> Path:
    """A mirror with one file that roles take for a wasmtime."""
    payload = folder / "wasmtime"
    payload.write_bytes(b"#!/bin/sh\nexit 9\n" + os.urandom(PAYLOAD))
    version = "48.0.8"
    command = [str(ROOT / "skerry"), "mirror", "add", str(payload), "--as", "wasmtime", "--version", version]
    subprocess.run([*command, "--arch", "amd64", "--dir", str(folder / "mirror")], check=True, capture_output=True)
    return folder / "mirror"


def _artifact_run(hosts: OwnHosts, name: str, good: Path, bad: Path) -> Told:
    """site.yml's part that places wasmtime, from a mirror for each host."""
    inventory = hosts.inventory(
        name,
        {"good": {"skerry_mirror": str(good)}, "bad": {"skerry_mirror": str(bad)}},
        wasm_runtime_wanted=[{"name": "wasmtime", "required": False}],
    )
    return hosts.provision(inventory, "--tags", "wasm_runtime_install")


def _placed_right(hosts: OwnHosts, host: str, mirror: Path) -> None:
    digest = hashlib.sha256(next(mirror.rglob("wasmtime/**/wasmtime")).read_bytes()).hexdigest()
    assert hosts.on(host, f"sha256sum {WASMTIME}").split()[0] == digest


def test_corrupt_binary_in_the_mirror(own_hosts: OwnHosts, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    right, corrupt = _mirror(tmp_path / "a"), _mirror(tmp_path / "b")
    file = next(corrupt.rglob("wasmtime/**/wasmtime"))
    content = bytearray(file.read_bytes())
    content[PAYLOAD // 2] ^= 1  # same size, one bit
    file.chmod(0o644)
    file.write_bytes(content)
    forget(own_hosts)
    forget(own_hosts, "bad")
    with untouched(own_hosts, "bad"):
        told = _artifact_run(own_hosts, "corrupt", right, corrupt)
    assert told.code == 1
    assert told.codes("bad") == ["ARTIFACT_003"]
    assert str(file) in told.host("bad")["failures"][0]["cause"]
    assert "skerry mirror" in told.remedy("bad")
    assert told.host("good")["failures"] == []
    _placed_right(own_hosts, "good", right)

    told = _artifact_run(own_hosts, "mended", right, right)
    assert told.code == 0, told.told
    _placed_right(own_hosts, "bad", right)


def test_corrupt_binary_replaces_nothing(own_hosts: OwnHosts, tmp_path: Path) -> None:
    """A host that has a working binary keeps it."""
    mirror = _mirror(tmp_path)
    file = next(mirror.rglob("wasmtime/**/wasmtime"))
    file.chmod(0o644)
    file.write_bytes(b"cut off")
    own_hosts.on("bad", f"echo works > {WASMTIME}")
    with untouched(own_hosts, "bad"):
        told = _artifact_run(own_hosts, "keeps", mirror, mirror)
    assert told.codes("bad") == told.codes("good") == ["ARTIFACT_003"]
    assert own_hosts.on("bad", f"cat {WASMTIME}") == "works\n"


@pytest.mark.parametrize("place", ["/usr/local/bin", "/home/skerry/.ansible"])
def test_full_disk(own_hosts: OwnHosts, tmp_path: Path, place: str) -> None:
    """Where the artifact goes, or where it is sent to first."""
    mirror = _mirror(tmp_path)
    forget(own_hosts)
    forget(own_hosts, "bad")
    own_hosts.on("bad", f"mkdir -p {place}; mount -t tmpfs -o size=1M,mode=1777 tmpfs {place}")
    try:
        inside = f"find {place} -type f | sort; df --output=used {place}"
        before = own_hosts.on("bad", inside)
        with untouched(own_hosts, "bad"):
            told = _artifact_run(own_hosts, "full-disk", mirror, mirror)
        after = own_hosts.on("bad", inside)
    finally:
        own_hosts.on("bad", f"umount {place}")
    assert told.code == 1
    (code,) = told.codes("bad")
    assert code in {"ARTIFACT_006", "ARTIFACT_009"}
    assert "df -h" in told.remedy("bad")
    assert after == before
    _placed_right(own_hosts, "good", mirror)

    told = _artifact_run(own_hosts, "room-again", mirror, mirror)
    assert told.code == 0, told.told
    _placed_right(own_hosts, "bad", mirror)


# -- secrets -----------------------------------------------------------------------------------------------------


def _everything_kept(told: Told) -> str:
    """All files that a run leaves on the controller."""
    run = Path(told.told["log"]).parents[2]
    assert run.parent == paths.state() / "runs"
    return "\n".join(path.read_text(errors="replace") for path in run.rglob("*") if path.is_file())


def test_tokens_are_in_no_log(own_hosts: OwnHosts, tmp_path: Path) -> None:
    """What check mode would write, with --diff; and a run that fails after the token was placed."""
    (tmp_path / "k3s").write_text("#!/bin/sh\nexit 9\n")
    version = "v1.35.0+k3s3"
    command = [str(ROOT / "skerry"), "mirror", "add", str(tmp_path / "k3s"), "--as", "k3s", "--version", version]
    subprocess.run([*command, "--arch", "amd64", "--dir", str(tmp_path / "mirror")], check=True, capture_output=True)
    inventory = own_hosts.inventory(
        "secrets", {"good": {}}, {"skerry_servers": ["good"]}, k3s_version=version, k3s_ready_timeout=10,
        skerry_mirror=str(tmp_path / "mirror"), k3s_token=SECRET, k3s_agent_token=SECRET[::-1],
    )  # fmt: skip
    cluster = str(ROOT / "playbooks" / "cluster.yml")
    for words in (["--check", "--diff"], ["--diff"]):
        told = own_hosts.provision(inventory, "--playbook", cluster, *words)
        kept = str(told.told) + told.errors + _everything_kept(told)
        assert SECRET not in kept
        assert SECRET[::-1] not in kept
    (code,) = told.codes("good")
    assert code.startswith("K3S_")
    assert SECRET in own_hosts.on("good", "cat /etc/rancher/k3s/* /var/lib/rancher/k3s/server/* 2>/dev/null || true")
    own_hosts.on("good", f"! journalctl --no-pager | grep -F -e {SECRET} -e {SECRET[::-1]}")
    playbook("reset.yml", inventory, "-e", '{"skerry_reset_confirm": true, "skerry_reset_parts": ["k3s"]}')
