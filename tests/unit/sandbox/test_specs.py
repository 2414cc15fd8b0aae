"""What inventories ask for, the inventories that `up` writes, and what is read of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry import paths
from skerry.errors import SkerryError
from skerry.sandbox import emulation, images, k3s_source, keys, machine, plans, settings, spec

HOST: dict[str, Any] = {
    "address": "10.0.0.11",
    "image": "debian12",
    "arch": "amd64",
    "memory": "512M",
    "cpus": 1,
    "link": "",
}


def parse(**changes: Any) -> spec.Sandbox:
    return spec.parse("box", "10.0.0.0/24", "/nowhere/box", {"edge-1": {**HOST, **changes}})


def test_a_host_is_read() -> None:
    sandbox = parse(memory="2G", cpus="1.5")
    assert sandbox.hosts["edge-1"] == spec.Host("edge-1", "10.0.0.11", "debian12", "amd64", 2 << 30, 1.5, "")
    assert (sandbox.gateway, sandbox.container("edge-1")) == ("10.0.0.1", "box-edge-1")


@pytest.mark.parametrize(
    "change, named",
    [
        ({"address": "10.0.1.11"}, "10.0.1.11"),
        ({"address": "10.0.0.1"}, "10.0.0.1"),
        ({"address": None}, "ansible_host"),
        ({"image": "debian11"}, "debian11"),
        ({"arch": "s390x"}, "s390x"),
        ({"memory": "lots"}, "lots"),
        ({"memory": "64M"}, "64 MiB"),
        ({"cpus": 0}, "sandbox_cpus"),
    ],
)
def test_a_wrong_host_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(SkerryError) as caught:
        parse(**change)
    assert caught.value.code == "SANDBOX_010"
    assert named in caught.value.cause


def test_two_hosts_with_one_address_are_refused() -> None:
    with pytest.raises(SkerryError, match="both have"):
        spec.parse("box", "10.0.0.0/24", "/nowhere", {"a": HOST, "b": HOST})


def test_known_hosts_has_every_host_and_host_keys_stay(tmp_path: Path) -> None:
    both = {"a": HOST, "b": {**HOST, "address": "10.0.0.12"}}
    sandbox = spec.parse("box", "10.0.0.0/24", str(tmp_path / "box"), both)
    assert keys.ensure(sandbox, {"hosts": "x\n"})
    first = (sandbox.state / "known_hosts").read_text()
    assert [line.split()[0] for line in first.splitlines()] == ["10.0.0.11", "10.0.0.12"]
    assert not keys.ensure(sandbox, {"hosts": "x\n"})
    fewer = spec.parse("box", "10.0.0.0/24", str(tmp_path / "box"), {"a": HOST})
    assert keys.ensure(fewer, {"hosts": "x\n"})
    assert (sandbox.state / "known_hosts").read_text() == first.splitlines(keepends=True)[0]
    assert not (sandbox.state / "hosts" / "b").exists()
    assert (sandbox.state / "id_ed25519").stat().st_mode & 0o777 == 0o600


def test_capabilities_that_the_bounding_set_lacks() -> None:
    assert machine.lacking_capabilities("CapBnd:\t000001fffeffffff\n") == ["SYS_RESOURCE"]
    assert machine.lacking_capabilities("CapBnd:\t000001ffffffffff\n") == []
    assert "CHECKPOINT_RESTORE" in machine.lacking_capabilities("CapBnd:\t000000ffffffffff\n")


@pytest.mark.parametrize(
    ("script", "settings"),
    [
        ('echo "PROXY=\'http://$3.example.org\'"', 'Acquire::http::Proxy "http://Acquire::http::Proxy.example.org";'),
        ("true", 'Acquire::http::Proxy "http://environment.example.org";'),
        ('echo "PROXY=\'DIRECT\'"', ""),
    ],
    ids=["apt's own", "of the environment", "none by apt's word"],
)
def test_proxies_are_apts_before_the_environments(
    script: str, settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _apt_config(tmp_path, script, monkeypatch)
    assert machine.apt_proxies().splitlines()[:1] == [settings][: bool(settings)]


def test_apt_settings_that_apt_cannot_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _apt_config(tmp_path, "echo E: Syntax error /etc/apt/apt.conf.d/99x:1 >&2; exit 100", monkeypatch)
    with pytest.raises(SkerryError, match="99x:1") as raised:
        machine.apt_proxies()
    assert raised.value.code == "SANDBOX_025"


def _apt_config(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "apt-config"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("http_proxy", "http://environment.example.org")
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)



def test_kernel_settings_noted_are_settings_not_counters() -> None:
    noted = {str(path) for path in settings.sysctls()}
    assert {"/proc/sys/kernel/panic", "/proc/sys/vm/overcommit_memory"} <= noted
    assert not {f"/proc/sys/{name}" for name in ("kernel/random/uuid", "fs/file-nr", "kernel/hostname")} & noted
    assert "/proc/sys/fs/dentry-state" not in noted


def test_an_image_is_another_one_when_its_definition_differs() -> None:
    one = images.Definition("debian13", "amd64", ("deb x trixie main",), ())
    assert one.digest == images.Definition("debian13", "amd64", ("deb x trixie main",), ()).digest
    others = [
        images.Definition("debian13", "arm64", one.sources, ()),
        images.Definition("debian13", "amd64", (), ()),
        images.Definition("debian13", "amd64", one.sources, (("ca.crt", "PEM"),)),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 4
    assert one.digest in one.image


def test_a_failed_root_leaves_nothing_that_could_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    tool = bin_folder / "mmdebstrap"  # makes half a file, then fails, as a broken mirror does
    tool.write_text(
        '#!/bin/sh\nfor word; do case $word in */root.tar) echo half > "$word";; esac; done\n'
        "echo E: broken mirror >&2\nexit 1\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/sbin:/usr/bin:/bin")
    monkeypatch.setattr("skerry.debian.missing", lambda part: [])
    target = tmp_path / "images" / "x.tar"
    target.parent.mkdir()
    with pytest.raises(SkerryError, match="broken mirror") as caught:
        images.make_root(images.Definition("debian13", "amd64", (), ()), target)
    assert caught.value.code == "SANDBOX_006"
    assert list(target.parent.iterdir()) == []


@pytest.fixture
def _mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKERRY_MIRROR", str(tmp_path))
    monkeypatch.setenv("SKERRY_OFFLINE", "1")
    return tmp_path


def test_the_newest_k3s_of_the_mirror_is_used_for_its_architecture_only(_mirror: Path) -> None:
    artifacts = [
        {"component": "k3s", "version": version, "arch": "amd64"}
        for version in ("v1.35.9+k3s1", "v1.35.10+k3s1", "v1.34.12+k3s2")
    ]
    (_mirror / "mirror.lock.json").write_text(json.dumps({"format": 1, "artifacts": artifacts}))
    found = k3s_source.variables("amd64")
    assert (found["skerry_mirror"], found["k3s_version"]) == (str(_mirror), "v1.35.10+k3s1")
    assert "coredns" in found["k3s_disable"]
    assert found["k3s_airgap_images"] == [{"component": "pause", "version": "3.6", "file": "pause-ARCH.tar"}]
    without = k3s_source.variables("arm64")
    assert without["k3s_enabled"] is False
    assert str(_mirror) in without["k3s_disabled_reason"]


def test_a_plan_keeps_what_is_not_mentioned() -> None:
    plan = plans.revise(plans.Plan(), 4, False, ["edge-*=4g", "edge-2=none"])
    assert plan.links == {"edge-1": "4g", "edge-2": "none", "edge-3": "4g", "edge-4": "4g"}
    assert plans.revise(plan, None, False, []) == plan
    assert set(plans.revise(plan, 2, True, []).links) == {"edge-1", "edge-2"}
    assert plans.ARM64_HOST in plans.revise(plan, None, True, []).hosts()


@pytest.mark.parametrize(
    "edge, asked, code",
    [
        (1, [], "SANDBOX_013"),
        (999, [], "SANDBOX_013"),
        (2, ["edge-7=4g"], "SANDBOX_014"),
        (2, ["4g"], "SANDBOX_014"),
        (2, ["edge-1=warp"], "SANDBOX_020"),
    ],
)
def test_a_wrong_request_is_refused(edge: int, asked: list[str], code: str) -> None:
    with pytest.raises(SkerryError) as caught:
        plans.revise(plans.Plan(), edge, False, asked)
    assert caught.value.code == code


@pytest.mark.usefixtures("_mirror")
def test_thirty_edge_hosts_have_addresses_of_their_own_and_fit_the_tree() -> None:
    tree = yaml.safe_load((paths.root() / "inventories" / "sandbox" / "hosts.yml").read_text(encoding="utf-8"))
    extra = plans.document(plans.Plan(edge=30, arm64=True), "10.213.77.0/24", None)
    hosts = {**tree["all"]["children"]["skerry_sandbox"]["hosts"]}
    for name, values in extra["all"]["children"]["skerry_sandbox"]["hosts"].items():
        hosts[name] = {**hosts.get(name, {}), **values}
    addresses = [values["ansible_host"] for values in hosts.values()]
    assert len(hosts) == 32
    assert len(set(addresses)) == 32
    assert set(extra["all"]["children"]["skerry_agents"]["hosts"]) == set(hosts) - {"cloud-1", "edge-1", "edge-2"}


@pytest.mark.usefixtures("_mirror")
def test_an_inventory_of_another_name_is_whole() -> None:
    data = plans.document(plans.Plan("other", 1), "10.213.100.0/24", Path("/keys"))["all"]["children"]
    assert data["skerry_sandbox"]["vars"]["sandbox_keys"] == "/keys"
    assert list(data["skerry_servers"]["hosts"]) == ["cloud-1"]
    assert list(data["skerry_edge"]["hosts"]) == ["edge-1"]


def test_a_handler_is_registered_anew_with_the_flags_that_hosts_need() -> None:
    debian = {
        "state": "enabled",
        "interpreter": "/usr/libexec/qemu-binfmt/aarch64-binfmt-P",
        "flags:": "PF",
        "offset": "0",
        "magic": "7f454c46b700",
        "mask": "ffffffffff00",
    }
    assert emulation.registration("skerry-aarch64", debian) == (
        r":skerry-aarch64:M:0:\x7f\x45\x4c\x46\xb7\x00:\xff\xff\xff\xff\xff\x00:"
        "/usr/libexec/qemu-binfmt/aarch64-binfmt-P:PFOC"
    )
