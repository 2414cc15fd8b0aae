"""host_tuning on trees of files: raised, never lowered; recorded; put back; converged after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils import tuning_firewall as firewall
from ansible_collections.skerry.edge.plugins.module_utils import tuning_parts as parts
from ansible_collections.skerry.edge.plugins.module_utils import tuning_sysctl as sysctl
from ansible_collections.skerry.edge.plugins.module_utils.host import Host
from ansible_collections.skerry.edge.plugins.module_utils.tuning_state import JOURNAL, Context, TuningError
from ansible_collections.skerry.edge.plugins.modules import tuning
from hypothesis import given
from hypothesis import strategies as st
from unit.hosts.trees import RELEASES, put, tree

ROOT = Path(__file__).resolve().parents[3]
CHAINS = [
    {"family": "inet", "table": "filter", "name": "input", "hook": "input"},
    {"family": "inet", "table": "filter", "name": "forward", "hook": "forward"},
]
OPENINGS = [
    {"sources": ["192.0.2.1", "2001:db8::1"], "proto": "tcp", "ports": ["6443", "2379-2380"]},
    {"sources": ["10.42.0.0/16"], "proto": "", "ports": []},
]


def kernel(root: Path, **values: str) -> None:
    """Set keys below /proc/sys; '__' stands for the dots."""
    for key, value in values.items():
        put(root, sysctl.path_of(key.replace("__", ".")), value + "\n")


def value(root: Path, key: str) -> str:
    """One key's value."""
    text: str = (root / sysctl.path_of(key).lstrip("/")).read_text()
    return text.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host of 2 GB whose keys have the kernel's defaults, but for one that somebody had raised further."""
    tree(tmp_path)
    kernel(tmp_path, fs__inotify__max_user_instances="128", vm__max_map_count="1048576", kernel__panic="0")
    kernel(tmp_path, net__ipv4__tcp_rmem="4096\t131072\t6291456", net__ipv4__ip_local_port_range="32768\t60999")
    kernel(tmp_path, net__ipv4__ip_local_reserved_ports="")
    return tmp_path


def context(root: Path, check: bool = False) -> Context:
    """A fresh run on the tree."""
    return Context(Host(str(root)), check)


def raise_all(root: Path, check: bool = False, **exact: str) -> Context:
    """One run of the part sysctl."""
    run = context(root, check)
    sysctl.apply(run, sysctl.targets(2048), {key.replace("__", "."): wish for key, wish in exact.items()})
    run.save()
    return run


def test_keys_are_raised_and_none_is_lowered(root: Path) -> None:
    run = raise_all(root)
    assert value(root, "fs.inotify.max_user_instances") == "8192"
    assert value(root, "vm.max_map_count") == "1048576"
    assert value(root, "net.ipv4.tcp_rmem") == "4096 131072 8388608"
    assert value(root, "net.ipv4.ip_local_port_range") == "10240 65535"
    assert value(root, "net.ipv4.ip_local_reserved_ports") == "30000-32767"
    text = (root / "etc/sysctl.d/90-skerry.conf").read_text()
    assert "fs.inotify.max_user_instances = 8192\n" in text
    assert "max_map_count" not in text
    assert "net.core.somaxconn" in run.absent  # this kernel has no such key: left alone
    assert raise_all(root).changes == []


def test_check_mode_changes_nothing_and_says_all(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    run = raise_all(root, check=True)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert "fs.inotify.max_user_instances: 128 -> 8192" in run.changes
    assert [diff["after_header"] for diff in run.diffs] == ["/etc/sysctl.d/90-skerry.conf"]
    raise_all(root)
    assert raise_all(root, check=True).changes == []


def test_undo_puts_back_what_is_still_ours(root: Path) -> None:
    raise_all(root)
    kernel(root, kernel__panic="60")  # somebody else's since
    run = context(root)
    sysctl.undo(run)
    parts.undo_files(run)
    run.save()
    run.drop_journal()
    assert value(root, "fs.inotify.max_user_instances") == "128"
    assert value(root, "net.ipv4.tcp_rmem") == "4096 131072 6291456"
    assert value(root, "kernel.panic") == "60"
    assert any("kernel.panic is 60 now" in note for note in run.notes)
    assert not (root / "etc/sysctl.d/90-skerry.conf").exists()
    assert not (root / JOURNAL.lstrip("/")).exists()


def test_values_of_the_site_are_set_exactly_and_undone(root: Path) -> None:
    raise_all(root, vm__max_map_count="65530")
    assert value(root, "vm.max_map_count") == "65530"
    assert raise_all(root, vm__max_map_count="65530").changes == []
    run = context(root)
    sysctl.undo(run)
    assert value(root, "vm.max_map_count") == "1048576"


def test_a_key_that_is_higher_for_now_only_stays_in_our_file(root: Path) -> None:
    raise_all(root)
    written = (root / "etc/sysctl.d/90-skerry.conf").read_text()
    kernel(root, fs__inotify__max_user_instances="16384")  # by a host that shares the kernel: no file says so
    assert raise_all(root).changes == []
    assert (root / "etc/sysctl.d/90-skerry.conf").read_text() == written


def test_a_key_that_somebody_raised_further_leaves_our_file(root: Path) -> None:
    raise_all(root)
    kernel(root, fs__inotify__max_user_instances="16384")
    other = root / "etc/sysctl.d/50-other.conf"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("fs.inotify.max_user_instances = 16384\n")
    assert raise_all(root).changes == ["/etc/sysctl.d/90-skerry.conf written"]
    assert value(root, "fs.inotify.max_user_instances") == "16384"
    assert "max_user_instances" not in (root / "etc/sysctl.d/90-skerry.conf").read_text()


def test_a_file_read_later_that_wins_is_noted(root: Path) -> None:
    put(root, "/etc/sysctl.d/99-site.conf", "# ours\nkernel.panic = 5\nvm.max_map_count=70000\n")
    assert [note for note in raise_all(root).notes if "99-site.conf" in note] == [
        "99-site.conf sets kernel.panic = 5 and wins at the next boot"
    ]


WISH: dict[str, Any] = {
    "sysctl": True,
    "sysctl_extra": {"net.ipv4.tcp_keepalive_time": 600},
    "sysctl_skip": ["kernel.panic"],
    "modules": ["overlay"],
    "limits": {"soft": 65536, "hard": 1048576},
    "journald": {"use_mb": 0, "storage": "auto", "settings": {}},
    "time": {"servers": ["192.0.2.5"]},
    "swap": {"policy": "off", "swappiness": "10"},
    "cmdline": {"file": "", "arguments": ["cgroup_memory=1", "cgroup_enable=memory"]},
    "firewall": True,
}
CELLS = {
    "debian12": ("Debian 12", "amd64"),
    "ubuntu2404": ("Ubuntu 24.04", "amd64"),
    "raspios13": ("Raspberry Pi OS 13", "arm64"),
    "alma9": ("EL 9", "amd64"),
    "rocky10": ("EL 10", "amd64"),
    "leap156": ("openSUSE Leap 15.6", "amd64"),
}


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_every_family_is_tuned_unchanged_the_second_time_and_undone(
    tmp_path: Path, release: str, monkeypatch: pytest.MonkeyPatch, support: Any
) -> None:
    """All parts together on the files of a host of each family; only its commands are missing here."""
    monkeypatch.setattr(Host, "run", lambda *_argv, **_more: (0, "", ""))
    tree(tmp_path, release, device="179:2" if release == "raspios13" else "8:1")
    kernel(tmp_path, fs__inotify__max_user_instances="128", kernel__panic="0", net__ipv4__tcp_keepalive_time="7200")
    put(tmp_path, "/etc/fstab", "/dev/root / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n")
    put(tmp_path, "/proc/swaps", "Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    if release == "raspios13":
        pi(tmp_path)
    before = everything(tmp_path)

    def run(work: Any) -> tuple[Context, dict[str, Any]]:
        fresh = context(tmp_path)
        answer: dict[str, Any] = work(fresh, WISH)
        fresh.save()
        return fresh, answer

    _first, answer = run(tuning.tune)
    assert answer["reboot"] == (release == "raspios13")
    assert value(tmp_path, "kernel.panic") == "0"
    assert value(tmp_path, "net.ipv4.tcp_keepalive_time") == "600"
    journal = (tmp_path / parts.JOURNALD_FILE.lstrip("/")).read_text()
    assert ("Storage=volatile" in journal) == (release == "raspios13")
    put(tmp_path, "/proc/swaps", "Filename Type Size Used Priority\n")
    second, _answer = run(tuning.tune)
    assert second.changes == []
    undone, _answer = run(tuning.untune)
    undone.drop_journal()
    put(tmp_path, "/proc/swaps", "Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    assert everything(tmp_path) == before
    support("host_tuning", *CELLS[release], "rendered", "a tree of its files is tuned and put back")


def everything(root: Path) -> dict[str, str]:
    """Content of all files, kernel values without their line's end."""
    return {str(path.relative_to(root)): path.read_text().strip() for path in root.rglob("*") if path.is_file()}


@given(current=st.integers(0, 2**40), wanted=st.integers(0, 2**40))
def test_a_number_is_never_lowered(current: int, wanted: int) -> None:
    assert int(sysctl.raised(str(current), wanted)) == max(current, wanted)


@given(memory_mb=st.integers(64, 1 << 20))
def test_connection_tracking_takes_at_most_two_percent(memory_mb: int) -> None:
    entries = sysctl.conntrack_entries(memory_mb)
    assert 32768 <= entries <= 1048576
    assert entries.bit_count() == 1
    assert entries * 300 <= max(32768 * 300, 0.02 * memory_mb * 1024 * 1024)


@pytest.mark.parametrize(("memory_mb", "size"), [(420, "small"), (1024, "small"), (2048, "normal"), (8192, "large")])
def test_sizes_by_memory(memory_mb: int, size: str) -> None:
    assert sysctl.size_of(memory_mb) == size


def test_the_documentation_has_every_key_and_value() -> None:
    text = (ROOT / "docs/host-tuning.md").read_text()
    for key, row in {**sysctl.BY_SIZE, **sysctl.THIRD_BY_SIZE}.items():
        cells = " | ".join("-" if number is None else str(number) for number in row)
        assert f"| `{key}` | {cells} |" in text


def test_limits_stay_where_a_container_may_not_raise_them(root: Path) -> None:
    """pam_limits refuses logins when a hard limit cannot be set: this would lock everybody out."""
    put(root, "/proc/1/limits", "Max open files            1024                 20000                files\n")
    put(root, "/proc/1/status", "CapBnd:\t000001fffeffffff\n")  # without CAP_SYS_RESOURCE
    parts.apply_limits(context(root), 65536, 1048576)
    assert "DefaultLimitNOFILE=20000:20000\n" in (root / parts.MANAGER_FILE.lstrip("/")).read_text()
    assert "* hard nofile 20000\n" in (root / parts.LIMITS_FILE.lstrip("/")).read_text()


def test_limits_are_raised_up_to_the_kernels_ceiling(root: Path) -> None:
    kernel(root, fs__nr_open="1048576")
    run = context(root)
    parts.apply_limits(run, 65536, 4194304)
    assert "DefaultLimitNOFILE=65536:1048576\n" in (root / parts.MANAGER_FILE.lstrip("/")).read_text()
    assert run.journal["pending"] == ["daemon-reload"]


def test_the_journal_is_bounded_and_kept_off_sd_cards(tmp_path: Path) -> None:
    tree(tmp_path, device="179:2")
    parts.apply_journald(context(tmp_path), 50, "auto", {"MaxRetentionSec": "7day"})
    assert (tmp_path / parts.JOURNALD_FILE.lstrip("/")).read_text().splitlines()[1:] == [
        "[Journal]",
        "SystemMaxUse=50M",
        "RuntimeMaxUse=16M",
        "Storage=volatile",
        "MaxRetentionSec=7day",
    ]


def test_a_run_that_was_killed_before_a_service_was_told_catches_up(root: Path) -> None:
    run = context(root)
    parts.apply_journald(run, 50, "", {})
    run.save()  # killed here
    again = context(root)
    parts.apply_journald(again, 50, "", {})
    assert again.changes == []
    with pytest.raises(TuningError, match="HOST_TUNING_006 systemctl try-restart systemd-journald"):
        parts.finish(again)  # a tree has no systemctl: it is tried, and stays due
    assert json.loads((root / JOURNAL.lstrip("/")).read_text())["pending"] == ["systemd-journald"]


def pi(root: Path, controllers: str = "cpuset cpu pids", line: str = "console=tty1 rootwait") -> None:
    """Make the host a Raspberry Pi."""
    put(root, "/proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    put(root, "/boot/firmware/cmdline.txt", line + "\n")
    put(root, "/sys/fs/cgroup/cgroup.controllers", controllers + "\n")


ARGUMENTS = ["cgroup_memory=1", "cgroup_enable=memory"]
CMDLINE = "boot/firmware/cmdline.txt"


def command_line(root: Path) -> bool:
    """One run of the part cmdline; True when a reboot is due."""
    run = context(root)
    due: bool = parts.apply_cmdline(run, "", ARGUMENTS)
    run.save()
    return due


def test_the_raspberry_pi_gets_one_line_and_one_reboot(root: Path) -> None:
    pi(root)
    assert command_line(root)
    assert (root / CMDLINE).read_text() == "console=tty1 rootwait cgroup_memory=1 cgroup_enable=memory\n"
    assert command_line(root)  # still before the reboot: it is due, the line stays as it is
    assert (root / CMDLINE).read_text().count("cgroup_memory") == 1
    put(root, "/proc/sys/kernel/random/boot_id", "boot-two\n")
    put(root, "/proc/cmdline", "coherent_pool=1M " + (root / CMDLINE).read_text())
    put(root, "/sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory pids\n")
    assert not command_line(root)


def test_a_reboot_that_did_not_help_is_an_error_and_no_second_reboot(root: Path) -> None:
    pi(root)
    assert command_line(root)
    put(root, "/proc/sys/kernel/random/boot_id", "boot-two\n")
    with pytest.raises(TuningError, match="HOST_TUNING_005"):
        command_line(root)
    put(root, "/proc/cmdline", (root / CMDLINE).read_text())
    with pytest.raises(TuningError, match="HOST_TUNING_004"):
        command_line(root)


def test_the_command_line_is_put_back(root: Path) -> None:
    pi(root, line="console=tty1 cgroup_enable=memory")
    command_line(root)
    run = context(root)
    assert parts.undo_cmdline(run)
    parts.undo_files(run)
    assert (root / CMDLINE).read_text() == "console=tty1 cgroup_enable=memory\n"  # what was there before stays


def test_other_boards_are_left_alone_and_a_pi_without_the_file_is_an_error(root: Path) -> None:
    assert not command_line(root)
    put(root, "/proc/device-tree/model", "Raspberry Pi 5\0")
    with pytest.raises(TuningError, match="HOST_TUNING_003"):
        command_line(root)


def test_swap_in_fstab_is_quiet_and_comes_back(root: Path) -> None:
    put(root, "/etc/fstab", "/dev/root / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n#/old none swap sw 0 0\n")
    put(root, "/proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n")
    run = context(root)
    parts.apply_swap(run, "off", 10)
    assert "#skerry# /swapfile none swap sw 0 0\n" in (root / "etc/fstab").read_text()
    assert "vm.swappiness = 10" in (root / parts.SWAPPINESS_FILE.lstrip("/")).read_text()
    parts.undo_files(run)
    assert (root / "etc/fstab").read_text().splitlines()[1] == "/swapfile none swap sw 0 0"
    assert not (root / parts.SWAPPINESS_FILE.lstrip("/")).exists()


def test_swap_that_cannot_be_ended_is_an_error(root: Path) -> None:
    put(root, "/proc/swaps", "Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    with pytest.raises(TuningError, match="HOST_TUNING_002"):
        parts.apply_swap(context(root), "off", None)


def test_swap_of_a_container_is_its_machines(root: Path) -> None:
    put(root, "/run/systemd/container", "lxc\n")
    run = context(root)
    parts.apply_swap(run, "off", 10)
    assert run.changes == [] and run.notes == ["swap belongs to the machine around this container"]


def test_modules_that_are_absent_are_noted_and_built_in_ones_are_not(root: Path) -> None:
    put(root, "/sys/module/nf_conntrack/parameters/hashsize", "1024\n")
    put(root, "/boot/config-6.1.0-test", "CONFIG_BRIDGE_NETFILTER=y\n")
    run = context(root)
    parts.apply_modules(run, ["overlay", "br_netfilter", "nf_conntrack", "vxlan"])
    assert run.notes == ["kernel module vxlan is not available"]
    text = (root / parts.MODULES_FILE.lstrip("/")).read_text()
    assert text.splitlines()[1:] == ["overlay", "br_netfilter", "nf_conntrack", "vxlan"]


def test_a_damaged_journal_stops_the_run(root: Path) -> None:
    put(root, JOURNAL, "{")
    with pytest.raises(TuningError, match=r"HOST_TUNING_001 .* \| remedy: "):
        context(root)


def test_our_block_leaves_a_shared_file_and_the_rest_stays(root: Path) -> None:
    put(root, "/etc/chrony.conf", "pool site.example.org\n")
    run = context(root)
    parts._time_servers(run, "chronyd", ["192.0.2.3", "192.0.2.4"])
    assert (root / "etc/chrony.conf").read_text().count("server 192.0.2.") == 2
    with (root / "etc/chrony.conf").open("a") as stream:
        stream.write("makestep 1 3\n")
    parts.undo_files(run)
    assert (root / "etc/chrony.conf").read_text() == "pool site.example.org\nmakestep 1 3\n"


def test_nftables_gets_chains_of_our_own_and_no_flush() -> None:
    script = firewall.nft_script(CHAINS, OPENINGS)
    assert "flush" not in script
    assert "add rule inet filter skerry_input ip saddr { 192.0.2.1 } tcp dport { 6443, 2379-2380 } accept\n" in script
    assert (
        "add rule inet filter skerry_input ip6 saddr { 2001:db8::1 } tcp dport { 6443, 2379-2380 } accept\n" in script
    )
    assert "add rule inet filter skerry_forward ip daddr { 10.42.0.0/16 } accept\n" in script
    assert "tcp" not in script.partition("skerry_forward")[2]
    assert script.count("insert rule") == 2


def test_everybody_as_source_needs_no_set_and_ipv6_is_left_out_of_ip_tables() -> None:
    opening = [{"sources": ["0.0.0.0/0", "::/0"], "proto": "tcp", "ports": ["443"]}]
    assert firewall.nft_statements("ip", "input", opening) == ["meta nfproto ipv4 tcp dport { 443 } accept"]
    assert len(firewall.nft_statements("inet", "input", opening)) == 2


def test_our_own_rules_are_removed_by_handle_jumps_first() -> None:
    items: list[dict[str, Any]] = [
        {"chain": {"family": "inet", "table": "filter", "name": "skerry_input", "handle": 4}},
        {"rule": {"family": "inet", "table": "filter", "chain": "skerry_input", "handle": 5, "expr": []}},
        {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 6, "comment": "skerry:0123"}},
        {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 7, "comment": "the site's"}},
    ]
    assert firewall._removal(items) == [
        "delete rule inet filter input handle 6",
        "delete rule inet filter skerry_input handle 5",
        "delete chain inet filter skerry_input",
    ]


def test_rules_for_ufw_and_firewalld() -> None:
    assert firewall.ufw_rules(OPENINGS)[0] == {
        "from": "192.0.2.1",
        "port": "6443,2379:2380",
        "proto": "tcp",
        "route": False,
    }
    assert [rule["route"] for rule in firewall.ufw_rules(OPENINGS)] == [False, False, False, True]
    rules = firewall.firewalld_rules(OPENINGS, "public")
    assert (
        rules[0]["rich_rule"] == 'rule family="ipv4" source address="192.0.2.1" port port="6443" protocol="tcp" accept'
    )
    assert rules[-1] == {"zone": "trusted", "source": "10.42.0.0/16", "rich_rule": ""}


SHOWN = """Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp
ufw allow from 192.0.2.1 to any port 6443,2379:2380 proto tcp comment 'skerry'
ufw allow from 10.42.0.0/16 comment 'skerry'
ufw route allow from 10.42.0.0/16 comment 'skerry'
"""


def test_only_missing_rules_are_added_and_only_our_stale_ones_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = context(root)
    monkeypatch.setattr(run.host, "run", lambda *_argv, **_more: (0, SHOWN, ""))
    found = {"kind": "ufw", "chains": []}
    plan = firewall.plan(run, found, OPENINGS)
    assert [rule["from"] for rule in plan["add"]] == ["2001:db8::1"]
    assert run.journal["firewall"]["ufw"] == plan["add"]  # what the site had opened itself is none of ours
    run.journal["firewall"]["ufw"] = firewall.ufw_rules(OPENINGS)
    plan = firewall.plan(run, found, OPENINGS[1:])
    assert [(rule["from"], rule["port"]) for rule in plan["remove"]] == [("192.0.2.1", "6443,2379:2380")]
    assert firewall.plan(run, found, OPENINGS[1:])["remove"] == plan["remove"]  # due until it is gone
