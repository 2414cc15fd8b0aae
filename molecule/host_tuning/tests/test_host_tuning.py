"""Host tuning as the role leaves it, and as it was before once it is undone."""

from __future__ import annotations

import json

import pytest
from shared_hosts import HOSTS, converge, on

JOURNAL = "/etc/skerry/host_tuning.json"
FILES = [
    "/etc/modules-load.d/90-skerry.conf",
    "/etc/modprobe.d/90-skerry.conf",
    "/etc/systemd/system.conf.d/90-skerry.conf",
    "/etc/security/limits.d/90-skerry.conf",
    "/etc/systemd/journald.conf.d/90-skerry.conf",
]


def journal(host):
    return json.loads(host.file(JOURNAL).content_string)


def facts(host):
    return json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)["host_tuning"]


def numbers(text):
    return [int(number) for number in text.split()]


def test_the_size_follows_the_memory_that_the_host_may_use(host, support):
    expected = {"cloud-1": "normal", "edge-1": "small", "edge-2": "small"}
    assert facts(host)["size"] == expected[host.backend.hostname]
    support.ran(host, "host_tuning", "settings raised, second run unchanged, undone")


def test_what_was_raised_is_in_force_recorded_and_never_lower_than_before(host):
    raised = journal(host)["sysctl"]
    assert raised["net.netfilter.nf_conntrack_tcp_timeout_close_wait"] == {"before": "60", "set": "3600"}
    in_file = dict(
        line.split(" = ") for line in host.file("/etc/sysctl.d/90-skerry.conf").content_string.splitlines()[1:]
    )
    for key, entry in raised.items():
        now = " ".join(host.file(f"/proc/sys/{key.replace('.', '/')}").content_string.split())
        assert in_file[key] == entry["set"]
        if key.startswith("net."):  # the others belong to the whole machine, where other hosts may raise them further
            assert now == entry["set"]
        if key not in (
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.ip_local_reserved_ports",
        ):
            assert all(after >= before for before, after in zip(numbers(entry["before"]), numbers(now), strict=True)), (
                key
            )


def test_a_setting_of_the_site_is_exact(host):
    assert host.file("/proc/sys/net/ipv4/tcp_keepalive_time").content_string.strip() == "600"


@pytest.mark.parametrize("name", FILES)
def test_files_are_there_and_recorded_as_new(host, name):
    assert host.file(name).mode == 0o644
    assert host.file(name).user == "root"
    assert journal(host)["files"][name] is None


def test_the_journal_is_bounded(host):
    shown = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=50M" in shown or "SystemMaxUse=100M" in shown
    assert "MaxRetentionSec=1month" in shown
    assert host.service("systemd-journald").is_running


def test_logins_still_work_and_services_get_the_limit(host):
    limits = host.file("/etc/security/limits.d/90-skerry.conf").content_string
    hard = int(limits.split("* hard nofile ")[1].split()[0])
    assert host.check_output("systemctl show --property DefaultLimitNOFILE --value") == str(hard)
    assert int(host.check_output("su - skerry -c 'ulimit -Hn'")) == hard


def test_nothing_is_started_that_belongs_to_the_machine(host):
    assert "chrony" not in host.check_output("systemctl list-units --no-legend --state running")


def test_undone_everything_is_as_before():
    """Packages that were noted as ours go too. Last, since the other tests want the host tuned."""
    before = {host: json.loads(on(host, f"cat {JOURNAL}"))["sysctl"] for host in HOSTS}
    on("edge-2", "apt-get -q -y install --no-install-recommends sl >/dev/null")
    on(
        "edge-2",
        f"""python3 - <<'END'
import json
journal = json.load(open("{JOURNAL}"))
journal["packages"] = ["sl"]
json.dump(journal, open("{JOURNAL}", "w"))
END""",
    )
    played = converge("host_tuning", host_tuning_state="absent")
    assert played.code == 0, played.output
    for host, raised in before.items():
        left = on(host, f"ls {JOURNAL} /etc/sysctl.d/90-skerry.conf {' '.join(FILES)} 2>/dev/null || true")
        assert left == "", f"{host} still has {left}"
        for key, entry in raised.items():
            if key.startswith("net."):
                now = " ".join(on(host, f"cat /proc/sys/{key.replace('.', '/')}").split())
                assert now == entry["before"], key
        assert "host_tuning" not in json.loads(on(host, "cat /etc/ansible/facts.d/skerry.fact 2>/dev/null || echo {}"))
    assert "not installed" in on("edge-2", "dpkg-query -W sl 2>/dev/null | grep . || echo not installed")
    again = converge("host_tuning", host_tuning_state="absent")
    assert [again.recap(host)["changed"] for host in HOSTS] == [0, 0, 0]
