"""What preflight asks of a host's network: addresses, routes, names, who answers, which firewall filters.

Runs on the hosts: Python 3.8 or later, standard library only.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.host import Host

URL_HOST = re.compile(r"https?://(?:[^/@\s]*@)?([A-Za-z0-9.-]+)")
OWN_DEVICES = ("cni", "flannel", "veth", "docker", "br-", "kube-", "cali", "lo")


def in_threads(work: list[Callable[[], Any]], limit: float) -> list[Any]:
    """Results of ``work`` in its order, all started at once; None for what took longer than ``limit`` seconds."""
    results: list[Any] = [None] * len(work)

    def one(index: int) -> None:
        results[index] = work[index]()

    threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(len(work))]
    for thread in threads:
        thread.start()
    end = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(results)


def reach(address: str, port: int, timeout: float) -> str:
    """``open``, ``refused`` (the host answers, nothing listens), ``timeout``, ``unreachable`` or the error's name."""
    try:
        with socket.create_connection((address, port), timeout):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except socket.gaierror:
        return "unknown name"
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return "unreachable"
        return errno.errorcode.get(error.errno or 0, str(error))


def reach_all(targets: list[dict[str, Any]], timeout: float) -> dict[str, dict[str, Any]]:
    """Each target's ports at once. Targets: ``{"name", "address", "ports"}``; gives name: {"address", "ports": {port:
    how}}."""
    pairs = [(target, int(port)) for target in targets for port in target["ports"]]
    states = in_threads([lambda t=t, p=p: reach(t["address"], p, timeout) for t, p in pairs], timeout + 1)
    found: dict[str, dict[str, Any]] = {}
    for (target, port), state in zip(pairs, states):
        entry = found.setdefault(target["name"], {"address": target["address"], "ports": {}})
        entry["ports"][str(port)] = state or "timeout"
    return found


def resolve(names: list[str], timeout: float) -> dict[str, str]:
    """'' for each name that resolves, else why not."""

    def one(name: str) -> str:
        try:
            socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
        except OSError as error:
            return str(error.strerror or error)
        return ""

    answers = in_threads([lambda name=name: one(name) for name in names], timeout)
    return {name: f"no answer within {timeout} s" if answer is None else answer for name, answer in zip(names, answers)}


def package_hosts(host: Host) -> list[str]:
    """Names of the servers that the host's own package sources point at, at most two."""
    files = [host.path("/etc/apt/sources.list")]
    for folder, pattern in (
        ("/etc/apt/sources.list.d", "*.list"),
        ("/etc/apt/sources.list.d", "*.sources"),
        ("/etc/yum.repos.d", "*.repo"),
        ("/etc/zypp/repos.d", "*.repo"),
    ):
        files += sorted(host.path(folder).glob(pattern))
    names: list[str] = []
    for file in files:
        text = host.read(str(file.relative_to(host.root)))
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        for name in URL_HOST.findall("\n".join(lines)):
            if name not in names and not re.fullmatch(r"[\d.]+", name):
                names.append(name)
    return names[:2]


def addresses(host: Host) -> list[str]:
    """IPv4 addresses of this host's interfaces, in the order of the kernel, without loopback."""
    found: list[str] = []
    block = ""
    for line in host.read("/proc/net/fib_trie").splitlines():
        if match := re.search(r"\|-- ([\d.]+)$", line):
            block = match.group(1)
        elif "/32 host LOCAL" in line and not block.startswith("127.") and block not in found:
            found.append(block)
    return found


def routes(host: Host) -> list[dict[str, Any]]:
    """IPv4 routes: ``{"device", "network" (dotted), "bits", "gateway"}``."""
    found = []
    for line in host.read("/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7:
            network, gateway, mask = (
                socket.inet_ntoa(struct.pack("<L", int(fields[column], 16))) for column in (1, 2, 7)
            )
            bits = bin(int(fields[7], 16)).count("1")
            found.append({"device": fields[0], "network": network, "bits": bits, "gateway": gateway, "mask": mask})
    return found


def firewall(host: Host) -> dict[str, Any]:
    """Who filters packets here.

    Gives ``{"kind": "firewalld" | "ufw" | "nftables" | "iptables" | "", "chains": [...]}``; chains are those base
    chains of foreign nftables tables that end in a drop: ``{"family", "table", "name", "hook"}``. Needs root to see
    rules.
    """
    if host.command("firewall-cmd") and host.run("firewall-cmd", "--state")[0] == 0:
        return {"kind": "firewalld", "chains": []}
    if re.search(r"^ENABLED=yes", host.read("/etc/ufw/ufw.conf"), re.MULTILINE | re.IGNORECASE) and host.command("ufw"):
        return {"kind": "ufw", "chains": []}
    code, out, _error = host.run("nft", "--json", "list", "ruleset") if host.command("nft") else (127, "", "")
    chains = dropping_chains(json.loads(out)) if code == 0 and out.strip() else []
    if chains:
        return {"kind": "nftables", "chains": chains}
    if host.command("iptables") and _iptables_drops(host):
        return {"kind": "iptables", "chains": []}
    return {"kind": "", "chains": []}


def _iptables_drops(host: Host) -> bool:
    code, out, _error = host.run("iptables", "--wait", "2", "-S", "INPUT")
    lines = out.splitlines()
    return code == 0 and (
        "-P INPUT DROP" in lines or bool(lines and re.fullmatch(r"-A INPUT -j (DROP|REJECT.*)", lines[-1]))
    )


def dropping_chains(ruleset: dict[str, Any]) -> list[dict[str, str]]:
    """Base chains of hooks input and forward whose policy, or last rule, drops; without those that iptables-nft
    manages.

    Shape of ``ruleset``: ``nft --json list ruleset`` (libnftables-json(5)).
    """
    chains: list[dict[str, str]] = []
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for item in ruleset.get("nftables", []):
        if rule := item.get("rule"):
            last[(rule["family"], rule["table"], rule["chain"])] = rule
    for item in ruleset.get("nftables", []):
        chain = item.get("chain", {})
        if chain.get("hook") not in ("input", "forward") or chain.get("type") != "filter":
            continue
        # iptables-nft keeps its rules in chains of these names; its own commands and k3s's bundled one manage those.
        if chain["name"] in ("INPUT", "FORWARD") and chain["family"] in ("ip", "ip6"):
            continue
        final = last.get((chain["family"], chain["table"], chain["name"]), {})
        words = [set(part) for part in final.get("expr", [])]
        terminal = bool(words) and len(words) <= 2 and bool(words[-1] & {"drop", "reject"})
        if chain.get("policy") == "drop" or terminal:
            chains.append(
                {"family": chain["family"], "table": chain["table"], "name": chain["name"], "hook": chain["hook"]}
            )
    return chains
