"""What the k3s modules ask of a host and do to it: addresses, resolver, cgroups, files, units.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import ipaddress
import json
import os
import re
import socket

from ansible_collections.skerry.edge.plugins.module_utils.files import read_text, replace_file
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

CONFIG_DIR = "/etc/rancher/k3s"
CONFIG = CONFIG_DIR + "/config.yaml"
REGISTRIES = CONFIG_DIR + "/registries.yaml"
#: Where the role registry puts what a registry of the site wants in registries.yaml, one JSON file for each.
SITE_REGISTRIES = "/etc/skerry/registries.d"
TOKEN = CONFIG_DIR + "/token"
AGENT_TOKEN = CONFIG_DIR + "/agent-token"
APPLIED = CONFIG_DIR + "/.skerry-applied.json"
BEFORE = CONFIG_DIR + "/.skerry-before.json"
#: Kernel settings that k3s and its kubelet write, with their values; what was there before is noted, to be put back.
K3S_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
DATA_DIR = "/var/lib/rancher/k3s"
SERVER_CA = DATA_DIR + "/server/tls/server-ca.crt"
CONTAINERD_DIR = DATA_DIR + "/agent/etc/containerd"
OUR_CONTAINERD_DIR = "/etc/skerry/containerd"
UNIT_DIR = "/etc/systemd/system"
UNITS = {"server": "k3s", "agent": "k3s-agent"}
FACTS = "/etc/ansible/facts.d/skerry.fact"
SERVICE_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def write_text(path, content, mode):
    """Write beside and rename; the file never exists with a wider mode. Raises K3S_016 when there is no room."""
    try:
        replace_file(path, content, mode)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise K3sError(
                "K3S_016",
                f"cannot write {path}: {error.strerror}",
                f"make room (df -h {os.path.dirname(path)}) or make the file system writable, then run again",
            ) from error
        raise


def registries(header, text, folder=SITE_REGISTRIES):
    """Content of registries.yaml, None for no file: the variables' (``text``, JSON) with the site's own registries.

    JSON is YAML, so that no YAML library is wanted on the host. What the variables say of a registry wins. Text of
    another form (a site's own hand) is taken as it is, without the site's registries.
    """
    entries = [json.loads(read_text(path) or "{}") for path in sorted(glob.glob(folder + "/*.json"))]
    if not entries:
        return header + text if text else None
    try:
        merged = json.loads(text or "{}")
    except ValueError:
        return header + text
    for entry in entries:
        for part in ("configs", "mirrors"):
            merged[part] = {**entry.get(part, {}), **(merged.get(part) or {})}
    return header + json.dumps(merged, indent=2, sort_keys=True) + "\n"


def sysctls():
    """Present values of the kernel settings that k3s writes."""
    found = {name: (read_text("/proc/sys/" + name) or "").strip() for name in K3S_SYSCTLS}
    return {name: value for name, value in found.items() if value}


def write_sysctl(path, value):
    """Write a kernel setting; one that this host may not write (a container) stays. Returns whether it was written."""
    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(value)
    except OSError:
        return False
    return True


def addresses(run_command):
    """{address: interface} of the host, global scope only, in the kernel's order."""
    code, out, _err = run_command(["ip", "-o", "addr", "show", "scope", "global"])
    found = {}
    for line in out.splitlines() if code == 0 else []:
        match = re.match(r"^\d+:\s+(\S+)\s+inet6?\s+([0-9a-fA-F.:]+)", line)
        if match and not re.match(r"^(cni0|flannel|veth|docker0|br-|kube-)", match.group(1)):
            found[match.group(2)] = match.group(1)
    return found


def route_source(target, run_command):
    """The address that the host would speak to ``target`` with, or ''."""
    code, out, _err = run_command(["ip", "-o", "route", "get", target])
    match = re.search(r"\bsrc (\S+)", out) if code == 0 else None
    return match.group(1) if match else ""


def as_address(name):
    """``name`` as an address: itself, or what it resolves to, or ''."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass  # a name: the resolver knows
    try:
        return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError:
        return ""


def node_ip(wanted, interface, hint, peer, run_command):
    """The address of the node: asked for, of the interface, the one that Ansible uses, of the route to ``peer``.

    Raises K3S_005 (the address is not on the host), K3S_006 (the interface has none).
    """
    present = addresses(run_command)
    listing = ", ".join("{} ({})".format(*pair) for pair in present.items()) or "none"
    if wanted:
        absent = [one for one in wanted.split(",") if one not in present]
        if absent:
            raise K3sError(
                "K3S_005",
                "k3s_node_ip {} is not an address of this host; it has {}".format(", ".join(absent), listing),
                "set k3s_node_ip to one of them, or k3s_node_interface",
            )
        return wanted
    if interface:
        of_interface = [address for address, name in present.items() if name == interface]
        if not of_interface:
            raise K3sError(
                "K3S_006",
                f"interface {interface} has no global address; this host has {listing}",
                "set k3s_node_interface to one of them",
            )
        return next((one for one in of_interface if ":" not in one), of_interface[0])
    known = as_address(hint) if hint else ""
    if known in present:
        return known
    source = route_source(as_address(peer) if peer else "192.0.2.1", run_command)
    if source in present:
        return source
    if present:
        return next(iter(present))
    raise K3sError("K3S_006", "this host has no global address", "give it one, or set k3s_node_ip")


def resolv_conf():
    """A resolver file without loopback servers for pods, or '' when the host's own will do.

    k3s takes 8.8.8.8 when the host's file names loopback servers only; systemd-resolved keeps the real ones aside.
    """
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"):
        servers = re.findall(r"^\s*nameserver\s+(\S+)", read_text(path) or "", re.MULTILINE)
        if any(not server.startswith("127.") and server != "::1" for server in servers):
            return "" if path == "/etc/resolv.conf" else path
    return ""


def cgroup_version(mount="/sys/fs/cgroup"):
    """2 when the unified hierarchy carries the controllers that the kubelet needs, else 1."""
    controllers = (read_text(os.path.join(mount, "cgroup.controllers")) or "").split()
    return 2 if {"cpu", "cpuset", "memory", "pids"} <= set(controllers) else 1


def memory_mb():
    """Memory of the host in MiB, as /proc/meminfo has it."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", read_text("/proc/meminfo") or "", re.MULTILINE)
    return int(match.group(1)) // 1024 if match else 0


def proved_handlers():
    """Names of the containerd handlers that the role wasm_runtime proved on this host (its fact file)."""
    try:
        facts = json.loads(read_text(FACTS) or "{}")
    except ValueError:
        return []
    section = facts.get("wasm_runtime") if isinstance(facts, dict) else None
    handlers = section.get("handlers") if isinstance(section, dict) else None
    return sorted(handlers) if isinstance(handlers, dict) else []


def ca_hash():
    """The hash of the server's CA bundle as tokens carry it, or '' while there is none."""
    text = read_text(SERVER_CA)
    if not text or "-----END CERTIFICATE-----" not in text:
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


def has_server_data():
    """Whether this host holds a cluster's datastore: SQLite or etcd."""
    return bool(glob.glob(DATA_DIR + "/server/db/state.db") or glob.glob(DATA_DIR + "/server/db/etcd/member"))


def file_mark(path):
    """What changes when a file is replaced, without reading it: size and time; None when there is none."""
    try:
        stats = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [stats.st_size, stats.st_mtime_ns]


def detected_runtimes():
    """Commands that k3s turns into containerd runtimes when it starts (shims, crun): a new one needs a restart."""
    found = {}
    for directory in SERVICE_PATH:
        for path in [*glob.glob(directory + "/containerd-shim-*-v[0-9]"), directory + "/crun"]:
            mark = file_mark(path)
            if mark and "containerd-shim-runc" not in path:
                found.setdefault(os.path.basename(path), mark)
    return found


class Unit:
    """One systemd unit."""

    def __init__(self, name, run_command):
        self.name = name
        self._run = run_command

    def show(self):
        """LoadState, ActiveState, UnitFileState, NRestarts and the like, as a dict of strings."""
        properties = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,InvocationID,Result,ExecMainStatus,MainPID"
        _code, out, _err = self._run(["systemctl", "show", "--property=" + properties, self.name])
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def do(self, *words):
        """One systemctl command on the unit. Raises K3S_017 when systemd refuses."""
        code, _out, err = self._run(["systemctl", *words, self.name])
        if code:
            raise K3sError(
                "K3S_017",
                "systemctl {} {}: {}".format(" ".join(words), self.name, err.strip()),
                f"read: journalctl -u {self.name} -n 50",
            )

    def journal(self, lines=400):
        """The last lines of the unit's journal, without decoration."""
        command = ["journalctl", "--unit", self.name, "--lines", str(lines), "--output", "cat", "--no-pager", "--boot"]
        code, out, _err = self._run(command)
        return out if code == 0 else ""
