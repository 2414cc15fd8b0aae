"""Every check of preflight fails when it should, on a real host's probe that was changed in one place, and else not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight import documentation, evaluate, summary, table
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_host import k3s_minor
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_model import CHECKS, Finding, Report
from unit.hosts.trees import DOCKER, K3S, settings

ROOT = Path(__file__).resolve().parents[3]
PROBE = json.loads((Path(__file__).parent / "data/probe_debian13.json").read_text())
MB = 1024 * 1024


class Case:
    """Builds the report of one host by changing single places of the real probe and of the settings."""

    def __init__(self) -> None:
        self.probe = copy.deepcopy(PROBE)
        self.settings = settings()
        self.fields: dict[str, Any] = {"name": "one", "role": "server"}

    def at(self, path: str, value: Any) -> Case:
        """Set ``value`` at a '.'-separated path of the probe."""
        *parents, last = path.split(".")
        place = self.probe
        for parent in parents:
            place = place[parent]
        assert last in place or parents[-1:] in (["names"], ["ports"], ["reach"]), f"the probe has no {path}"
        place[last] = value
        return self

    def wish(self, **changes: Any) -> Case:
        """Change settings."""
        assert set(changes) <= set(self.settings)
        self.settings.update(changes)
        return self

    def such(self, **fields: Any) -> Case:
        """Change fields of the report itself."""
        self.fields.update(fields)
        return self

    def report(self) -> Report:
        """The report; settings follow the role."""
        return Report(settings={**self.settings, "role": self.fields["role"]}, probe=self.probe, **self.fields)


def codes(*reports: Report, **inventory: Any) -> dict[str, str]:
    """{code: severity} of all findings."""
    return {finding.code: finding.severity for finding in evaluate(list(reports), inventory)}


def storage(path: str, **changes: Any) -> Callable[[Case], Case]:
    """Change the state of one path's file system."""

    def change(case: Case) -> Case:
        case.probe["storage"][path].update(changes)
        return case

    return change


def reach(**ports: str) -> Callable[[Case], Case]:
    """What the host's questions to a server gave, by port."""

    def change(case: Case) -> Case:
        states = {port.removeprefix("p"): state for port, state in ports.items()}
        case.probe["network"]["reach"] = {"srv": {"address": "192.0.2.9", "ports": states}}
        return case

    return change


def route(network: str, bits: int, device: str, gateway: str = "0.0.0.0") -> Callable[[Case], Case]:
    """One more route."""

    def change(case: Case) -> Case:
        case.probe["network"]["routes"].append({"network": network, "bits": bits, "device": device, "gateway": gateway})
        return case

    return change


def raspberry(case: Case) -> Case:
    """A board of 64 bits."""
    return case.at("system.machine", "aarch64").at("system.userland", "arm64")


ONE_HOST: list[tuple[str, str, Callable[[Case], Case]]] = [
    ("PREFLIGHT_001", "error", lambda c: c.such(unreachable="ssh: Connection refused", probe={})),
    ("PREFLIGHT_002", "error", lambda c: c.such(python_missing="no Python found", probe={})),
    ("PREFLIGHT_002", "warning", lambda c: c.such(python_missing="no Python found", would_install="apt-get", probe={})),
    ("PREFLIGHT_003", "error", lambda c: c.such(no_root="Missing sudo password")),
    ("PREFLIGHT_004", "error", lambda c: c.such(failure="MemoryError", probe={})),
    ("PREFLIGHT_005", "error", lambda c: c.at("system.version", "10")),
    (
        "PREFLIGHT_005",
        "error",
        lambda c: c.at("system.id", "rocky").at("system.like", ["rhel"]).at("system.version", "8.10"),
    ),
    ("PREFLIGHT_005", "warning", lambda c: c.at("system.id", "void")),
    ("PREFLIGHT_005", "error", lambda c: c.at("others.transactional", True)),
    ("PREFLIGHT_006", "error", lambda c: c.at("system.machine", "armv6l")),
    ("PREFLIGHT_006", "warning", lambda c: c.at("system.machine", "armv7l").at("system.userland", "armhf")),
    ("PREFLIGHT_007", "warning", lambda c: c.at("system.machine", "aarch64").at("system.userland", "armhf")),
    ("PREFLIGHT_008", "error", lambda c: c.at("memory.effective", 899 * MB)),
    ("PREFLIGHT_009", "warning", lambda c: c.at("memory.effective", 1799 * MB)),
    ("PREFLIGHT_010", "error", storage(K3S, free=1499 * MB)),
    ("PREFLIGHT_010", "error", storage(K3S, free_inodes=19999)),
    ("PREFLIGHT_011", "warning", storage(DOCKER, free=2200 * MB, size=100000 * MB)),
    ("PREFLIGHT_012", "error", storage(K3S, type="nfs4")),
    ("PREFLIGHT_012", "error", storage(DOCKER, type="overlay")),
    ("PREFLIGHT_012", "error", storage(DOCKER, read_only=True)),
    ("PREFLIGHT_012", "warning", storage(K3S, type="zfs")),
    ("PREFLIGHT_013", "error", lambda c: c.wish(k3s_version="v1.35.0+k3s3")),
    ("PREFLIGHT_013", "warning", lambda c: c.wish(k3s_version="v1.36.5+k3s1", allow_cgroup_v1=True)),
    ("PREFLIGHT_014", "error", lambda c: c.at("cgroup.controllers", ["cpu", "cpuset", "pids"])),
    (
        "PREFLIGHT_014",
        "warning",
        lambda c: c.at("cgroup.controllers", ["cpu", "cpuset", "pids"]).at(
            "system.board", "Raspberry Pi 4 Model B Rev 1.4"
        ),
    ),
    ("PREFLIGHT_015", "error", lambda c: c.at("kernel.states.vxlan", "no")),
    ("PREFLIGHT_016", "warning", lambda c: c.at("kernel.states.ip-set", "no")),
    ("PREFLIGHT_017", "error", lambda c: c.at("system.init", "busybox")),
    ("PREFLIGHT_018", "error", lambda c: c.at("others.kmsg", False)),
    ("PREFLIGHT_019", "error", lambda c: c.at("others.docker_snap", True)),
    ("PREFLIGHT_019", "error", lambda c: c.at("others.microk8s", True)),
    ("PREFLIGHT_019", "error", lambda c: c.at("others.rke2", True)),
    ("PREFLIGHT_019", "error", lambda c: c.at("others.kubelet", True)),
    ("PREFLIGHT_019", "error", lambda c: c.at("others.k3s_script", True)),
    ("PREFLIGHT_020", "error", lambda c: c.at("security.selinux", "enforcing")),
    ("PREFLIGHT_021", "warning", lambda c: c.at("security.apparmor", True).at("security.apparmor_parser", False)),
    (
        "PREFLIGHT_021",
        "error",
        lambda c: c.at("security.apparmor", True).at("security.apparmor_parser", False).at("system.container", ""),
    ),
    ("PREFLIGHT_022", "warning", lambda c: c.at("others.root_maxkeys", 10000).wish(sysctl_managed=False)),
    ("PREFLIGHT_023", "warning", lambda c: c.at("cpu.flags", ["fpu"])),
    ("PREFLIGHT_024", "warning", lambda c: c.at("cpu.cores", 1)),
    ("PREFLIGHT_025", "error", lambda c: c.at("identity.hostname", "Edge_1")),
    ("PREFLIGHT_028", "error", lambda c: c.at("identity.machine_id", "uninitialized")),
    ("PREFLIGHT_031", "error", reach(p6443="timeout", p22="unreachable")),
    ("PREFLIGHT_032", "error", reach(p6443="timeout", p22="open")),
    ("PREFLIGHT_033", "error", lambda c: c.at("ports.6443/tcp", ["nginx"])),
    ("PREFLIGHT_033", "error", lambda c: c.at("ports.6443/tcp", [])),
    ("PREFLIGHT_034", "error", lambda c: c.such(skew=-31.0)),
    ("PREFLIGHT_034", "error", lambda c: c.such(skew=86400.0)),
    ("PREFLIGHT_035", "warning", lambda c: c.at("system.container", "").wish(time_managed=False)),
    ("PREFLIGHT_036", "error", lambda c: named(c, "packages.example.org")),
    ("PREFLIGHT_037", "error", lambda c: c.at("network.routes", [])),
    ("PREFLIGHT_038", "error", route("10.42.7.0", 24, "eth1")),
    ("PREFLIGHT_038", "error", route("10.43.128.0", 20, "wg0", "192.0.2.1")),
    ("PREFLIGHT_039", "warning", lambda c: c.at("network.iptables.version", "1.8.2")),
    ("PREFLIGHT_040", "error", lambda c: c.at("others.nm_cloud_setup", True)),
    ("PREFLIGHT_041", "warning", lambda c: c.at("network.firewall.kind", "ufw").wish(firewall_managed=False)),
    ("PREFLIGHT_041", "warning", lambda c: c.at("network.firewall.kind", "iptables")),
    ("PREFLIGHT_042", "error", lambda c: storage(K3S, sd_card=True)(c).wish(etcd=True)),
    ("PREFLIGHT_043", "error", lambda c: c.at("system.machine", "armv7l").wish(etcd=True)),
    ("PREFLIGHT_044", "warning", lambda c: named(c, "mirror.example.org")),
    ("PREFLIGHT_051", "error", lambda c: c.wish(broker="named").at("broker.sse4_2", False)),
    ("PREFLIGHT_051", "error", lambda c: raspberry(c.wish(broker="named")).at("broker.address_bits", 39)),
    ("PREFLIGHT_051", "error", lambda c: c.wish(broker="named", broker_memory_min_mb=1 << 20)),
    (
        "PREFLIGHT_052",
        "error",
        lambda c: c.wish(broker="named", sysctl_managed=False).at("broker.aio_max", 65536).at("broker.aio_used", 64000),
    ),
    ("PREFLIGHT_053", "warning", lambda c: c.wish(broker="possible").at("broker.sse4_2", False)),
]


def named(case: Case, name: str) -> Case:
    """A name that does not resolve."""
    case.probe["network"]["names"][name] = "Name or service not known"
    return case


@pytest.mark.parametrize(
    ("code", "severity", "change"), ONE_HOST, ids=[f"{row[0]}-{number}" for number, row in enumerate(ONE_HOST)]
)
def test_each_check_of_one_host_fails(code: str, severity: str, change: Callable[[Case], Case]) -> None:
    case = change(Case())
    fields = case.fields
    if "probe" in fields:
        case.probe = fields.pop("probe")
    found = evaluate([case.report()], {"servers": ["one"], "addresses": {"one": "192.0.2.1:22"}})
    assert [finding.severity for finding in found if finding.code == code] == [severity]
    assert all(finding.cause and finding.remedy and "\n" not in finding.message() for finding in found)


def test_a_real_host_has_no_finding() -> None:
    assert codes(Case().report(), servers=["one"], addresses={"one": "192.0.2.1:22"}) == {}


def pair(second: str = "two") -> tuple[Case, Case]:
    """Two hosts that differ in what must differ."""
    one, two = Case(), Case().such(name=second, role="agent")
    two.at("identity.hostname", second).at("identity.machine_id", "0" * 31 + "2")
    return one, two


def test_checks_across_hosts_fail_for_each_host_involved() -> None:
    one, two = pair()
    assert codes(one.report(), two.report(), servers=["one"], addresses={"one": "a:22", "two": "b:22"}) == {}
    two.at("identity.hostname", PROBE["identity"]["hostname"]).at(
        "identity.machine_id", PROBE["identity"]["machine_id"]
    )
    found = evaluate([one.report(), two.report()], {"servers": ["one"], "addresses": {"one": "a:22", "two": "a:22"}})
    assert [(finding.host, finding.code) for finding in found] == [
        (host, code) for host in ("one", "two") for code in ("PREFLIGHT_026", "PREFLIGHT_027", "PREFLIGHT_029")
    ]


def test_an_address_is_compared_with_hosts_outside_of_the_limit() -> None:
    found = evaluate([Case().report()], {"servers": ["one"], "addresses": {"one": "a:22", "far": "a:22"}})
    assert [(finding.host, finding.code) for finding in found] == [("one", "PREFLIGHT_029")]


def test_an_even_number_of_servers_is_an_error_only_with_etcd() -> None:
    servers = {"servers": ["one", "two"]}
    assert codes(Case().wish(etcd=True).report(), **servers) == {"PREFLIGHT_030": "error"}
    assert codes(Case().report(), **servers) == {}
    assert codes(Case().wish(etcd=True).report(), servers=["one", "two", "three"]) == {}


def test_a_filtered_port_is_a_warning_when_host_tuning_opens_the_servers_own_firewall() -> None:
    server = Case().such(name="srv").at("network.firewall.kind", "ufw")
    agent = reach(p6443="timeout", p22="open")(pair()[1])
    assert codes(server.report(), agent.report()) == {"PREFLIGHT_032": "warning"}
    server.at("network.firewall.kind", "iptables")
    assert codes(server.report(), agent.report())["PREFLIGHT_032"] == "error"


def test_needs_on_one_file_system_are_added_up_and_fall_once_installed() -> None:
    case = storage(DOCKER, free=2000 * MB)(storage(K3S, free=2000 * MB)(Case()))
    found = evaluate([case.report()], {})
    assert [finding.code for finding in found] == ["PREFLIGHT_010", "PREFLIGHT_011"]
    assert "2100 MB needed" in found[0].cause
    case.at("others.installed", ["k3s", "docker"])
    assert "PREFLIGHT_010" not in codes(case.report())


def test_a_plain_host_is_spared_what_only_nodes_need() -> None:
    case = Case().such(role="plain").at("others.kmsg", False).at("others.microk8s", True).at("network.routes", [])
    case.wish(k3s_version="v1.36.5+k3s1").at("identity.hostname", "Edge_1")
    assert codes(case.report()) == {}


def test_only_hosts_that_are_to_carry_a_broker_must_be_able_to() -> None:
    weak = Case().at("broker.sse4_2", False)
    assert codes(weak.report()) == {}
    assert codes(raspberry(Case().wish(broker="named")).at("broker.address_bits", 48).report()) == {}
    assert codes(raspberry(Case().wish(broker="named")).at("broker.address_bits", 0).report()) == {}
    first = weak.wish(broker="possible").such(name="weak").at("identity.machine_id", "1" * 32)
    first.at("identity.hostname", "weak")
    second = Case().wish(broker="possible").such(name="strong", role="agent")
    assert codes(first.report(), second.report()) == {}
    assert codes(Case().wish(broker="named").at("broker.aio_max", 65536).report()) == {}  # host_tuning raises it


def test_k3s_itself_may_hold_its_ports() -> None:
    assert codes(Case().at("ports.6443/tcp", ["k3s-server"]).report()) == {}
    assert codes(Case().at("ports.6443/tcp", []).at("others.k3s_running", True).report()) == {}
    assert codes(Case().at("ports.6443/tcp", ["k3s-server", "nginx"]).report()) == {"PREFLIGHT_033": "error"}


def test_k3s_routes_are_no_overlap() -> None:
    for device, gateway in (("cni0", "0.0.0.0"), ("flannel.1", "10.42.1.0"), ("eth0", "192.0.2.7")):
        assert codes(route("10.42.1.0", 24, device, gateway)(Case()).report()) == {}


def test_codes_are_skipped_and_softened_by_settings() -> None:
    case = Case().at("memory.effective", 100 * MB)
    assert codes(case.report()) == {"PREFLIGHT_008": "error"}
    assert codes(case.wish(warn=["PREFLIGHT_008"]).report()) == {"PREFLIGHT_008": "warning"}
    assert codes(case.wish(skip=["PREFLIGHT_008"]).report()) == {}


def test_root_without_sudo_is_told_to_do_without_become() -> None:
    found = evaluate([Case().such(no_root="sudo: not found").report()], {})
    assert "ansible_become: false" in found[0].remedy


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("skerry@192.0.2.1: Permission denied (publickey).", "authorized_keys"),
        ("Host key verification failed.", "known_hosts"),
        ("ssh: Could not resolve hostname nowhere: Name or service not known", "ansible_host"),
        ("connect to host 192.0.2.1 port 22: Connection timed out", "switch the host on"),
        ("connect to host 192.0.2.1 port 22: Connection refused", "sshd"),
        ("something new", "by hand"),
    ],
)
def test_what_ssh_says_leads_to_a_remedy(reason: str, word: str) -> None:
    found = evaluate([Report(name="one", settings=settings(), unreachable=reason)], {})
    assert (found[0].code, word in found[0].remedy) == ("PREFLIGHT_001", True)


@pytest.mark.parametrize(
    ("system", "kernel", "word"),
    [
        (
            {"id": "almalinux", "like": ["rhel", "centos", "fedora"], "version": "10.0"},
            "6.12.0-55.el10",
            "kernel-modules-extra-6.12.0-55.el10",
        ),
        ({"id": "ol", "like": ["fedora"], "version": "10.0"}, "6.12.0-100.uek", "kernel-uek-modules-extra"),
        ({"id": "ubuntu", "like": ["debian"], "version": "23.10"}, "6.5.0-1005-raspi", "linux-modules-extra-raspi"),
        (
            {"id": "ubuntu", "like": ["debian"], "version": "24.04"},
            "6.8.0-31-generic",
            "linux-modules-extra-6.8.0-31-generic",
        ),
        ({"id": "opensuse-leap", "like": ["suse", "opensuse"], "version": "15.6"}, "6.4.0-default", "own kernel"),
    ],
)
def test_missing_kernel_features_lead_to_the_distributions_package(
    system: dict[str, Any], kernel: str, word: str
) -> None:
    case = Case().at("kernel.states.vxlan", "no").at("system.kernel", kernel)
    case.probe["system"].update(system)
    found = evaluate([case.report()], {})
    assert [finding.code for finding in found] == ["PREFLIGHT_015"]
    assert word in found[0].remedy


def test_every_code_has_a_test_here_and_stands_in_the_documentation() -> None:
    tested = {code for code, *_ in ONE_HOST} | {f"PREFLIGHT_0{number}" for number in (26, 27, 29, 30)}
    assert tested == set(CHECKS)
    assert documentation() in (ROOT / "docs/preflight.md").read_text()


def test_the_table_shows_everything_and_joins_equal_findings() -> None:
    findings = [
        Finding("PREFLIGHT_034", "warning", f"edge-{number}", "the clock is off", "set it") for number in range(100)
    ]
    findings.append(Finding("PREFLIGHT_010", "error", "edge-7", "10 MB free on /", "free space " * 20))
    shown = table(findings, 200, 100)
    assert summary(findings, 200) == "1 error and 100 warnings on 100 of 200 hosts"
    assert shown.index("PREFLIGHT_010") < shown.index("PREFLIGHT_034")
    assert shown.count("the clock is off") == 1
    assert "and 60 more" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert " ".join(shown.split()).count("free space") == 20


@pytest.mark.parametrize(("version", "minor"), [("v1.35.0+k3s3", 35), ("1.9.1", 9), ("stable", 999), ("", 999)])
def test_the_minor_version_of_k3s(version: str, minor: int) -> None:
    assert k3s_minor(version) == minor
