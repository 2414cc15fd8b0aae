"""Which kernel features a host has: by the kernel's configuration, its module files, and, last, by trying.

Sources: k3s's check-config script (contrib/util/check-config.sh) for the lists. Runs on the hosts, Python 3.8 or later.
"""

from __future__ import annotations

import gzip
import re
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.host import Host

# name: (options of which one is enough, modules of which one is enough)
FEATURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "namespaces": (("NET_NS",), ()),
    "pid-namespaces": (("PID_NS",), ()),
    "ipc-namespaces": (("IPC_NS",), ()),
    "uts-namespaces": (("UTS_NS",), ()),
    "cgroup-pids": (("CGROUP_PIDS",), ()),
    "cgroup-cpuacct": (("CGROUP_CPUACCT",), ()),
    "cgroup-device": (("CGROUP_DEVICE",), ()),
    "cgroup-freezer": (("CGROUP_FREEZER",), ()),
    "cgroup-sched": (("CGROUP_SCHED",), ()),
    "cpusets": (("CPUSETS",), ()),
    "memcg": (("MEMCG",), ()),
    "seccomp": (("SECCOMP",), ()),
    "keys": (("KEYS",), ()),
    "posix-mqueue": (("POSIX_MQUEUE",), ()),
    "overlay": (("OVERLAY_FS",), ("overlay",)),
    "bridge": (("BRIDGE",), ("bridge",)),
    "bridge-netfilter": (("BRIDGE_NETFILTER",), ("br_netfilter",)),
    "veth": (("VETH",), ("veth",)),
    "vxlan": (("VXLAN",), ("vxlan",)),
    "wireguard": (("WIREGUARD",), ("wireguard",)),
    "conntrack": (("NF_CONNTRACK",), ("nf_conntrack",)),
    "filter": (("IP_NF_FILTER", "NFT_COMPAT"), ("iptable_filter", "nft_compat")),
    "nat": (("IP_NF_NAT", "NFT_NAT"), ("iptable_nat", "nft_chain_nat", "nft_nat")),
    "masquerade": (
        ("NETFILTER_XT_TARGET_MASQUERADE", "IP_NF_TARGET_MASQUERADE", "NFT_MASQ"),
        ("xt_MASQUERADE", "ipt_MASQUERADE", "nft_masq"),
    ),
    "reject": (("IP_NF_TARGET_REJECT", "NFT_REJECT"), ("ipt_REJECT", "nft_reject_inet")),
    "match-addrtype": (("NETFILTER_XT_MATCH_ADDRTYPE",), ("xt_addrtype",)),
    "match-conntrack": (("NETFILTER_XT_MATCH_CONNTRACK",), ("xt_conntrack",)),
    "match-comment": (("NETFILTER_XT_MATCH_COMMENT",), ("xt_comment",)),
    "match-multiport": (("NETFILTER_XT_MATCH_MULTIPORT",), ("xt_multiport",)),
    "match-statistic": (("NETFILTER_XT_MATCH_STATISTIC",), ("xt_statistic",)),
    "ip-set": (("IP_SET",), ("ip_set",)),
    "ipvs": (("IP_VS",), ("ip_vs",)),
    "cfs-bandwidth": (("CFS_BANDWIDTH",), ()),
}
TRIED_LINKS = ("bridge", "veth", "vxlan", "wireguard")


def features(host: Host) -> dict[str, Any]:
    """``{"source": where the configuration was read, "states": {feature: "yes" | "no" | "unknown"}}``."""
    release = host.read("/proc/sys/kernel/osrelease").strip()
    source, options = configuration(host, release)
    files = module_names(host, release)
    states = {name: _state(host, name, options, files) for name in FEATURES}
    for name in TRIED_LINKS:
        if states[name] == "unknown":
            states[name] = _try_link(host, name)
    return {"source": source, "states": states}


def configuration(host: Host, release: str) -> tuple[str, dict[str, str]]:
    """(file, {option without CONFIG_: "y" | "m"}) of the running kernel; ('', {}) where none is readable."""
    for name in (
        "/proc/config.gz",
        f"/boot/config-{release}",
        f"/lib/modules/{release}/config",
        f"/usr/lib/modules/{release}/config",
        f"/usr/lib/kernel/config-{release}",
    ):
        try:
            data = host.path(name).read_bytes()
        except OSError:
            continue
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8", "replace")
        return name, dict(re.findall(r"^CONFIG_(\w+)=([ym])$", text, re.MULTILINE))
    return "", {}


def module_names(host: Host, release: str) -> set[str] | None:
    """Modules that the kernel can load or has built in, '_' for '-'; None where the lists are absent."""
    names: set[str] = set()
    for file in ("modules.dep", "modules.builtin"):
        for line in host.read(f"/lib/modules/{release}/{file}").splitlines():
            stem = line.partition(":")[0].rpartition("/")[2].partition(".ko")[0]
            names.add(stem.replace("-", "_"))
    return names or None


def _state(host: Host, name: str, options: dict[str, str], files: set[str] | None) -> str:
    wanted, modules = FEATURES[name]
    values = {options.get(option) for option in wanted}
    present = any(host.exists(f"/sys/module/{module}") for module in modules)
    if name == "overlay":
        present = present or bool(re.search(r"\boverlay$", host.read("/proc/filesystems"), re.MULTILINE))
    if present or "y" in values:
        return "yes"
    if "m" in values and files is None:
        return "yes"
    if files is not None and modules and (not options or "m" in values):
        # Configured as a module, whose file may be in a package of its own (kernel-modules-extra).
        return "yes" if files & set(modules) else "no"
    return "no" if options else "unknown"


def _try_link(host: Host, kind: str) -> str:
    """Make such a network device in a network namespace of its own, which ends with the command."""
    extra = {"veth": ["peer", "name", "skerry1"], "vxlan": ["id", "1", "dstport", "0"]}.get(kind, [])
    code, _out, error = host.run("unshare", "--net", "ip", "link", "add", "skerry0", "type", kind, *extra)
    if code == 0:
        return "yes"
    return "no" if "not supported" in error or "Unknown device type" in error else "unknown"
