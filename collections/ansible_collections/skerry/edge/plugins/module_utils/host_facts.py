"""What preflight collects of one host, in one go. Runs on the hosts: Python 3.8 or later, standard library only."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import time
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils import broker_host
from ansible_collections.skerry.edge.plugins.module_utils import host_network as network
from ansible_collections.skerry.edge.plugins.module_utils.host import (
    Host,
    cgroup,
    holders,
    listeners,
    memory,
    mount_of,
    on_sd_card,
)
from ansible_collections.skerry.edge.plugins.module_utils.kernel_features import features

TIME_UNITS = ("chrony", "chronyd", "systemd-timesyncd", "ntpsec", "ntp", "ntpd", "openntpd")
UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)
WASM_FLAGS = {"sse4_1", "sse4_2", "avx2", "asimd", "neon"}


def collect(host: Host, asked: dict[str, Any]) -> dict[str, Any]:
    """Everything about the host. ``asked``: paths, ports, targets, names (lists), timeout (seconds); see the module."""
    sources = network.package_hosts(host) if asked["package_sources"] else []
    names = [*asked["names"], *sources]
    active = active_units(host)
    return {
        "system": system(host),
        "memory": memory(host),
        "cpu": cpu(host),
        "storage": {path: storage(host, path) for path in asked["paths"]},
        "cgroup": cgroup(host),
        "kernel": features(host),
        "clock": clock(host, active),
        "identity": identity(host),
        "network": {
            "addresses": network.addresses(host),
            "routes": network.routes(host),
            "nameservers": re.findall(r"^nameserver\s+(\S+)", host.read("/etc/resolv.conf"), re.MULTILINE),
            "names": network.resolve(names, asked["timeout"]) if host.real else {},
            "reach": network.reach_all(asked["targets"], asked["timeout"]),
            "firewall": network.firewall(host),
            "iptables": iptables(host),
        },
        "ports": ports(host, asked["ports"]),
        "security": security(host),
        "others": others(host, active),
        "broker": broker_host.look(host),
        "time": time.time(),
    }


def system(host: Host) -> dict[str, Any]:
    """Distribution, kernel, userland (they may differ), Python, container, board."""
    release = host.key_values("/etc/os-release") or host.key_values("/usr/lib/os-release")
    return {
        "id": release.get("ID", ""),
        "like": release.get("ID_LIKE", "").split(),
        "version": release.get("VERSION_ID", ""),
        "name": release.get("PRETTY_NAME", release.get("ID", "unknown")),
        "kernel": host.read("/proc/sys/kernel/osrelease").strip(),
        "machine": host.machine(),
        "userland": userland(host),
        "python": platform.python_version(),
        "container": host.in_container(),
        "board": host.board(),
        "init": host.read("/proc/1/comm").strip(),
        "read_only": "ro" in mount_of(host, "/usr")["options"].split(","),
        "root": os.geteuid() == 0,
    }


def userland(host: Host) -> str:
    """Architecture of the packages in their manager's own words (``armhf``, ``x86_64``), '' where unknown."""
    for command in (("dpkg", "--print-architecture"), ("rpm", "--eval", "%{_arch}")):
        if host.command(command[0]):
            code, out, _error = host.run(*command)
            if code == 0:
                return out.strip()
    return ""


def cpu(host: Host) -> dict[str, Any]:
    """Cores that this process may use, and which of the flags that wasm engines look for the first one has."""
    text = host.read("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "flags": sorted(WASM_FLAGS & set(found.group(1).split())) if found else [],
    }


def storage(host: Host, path: str) -> dict[str, Any]:
    """Where ``path`` lies or will lie: file system, bytes and inodes left, whether an SD card."""
    existing = path
    while not host.path(existing).exists() and existing != "/":
        existing = os.path.dirname(existing)
    mount = mount_of(host, os.path.realpath(existing) if host.real else existing)
    state = os.statvfs(host.path(existing))
    return {
        "mount": mount["mount"],
        "type": mount["type"],
        "device": mount["device"],
        "read_only": "ro" in mount["options"].split(","),
        "sd_card": on_sd_card(host, mount["device"]),
        "free": state.f_bavail * state.f_frsize,
        "size": state.f_blocks * state.f_frsize,
        "free_inodes": state.f_favail if state.f_files else -1,  # btrfs and others count none
    }


def active_units(host: Host) -> dict[str, str]:
    """State of the units that matter here, by one call of systemctl."""
    units = [*TIME_UNITS, "nm-cloud-setup.timer", "k3s", "k3s-agent", "kubelet"]
    _code, out, _error = host.run("systemctl", "is-active", *units)
    return dict(zip(units, out.split()))


def clock(host: Host, active: dict[str, str]) -> dict[str, Any]:
    """Whether the kernel's clock is kept right (adjtimex(2)), and by which of the services here."""
    running = [unit for unit in TIME_UNITS if active.get(unit) == "active"]
    return {"synchronised": synchronised() if host.real else None, "services": running}


class _Timex(ctypes.Structure):
    """The head of struct timex; the padding holds the rest, which is not read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("padding", ctypes.c_char * 512),
    )


def synchronised() -> bool | None:
    """Whether some service disciplines the kernel's clock; None where the kernel does not say."""
    state = _Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else not state.status & UNSYNCHRONISED


def identity(host: Host) -> dict[str, Any]:
    """Names that must differ from host to host."""
    return {
        "hostname": host.read("/proc/sys/kernel/hostname").strip(),
        "machine_id": host.read("/etc/machine-id").strip(),
    }


def iptables(host: Host) -> dict[str, str]:
    """Version and variant (``nf_tables``, ``legacy``) of the host's own iptables."""
    if not host.command("iptables"):
        return {"version": "", "mode": ""}
    _code, out, _error = host.run("iptables", "--version")
    found = re.search(r"v(\d[\d.]*)(?:\s+\((\w+)\))?", out)
    return {"version": found.group(1), "mode": found.group(2) or "legacy"} if found else {"version": "", "mode": ""}


def ports(host: Host, wanted: list[str]) -> dict[str, list[str]]:
    """Of the wanted ports (``6443/tcp``) those in use, with the names of the processes (empty: not to be seen)."""
    taken = {port: inodes for port, inodes in listeners(host).items() if port in wanted}
    return {port: holders(host, inodes) for port, inodes in taken.items()}


def security(host: Host) -> dict[str, Any]:
    """SELinux and AppArmor, and what k3s needs beside them."""
    enforce = host.read("/sys/fs/selinux/enforce").strip()
    return {
        "selinux": {"1": "enforcing", "0": "permissive"}.get(enforce, ""),
        "k3s_selinux": host.exists("/usr/share/selinux/packages/k3s.pp")
        or host.exists("/var/lib/selinux/targeted/active/modules/200/k3s"),
        "apparmor": host.read("/sys/module/apparmor/parameters/enabled").strip() == "Y",
        "apparmor_parser": host.command("apparmor_parser"),
    }


def others(host: Host, active: dict[str, str]) -> dict[str, Any]:
    """Software that gets into the way, and what an earlier run left."""
    return {
        "docker_snap": host.exists("/snap/docker") or host.exists("/var/snap/docker"),
        "microk8s": host.exists("/snap/microk8s"),
        "rke2": host.exists("/etc/rancher/rke2"),
        "kubelet": active.get("kubelet") == "active",
        "k3s_script": host.exists("/usr/local/bin/k3s-uninstall.sh")
        or host.exists("/usr/local/bin/k3s-agent-uninstall.sh"),
        "k3s_running": "active" in (active.get("k3s"), active.get("k3s-agent")),
        "nm_cloud_setup": active.get("nm-cloud-setup.timer") == "active",
        "transactional": host.command("transactional-update"),
        "kmsg": host.exists("/dev/kmsg"),
        "root_maxkeys": int(host.read("/proc/sys/kernel/keys/root_maxkeys").strip() or 0),
        "installed": installed(host),
    }


def installed(host: Host) -> list[str]:
    """Roles that have recorded something in the fact file; none where it is absent or broken."""
    try:
        facts = json.loads(host.read("/etc/ansible/facts.d/skerry.fact") or "{}")
    except ValueError:
        return []
    return sorted(facts) if isinstance(facts, dict) else []
