"""Rules on the hosts themselves: reachable, clock, disks, memory, resolvers."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from skerry.doctor.facts import Facts
from skerry.doctor.findings import Finding, short, some
from skerry.targets.look import Look

#: Seconds between two clocks from which on certificates and leases suffer.
SKEW = 5.0
#: File systems below this size are no place for data: full ones are as they should be.
SMALLEST = 4 << 20
#: File systems that must be writable.
WRITTEN = ("/", "/var", "/var/lib/rancher", "/var/lib/kubelet", "/var/lib/docker", "/var/log")


def unreachable(facts: Facts) -> Iterator[Finding]:
    """Hosts that did not answer over ssh."""
    lost = [look for look in facts.looks.values() if look.fault is not None]
    refused = [look for look in lost if look.fault and look.fault.code in ("TARGET_004", "TARGET_005", "TARGET_007")]
    gone = [look for look in lost if look not in refused]
    for look in refused:
        if look.fault:
            yield Finding(
                "CLUSTER_202",
                f"nobody can look at host {look.name}: {short(look.fault.cause)}",
                look.fault.remedy,
                look.name, facts.on(look.name, "true"), 0.45, (f"{look.fault.code}",),
            )  # fmt: skip
    if len(gone) == len(facts.looks) > 1:
        yield Finding(
            "CLUSTER_203",
            f"none of the {len(gone)} hosts can be reached from here",
            "look at this machine's own network, its VPN and the ssh settings of the inventory",
            "", facts.on("all", "true"), 0.8, tuple(short(look.fault.cause) for look in gone[:3] if look.fault),
            (*(("CLUSTER_201", look.name) for look in gone), ("CLUSTER_221", "*")),
        )  # fmt: skip
    for look in gone:
        yield _gone(facts, look)


def _gone(facts: Facts, look: Look) -> Finding:
    node = facts.node(look)
    silent = node is not None and node.ready != "True"
    server = "skerry_servers" in look.target.groups
    evidence = [short(look.fault.cause) if look.fault else ""]
    if node is not None:
        evidence.append(f"node {node.name}: Ready is {node.ready}")
    alive = node is not None and node.ready == "True"
    return Finding(
        "CLUSTER_201",
        f"host {look.name} does not answer" + (", and its node is not Ready: it is off, hangs, or is cut off" if silent
                                               else ", though its node is Ready: only ssh fails" if alive else ""),
        "look at its console and its link, start it; then skerry provision with --limit " + look.name,
        look.name, facts.on(look.name, "true"), 0.4 if alive else 0.93, tuple(evidence),
        (("CLUSTER_230", facts.node_of(look)), *((("CLUSTER_221", "*"), ("CLUSTER_209", "*")) if server else ()),
         ("CLUSTER_247", "*"), *facts.after_node(facts.node_of(look))),
    )  # fmt: skip


def disks(facts: Facts) -> Iterator[Finding]:
    """File systems that are full, or that cannot be written any more."""
    for look in facts.known():
        for disk in look.report.get("disks") or []:
            if disk["size"] < SMALLEST:
                continue
            path, used = disk["path"], disk["used_percent"]
            node = facts.node_of(look)
            follows = (("STORAGE_204", node), ("STORAGE_111", look.name), ("CLUSTER_204", look.name),
                       ("CLUSTER_205", look.name), ("CLUSTER_230", node), ("RUNTIME_205", "*"))  # fmt: skip
            if used >= 95 or (used >= 90 and disk["free"] < 200e6):
                yield Finding(
                    "STORAGE_201",
                    f"the file system {path} of host {look.name} is full: {disk['free'] / 1e6:.0f} MB free",
                    "make room: journalctl --vacuum-size=50M, k3s crictl rmi --prune, old files; or enlarge it",
                    look.name, facts.on(look.name, f"df -h {path}"), 0.96 if used >= 98 else 0.85,
                    (f"{used:.1f} % of {disk['size'] / 1e6:.0f} MB in use",), follows,
                )  # fmt: skip
            elif disk["inodes"] and disk["inodes_free"] / disk["inodes"] < 0.02:
                yield Finding(
                    "STORAGE_202",
                    f"the file system {path} of host {look.name} has no inodes left",
                    "remove what has very many small files (old containers, logs); df -i shows the file system",
                    look.name, facts.on(look.name, f"df -i {path}"), 0.93,
                    (f"{disk['inodes_free']} of {disk['inodes']} inodes free",), follows,
                )  # fmt: skip
            elif disk["read_only"] and disk["type"] != "tmpfs" and path in WRITTEN:
                yield Finding(
                    "STORAGE_203",
                    f"the file system {path} of host {look.name} is read-only",
                    "look for disk errors (dmesg), check the disk, then mount it for writing again or replace it",
                    look.name, facts.on(look.name, "dmesg --level=err,warn"), 0.94, (f"{path} is mounted ro",), follows,
                )  # fmt: skip


def clocks(facts: Facts) -> Iterator[Finding]:
    """Clocks that differ: from this machine's, which may itself be the wrong one."""
    skews = {look.name: look.skew for look in facts.known() if look.skew is not None}
    off = {name: skew for name, skew in skews.items() if abs(skew) >= SKEW}
    follows = (("CLUSTER_215", "*"), ("CLUSTER_218", "*"), ("CLUSTER_217", "*"), ("CLUSTER_110", "*"))
    if len(off) == len(skews) >= 2 and max(off.values()) - min(off.values()) < SKEW:
        common = median(off.values())
        yield Finding(
            "CLUSTER_210",
            f"this machine's clock is {abs(common):.0f} s {'behind' if common > 0 else 'ahead of'} that of all hosts",
            "set this machine's clock (timedatectl set-ntp true)",
            "", "timedatectl", 0.9, (f"all {len(off)} hosts agree with one another",), follows,
        )  # fmt: skip
        return
    for name, skew in off.items():
        look = facts.looks[name]
        node = facts.node_of(look)
        synchronised = look.part("clock").get("synchronised")
        yield Finding(
            "CLUSTER_211",
            f"the clock of host {name} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}",
            "let the role host_tuning set up time synchronisation (skerry provision), or: timedatectl set-ntp true",
            name, facts.on(name, "timedatectl"), 0.94 if abs(skew) > 60 else 0.75,
            (f"{skew:+.1f} s against this machine",
             "not synchronised" if synchronised is False else "says that it is synchronised"),
            (*follows, ("CLUSTER_230", node), ("CLUSTER_208", name), ("CLUSTER_205", name)),
        )  # fmt: skip


def memory(facts: Facts) -> Iterator[Finding]:
    """Hosts without memory."""
    for look in facts.known():
        found = look.part("memory")
        total, available = found.get("total", 0), found.get("available", 0)
        if total and available < max(32e6, total * 0.04):
            yield Finding(
                "CLUSTER_212",
                f"host {look.name} has {available / 1e6:.0f} MB of {total / 1e6:.0f} MB memory left",
                "move workloads to other hosts (requests and limits), or give it more memory",
                look.name, facts.on(look.name, "ps -eo pid,rss,comm --sort=-rss"), 0.8,
                (f"{100 * available / total:.0f} % available",),
                (("CLUSTER_231", facts.node_of(look)), ("RUNTIME_210", "*")),
            )  # fmt: skip


def resolvers(facts: Facts) -> Iterator[Finding]:
    """Hosts whose name servers do not answer."""
    for look in facts.known():
        found = look.part("resolvers")
        if "servers" not in found:
            continue
        servers = found["servers"]
        silent = {address: said for address, said in servers.items() if said != "answers"}
        follows = (("RUNTIME_204", "*"), ("CLUSTER_221", "*"), ("CLUSTER_209", look.name))
        if not servers:
            yield Finding(
                "CLUSTER_214",
                f"host {look.name} has no name server in {found['file']}",
                "name one there, or let the network's own configuration do it (systemd-resolved, DHCP)",
                look.name, facts.on(look.name, f"cat {found['file']}"), 0.85, (), follows,
            )  # fmt: skip
        elif len(silent) == len(servers):
            yield Finding(
                "CLUSTER_213",
                f"no name server of host {look.name} answers: {some(servers)}",
                f"correct {found['file']} or the network's own configuration, or start the name server",
                look.name, facts.on(look.name, "getent hosts example.org"), 0.92,
                tuple(f"{address}: {said}" for address, said in silent.items()), follows,
            )  # fmt: skip
        elif silent:
            yield Finding(
                "CLUSTER_213",
                f"a name server of host {look.name} does not answer: {some(silent)}",
                f"take it out of {found['file']}, or start it: every look-up waits for it first",
                look.name, facts.on(look.name, "getent hosts example.org"), 0.5,
                tuple(f"{address}: {said}" for address, said in silent.items()),
            )  # fmt: skip


RULES = (unreachable, disks, clocks, memory, resolvers)
