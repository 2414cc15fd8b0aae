"""Preflight's checks of names, network, clock and of hosts against each other. Pure Python."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_model import (
    ERROR,
    WARNING,
    Problem,
    Report,
    cluster_check,
    host_check,
)

NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# Devices that k3s, Docker and CNI plugins make themselves; their routes are no conflict.
OWN_DEVICES = ("cni", "flannel", "kube-", "cali", "docker", "br-", "veth")
K3S_PROCESSES = {"k3s", "k3s-server", "k3s-agent", "kubelet", "containerd", "etcd"}


def _by_value(reports: list[Report], value: Any) -> Iterator[tuple[str, list[str]]]:
    """(value, hosts that share it), for values of more than one host."""
    holders: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        if report.probe and (found := value(report)):
            holders[found].append(report.name)
    yield from ((found, names) for found, names in holders.items() if len(names) > 1)


def _others(names: Iterable[str], name: str) -> str:
    return ", ".join(sorted(set(names) - {name}))


@host_check("PREFLIGHT_025", ERROR, "Name is no node name")
def node_name(report: Report) -> Iterator[Problem]:
    """Nodes are named after the host (or `k3s_node_name`): lower-case letters, digits, '-' and '.' (RFC 1123)."""
    name = report.settings["node_name"] or report.probe["identity"]["hostname"]
    if report.cluster and not NODE_NAME.fullmatch(name):
        yield Problem(
            f"'{name}' cannot be a node's name", "hostnamectl set-hostname with small letters, digits and '-'"
        )


@cluster_check("PREFLIGHT_026", ERROR, "Node name used twice")
def unique_names(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """Two nodes of one name replace each other in the cluster. Compared among the hosts of this run."""
    members = [report for report in reports if report.cluster]
    for name, hosts in _by_value(
        members, lambda report: report.settings["node_name"] or report.probe["identity"]["hostname"]
    ):
        for host in hosts:
            yield Problem(
                f"its name {name} is also that of {_others(hosts, host)}",
                "hostnamectl set-hostname to a name of its own, or set k3s_node_name",
                host=host,
            )


@cluster_check("PREFLIGHT_027", ERROR, "Machine-id used twice")
def unique_machine_ids(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """Copied disk images share /etc/machine-id: DHCP gives them one address, journald and the kubelet mix them up."""
    for _value, hosts in _by_value(reports, lambda report: report.probe["identity"]["machine_id"]):
        for host in hosts:
            yield Problem(
                f"same /etc/machine-id as {_others(hosts, host)}",
                "rm /etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup; reboot",
                host=host,
            )


@host_check("PREFLIGHT_028", ERROR, "Machine-id missing")
def machine_id(report: Report) -> Iterator[Problem]:
    """systemd makes /etc/machine-id at the first boot; images sometimes carry an empty one on a read-only root."""
    if not re.fullmatch(r"[0-9a-f]{32}", report.probe["identity"]["machine_id"]):
        yield Problem("/etc/machine-id is empty or no machine-id", "run systemd-machine-id-setup on the host")


@cluster_check("PREFLIGHT_029", ERROR, "Address used twice")
def unique_addresses(reports: list[Report], inventory: dict[str, Any]) -> Iterator[Problem]:
    """Two inventory names lead to one host. Compared over the whole inventory, also with --limit; the port counts,
    since hosts behind one forwarding address differ by it."""
    holders: dict[str, list[str]] = defaultdict(list)
    for host, address in inventory.get("addresses", {}).items():
        holders[address].append(host)
    present = {report.name for report in reports}
    for address, hosts in holders.items():
        for host in hosts if len(hosts) > 1 else []:
            if host in present:
                yield Problem(
                    f"its address {address} is also that of {_others(hosts, host)}", "correct ansible_host", host=host
                )


@cluster_check("PREFLIGHT_030", ERROR, "Even number of servers")
def odd_servers(reports: list[Report], inventory: dict[str, Any]) -> Iterator[Problem]:
    """Embedded etcd needs a majority: four servers bear the loss of one, as three do, and two bear none. Counted over
    the whole inventory. With an external datastore the number is free (`preflight_etcd: false`)."""
    servers = inventory.get("servers", [])
    if not servers or len(servers) % 2:
        return
    first = next((report for report in reports if report.name in servers), None)
    if first is not None and first.settings["etcd"]:
        yield Problem(
            f"{len(servers)} servers: {', '.join(servers)}", "use one, three or five servers", host=first.name
        )


@host_check("PREFLIGHT_031", ERROR, "Server out of reach")
def server_reach(report: Report) -> Iterator[Problem]:
    """Each node asks every server at its API port. A refusal is an answer (k3s is not there yet); silence on that port
    and on SSH's is a missing route or a wrong address."""
    for name, target in report.probe["network"]["reach"].items():
        states = set(target["ports"].values())
        if states.isdisjoint({"open", "refused"}):
            yield Problem(
                f"server {name} ({target['address']}) does not answer: {', '.join(sorted(states))}",
                f"correct the routes between them, or the address of {name} (k3s_node_ip, ansible_host)",
            )


@cluster_check("PREFLIGHT_032", ERROR, "Firewall before the server")
def server_filtered(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """The server answers on SSH's port, not on the API's: something drops packets on the way. When it is the server's
    own firewall, which host_tuning opens, this is a warning."""
    by_name = {report.name: report for report in reports}
    for report in reports:
        for name, target in report.probe["network"]["reach"].items() if report.probe else []:
            states = target["ports"]
            silent = sorted(port for port, state in states.items() if state not in ("open", "refused"))
            if not silent or len(silent) == len(states):
                continue
            own = _opened_later(by_name.get(name))
            yield Problem(
                f"port {', '.join(silent)} of server {name} ({target['address']}) is filtered",
                f"nothing to do: host_tuning opens {name}'s firewall"
                if own
                else f"open {', '.join(silent)}/tcp between the two on every firewall on the way",
                WARNING if own else ERROR,
                report.name,
            )


def _opened_later(server: Report | None) -> bool:
    """Whether host_tuning of this run opens the server's firewall."""
    return bool(
        server
        and server.probe
        and server.settings["firewall_managed"]
        and server.probe["network"]["firewall"]["kind"] in ("firewalld", "ufw", "nftables")
    )


@host_check("PREFLIGHT_033", ERROR, "Port taken")
def ports(report: Report) -> Iterator[Problem]:
    """Ports that k3s needs (`preflight_ports`), held by another program. k3s's own processes count as free."""
    for port, processes in sorted(report.probe["ports"].items()):
        if report.probe["others"]["k3s_running"] or (processes and set(processes) <= K3S_PROCESSES):
            continue
        owner = ", ".join(processes) or "an unknown process"
        yield Problem(f"port {port} is taken by {owner}", f"stop {owner} or move it to another port (ss -lnp shows it)")


@host_check("PREFLIGHT_034", ERROR, "Clock is wrong")
def clock_skew(report: Report) -> Iterator[Problem]:
    """The host's clock against the controller's, less the time that the answer took. Certificates are not valid yet,
    or no longer, on a host whose clock is off."""
    limit = report.settings["clock_skew_max_seconds"]
    if abs(report.skew) > limit:
        direction = "ahead of" if report.skew > 0 else "behind"
        yield Problem(
            f"the clock is {abs(report.skew):.0f} s {direction} the controller's, {limit} s are allowed",
            "chronyc makestep, or timedatectl set-ntp true and wait; a board without RTC needs a time server in reach",
        )


@host_check("PREFLIGHT_035", WARNING, "Nothing keeps the clock right")
def clock_service(report: Report) -> Iterator[Problem]:
    """No time service runs and the kernel's clock is not disciplined. Quiet in containers, whose clock is the
    machine's, and when host_tuning will take care."""
    clock = report.probe["clock"]
    if report.probe["system"]["container"] or report.settings["time_managed"]:
        return
    if not clock["services"] and clock["synchronised"] is False:
        yield Problem("no time service runs", "install chrony, or switch host_tuning's time part on")


@host_check("PREFLIGHT_036", ERROR, "Names of package servers do not resolve")
def package_names(report: Report) -> Iterator[Problem]:
    """The servers that the host's own package sources name. Not asked on an air-gapped site or with a proxy
    (`preflight_dns_package_sources`)."""
    asked = set(report.settings["dns_names"])
    yield from _unresolved(report, {name for name in report.probe["network"]["names"] if name not in asked})


@host_check("PREFLIGHT_044", WARNING, "Names of artifact servers do not resolve")
def artifact_names(report: Report) -> Iterator[Problem]:
    """Upstream's server or the mirror's (`preflight_dns_names`): what is not on the host yet cannot be fetched. Not
    asked when the mirror is a directory on the controller, with a proxy, or on an air-gapped site."""
    yield from _unresolved(report, set(report.settings["dns_names"]))


def _unresolved(report: Report, names: set[str]) -> Iterator[Problem]:
    network = report.probe["network"]
    reasons = [f"{name}: {reason}" for name, reason in sorted(network["names"].items()) if reason and name in names]
    if reasons:
        servers = ", ".join(network["nameservers"]) or "none"
        yield Problem(
            f"{'; '.join(reasons)} (nameservers: {servers})",
            "correct /etc/resolv.conf, or set skerry_mirror, skerry_airgap or a proxy if the site has no DNS",
        )


@host_check("PREFLIGHT_037", ERROR, "No default route")
def default_route(report: Report) -> Iterator[Problem]:
    """k3s takes the address of the interface with the default route, and does not start without one."""
    if report.cluster and not any(not route["bits"] for route in report.probe["network"]["routes"]):
        yield Problem(
            "no default route", "add one, on an isolated network to any address (ip route add default via ...)"
        )


@host_check("PREFLIGHT_038", ERROR, "Route overlaps the cluster's networks")
def overlapping_routes(report: Report) -> Iterator[Problem]:
    """A route of the site inside the pod or service network makes hosts or pods unreachable."""
    if not report.cluster:
        return
    for cidr in report.settings["cluster_networks"]:
        mine = ipaddress.ip_network(cidr, strict=False)
        for route in report.probe["network"]["routes"]:
            theirs = ipaddress.ip_network(f"{route['network']}/{route['bits']}", strict=False)
            if route["bits"] and mine.version == 4 and mine.overlaps(theirs) and not _own(route):
                yield Problem(
                    f"its route {theirs} ({route['device']}) lies in the cluster's network {cidr}",
                    "choose other networks: k3s_cluster_cidr, k3s_service_cidr",
                )


def _own(route: dict[str, Any]) -> bool:
    """Whether k3s itself made the route: by a device of its own, or (backend host-gw) to another node's pods."""
    return route["device"].startswith(OWN_DEVICES) or (route["bits"] == 24 and route["gateway"] != "0.0.0.0")


@host_check("PREFLIGHT_039", WARNING, "iptables with a known bug")
def iptables(report: Report) -> Iterator[Problem]:
    """iptables 1.8.0 to 1.8.4 in nft mode adds rules twice."""
    found = report.probe["network"]["iptables"]
    if report.cluster and found["mode"] == "nf_tables" and re.fullmatch(r"1\.8\.[0-4]", found["version"]):
        yield Problem(
            f"iptables {found['version']} in nft mode adds rules twice",
            "set k3s's prefer-bundled-bin, or upgrade iptables",
        )


@host_check("PREFLIGHT_040", ERROR, "nm-cloud-setup is on")
def nm_cloud_setup(report: Report) -> Iterator[Problem]:
    """On cloud images of EL it adds routes that cut pods off."""
    if report.cluster and report.probe["others"]["nm_cloud_setup"]:
        yield Problem(
            "nm-cloud-setup is on", "systemctl disable --now nm-cloud-setup.service nm-cloud-setup.timer; reboot"
        )


@host_check("PREFLIGHT_041", WARNING, "Firewall that nobody opens")
def firewall(report: Report) -> Iterator[Problem]:
    """A firewall is active, and host_tuning is told to leave firewalls alone or cannot open this kind (plain iptables
    rules)."""
    kind = report.probe["network"]["firewall"]["kind"]
    if report.cluster and kind and (kind == "iptables" or not report.settings["firewall_managed"]):
        yield Problem(
            f"{kind} is active and will not be opened",
            "open 6443/tcp (servers), 10250/tcp and 8472/udp between the nodes; docs/host-tuning.md lists all",
        )


@host_check("PREFLIGHT_042", ERROR, "Embedded etcd on an SD card")
def etcd_storage(report: Report) -> Iterator[Problem]:
    """etcd writes with every change and waits for the disk; SD cards and eMMC are too slow for several servers and
    wear out."""
    if (
        report.role == "server"
        and report.settings["etcd"]
        and any(report.probe["storage"][path]["sd_card"] for path in report.settings["data_paths"])
    ):
        yield Problem(
            "embedded etcd on an SD card or eMMC", "mount an SSD on the data directory, or use one server (SQLite)"
        )


@host_check("PREFLIGHT_043", ERROR, "Embedded etcd on 32 bits")
def etcd_architecture(report: Report) -> Iterator[Problem]:
    """Embedded etcd is not supported on 32-bit ARM: use such boards as agents."""
    if report.role == "server" and report.settings["etcd"] and report.probe["system"]["machine"] == "armv7l":
        yield Problem("embedded etcd on 32-bit ARM", "make the host an agent (group skerry_agents)")
