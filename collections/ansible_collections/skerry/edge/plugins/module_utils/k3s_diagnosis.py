"""Known reasons for a k3s that does not come up, told from its journal.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """One known cause: what the journal says, and what to do. ``final``: waiting longer cannot help."""

    code: str
    pattern: str
    cause: str
    remedy: str
    final: bool = True


#: Most telling first: later lines are often consequences of the earlier ones.
CAUSES = (
    Known(
        "K3S_101",
        r"flag provided but not defined: -*(?P<what>\S+)",
        "k3s does not know the key {what} of config.yaml",
        "remove it from k3s_node_config or the role's own configuration variable",
    ),
    Known(
        "K3S_102",
        r"token CA hash does not match|(?:CA cert validation|failed to validate).*hash",
        "the token belongs to another certificate authority: the server was made anew, or the host joins a wrong one",
        "run site.yml with the first server included, so that the host gets the present token",
    ),
    Known(
        "K3S_103",
        r"bootstrap data already found and encrypted with different token",
        "the datastore was encrypted with another token",
        "put the old token back into k3s_token",
    ),
    Known(
        "K3S_104",
        r"[Nn]ode password rejected|(?:duplicate hostname|unable to verify password for node)",
        "the cluster knows another host of this name: the host was made anew, or two hosts share the name",
        "on a server: k3s kubectl delete node NAME; if two hosts share the name, set k3s_node_name",
    ),
    Known(
        "K3S_105",
        r"^(?!.*etcd cluster member list).*(?:not authorized|401 Unauthorized|invalid token)",
        "the server refuses the token",
        "run site.yml with the first server included; a token of your own must be the same on all hosts",
    ),
    Known(
        "K3S_106",
        r"critical configuration (?:value )?mismatch.*?(?P<what>[A-Za-z, ]*)$",
        "this server's settings differ from those of the cluster's other servers {what}",
        "set network ranges, disable list, egress and encryption alike on all servers",
    ),
    Known(
        "K3S_107",
        r"kubelet is configured to not run on a host using cgroup v1|cgroup v1.*(?:not supported|unsupported)",
        "the host runs cgroup v1, which this kubelet refuses",
        "boot with systemd.unified_cgroup_hierarchy=1, or set skerry_allow_cgroup_v1 and carry the risk",
    ),
    Known(
        "K3S_108",
        r"failed to find memory cgroup",
        "the kernel's memory cgroup is off (Raspberry Pi)",
        "let the role host_tuning set cgroup_memory=1 cgroup_enable=memory on the kernel command line, then reboot",
    ),
    Known(
        "K3S_109",
        r"listen (?:tcp|udp)\S* (?P<what>\S+): bind: address already in use",
        "another process holds {what}",
        "find it with ss -ltnp, stop it or move it to another port",
    ),
    Known(
        "K3S_110",
        r"x509: certificate has expired or is not yet valid",
        "the clocks of the hosts differ, or certificates ran out",
        "compare `date` on both hosts, let host_tuning set up time synchronisation; else: k3s certificate check",
    ),
    Known(
        "K3S_111",
        r"no space left on device",
        "the disk is full",
        "make room below /var/lib/rancher",
    ),
    Known(
        "K3S_112",
        r"(?:inotify|fsnotify).*too many open files",
        "the host has no inotify instances left",
        "raise fs.inotify.max_user_instances (the role host_tuning does): sysctl -w fs.inotify.max_user_instances=8192",
    ),
    Known(
        "K3S_113",
        r"default runtime \S+ (?:was )?not found|no runtime for \"(?P<what>[^\"]+)\"",
        "the default runtime of containerd is not on this host",
        "install it (role wasm_runtime) or remove default-runtime",
    ),
    Known(
        "K3S_114",
        r"(?:failed to (?:load|apply) |error loading )?\"?containerd.*(?:toml|config).*(?:error|expected|invalid)",
        "containerd cannot read its configuration",
        "check the files in /etc/skerry/containerd and any config template of your own",
    ),
    Known(
        "K3S_115",
        r"unknown 'kubernetes\.io' or 'k8s\.io' labels|is not allowed to (?:set|modify) label",
        "a label below kubernetes.io is not the kubelet's to set",
        "give it through k3s_node_roles or k3s_node_labels: the role sets such labels through the API",
    ),
    Known(
        "K3S_116",
        r"failed to pull (?:and unpack )?image \\*\"(?P<what>[^\"\\]+)|failed to get sandbox image",
        "an image cannot be pulled: {what}",
        "on a site without internet give k3s_airgap_images, or a mirror in k3s_registries",
        final=False,
    ),
    Known(
        "K3S_117",
        r"(?:operation not supported|unknown device type).*vxlan|vxlan.*(?:operation not supported|not supported)",
        "the kernel has no vxlan",
        "install the kernel's extra modules, or set k3s_flannel_backend: host-gw when all hosts share one network",
    ),
    Known(
        "K3S_118",
        r"too many learner members in cluster",
        "another server is joining the etcd cluster at this moment",
        "wait and run again",
        final=False,
    ),
    Known(
        "K3S_120",
        r"(?:runc|containerd task|shim task|sandbox).*oom_score_adj",
        "this host may not lower oom_score_adj (a container without CAP_SYS_RESOURCE)",
        "set k3s_containerd_restrict_oom_score_adj: true",
        final=False,
    ),
    Known(
        "K3S_119",
        r"(?:failed to get CA certs|server is not ready|failed to validate connection).*?"
        r"(?P<what>connection refused|i/o timeout|no route to host|no such host|context deadline exceeded)",
        "the server cannot be reached: {what}",
        "check k3s_api_endpoint, the server's state and the firewall (6443/tcp from every host)",
        final=False,
    ),
)


def diagnose(journal):
    """The most telling known cause in a journal: (Known, its cause as text), or None."""
    lines = journal.splitlines()
    for known in CAUSES:
        expression = re.compile(known.pattern)
        for line in reversed(lines):
            match = expression.search(line)
            if match:
                what = (match.groupdict().get("what") or "").strip()
                return known, re.sub(r"[: ]+$", "", known.cause.replace("{what}", what))
    return None


def last_words(journal, count=6):
    """The last lines of error or worse; else the last lines at all, for a cause that nobody knows yet."""
    lines = [line for line in journal.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"level=(?:error|fatal)|^[EF]\d{4} |panic|[Ff]atal", line)]
    return "\n".join(line[:300] for line in (telling or lines)[-count:])
