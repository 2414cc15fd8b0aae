"""Openings in an active firewall for exactly the ports in use: what is missing, what is stale, and nftables' own rules.

An opening is ``{"sources": [networks], "proto": "tcp" | "udp" | "", "ports": ["6443", "2379-2380"]}``; without proto
everything from these sources is let in (the cluster's own networks), also forwarded. ufw and firewalld are changed by
the role, with the modules of community.general and ansible.posix, by the lists ``add`` and ``remove`` made here. Pure
Python, 3.8 or later.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.host import Host
from ansible_collections.skerry.edge.plugins.module_utils.host_network import firewall, routes
from ansible_collections.skerry.edge.plugins.module_utils.tuning_state import Context, TuningError

NFT_FILE = "/etc/nftables.d/90-skerry.nft"
NFT_UNIT = "/etc/systemd/system/nftables.service.d/90-skerry.conf"
MARK = "skerry:"


def look(context: Context) -> dict[str, Any]:
    """Which firewall is active, with the dropping chains of nftables; see ``host_network.firewall``."""
    found = firewall(context.host)
    if found["kind"] == "iptables":
        context.notes.append("plain iptables rules drop packets here and are left alone; open the ports by hand")
    return found


def plan(context: Context, found: dict[str, Any], openings: list[dict[str, Any]]) -> dict[str, Any]:
    """``{"kind", "add": [...], "remove": [...]}`` for ufw and firewalld; nftables is changed here."""
    kind = found["kind"]
    if kind == "nftables":
        apply_nftables(context, found["chains"], openings)
    if kind not in ("ufw", "firewalld"):
        return {"kind": kind, "add": [], "remove": []}
    wanted = ufw_rules(openings) if kind == "ufw" else firewalld_rules(openings, _zone(context.host))
    ours = context.journal.get("firewall", {}).get(kind, [])
    present = _present(context.host, kind, [*wanted, *ours])
    add = [rule for rule in wanted if _key(rule) not in present]
    stale = [rule for rule in ours if rule not in wanted and _key(rule) in present]
    # What the site itself had opened before is none of ours. Stale rules are forgotten once they are gone.
    kept = [rule for rule in wanted if rule in ours or rule in add] + stale
    if kept != ours:
        context.journal.setdefault("firewall", {})[kind] = kept
    return {"kind": kind, "add": add, "remove": stale}


def _present(host: Host, kind: str, rules: list[dict[str, Any]]) -> set[str]:
    return _ufw_present(host) if kind == "ufw" else _firewalld_present(host, rules)


def _key(rule: dict[str, Any]) -> str:
    return json.dumps(rule, sort_keys=True)


def ufw_rules(openings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules as community.general.ufw takes them: ``{"from", "port", "proto", "route"}``."""
    rules = []
    for opening in openings:
        ports = ",".join(str(port).replace("-", ":") for port in opening["ports"])
        for source in opening["sources"]:
            rules.append(
                {"from": _ufw_source(source), "port": ports, "proto": opening["proto"] or "any", "route": False}
            )
            if not opening["proto"]:
                rules.append({"from": _ufw_source(source), "port": "", "proto": "any", "route": True})
    return rules


def _ufw_source(source: str) -> str:
    return "any" if source in ("0.0.0.0/0", "::/0") else source.replace("/32", "")


def _ufw_present(host: Host) -> set[str]:
    """Keys of the rules that ``ufw show added`` lists."""
    present = set()
    for line in host.run("ufw", "show", "added")[1].splitlines():
        found = re.match(
            r"ufw (?P<route>route )?allow (?:in )?from (?P<source>\S+)(?: to any)?(?: port (?P<port>\S+))?(?: "
            r"proto (?P<proto>\w+))?",
            line,
        )
        plain = re.match(r"ufw (?P<route>route )?allow (?P<port>[\d,:]+)/(?P<proto>\w+)", line)
        if found or plain:
            match = found or plain
            group = match.groupdict() if match else {}
            present.add(
                _key(
                    {
                        "from": group.get("source") or "any",
                        "port": group.get("port") or "",
                        "proto": group.get("proto") or "any",
                        "route": bool(group.get("route")),
                    }
                )
            )
    return present


def firewalld_rules(openings: list[dict[str, Any]], zone: str) -> list[dict[str, Any]]:
    """Rules as ansible.posix.firewalld takes them: ``{"zone", "rich_rule"}`` or ``{"zone", "source"}``.

    Rich rules in the zone of the interface, not a zone of the sources: that would take these hosts' other traffic
    (SSH) out of the zone in which the site allows it.
    """
    rules = []
    for opening in openings:
        for source in opening["sources"]:
            if not opening["proto"]:
                rules.append({"zone": "trusted", "source": source, "rich_rule": ""})
            for port in opening["ports"]:
                family = "ipv6" if ":" in source else "ipv4"
                match = f'family="{family}" source address="{source}" port port="{port}"'
                rule = f'rule {match} protocol="{opening["proto"]}" accept'
                rules.append({"zone": zone, "source": "", "rich_rule": rule})
    return rules


def _zone(host: Host) -> str:
    """Zone of the interface that leads out, else the default one."""
    for route in routes(host):
        if not route["bits"]:
            code, out, _error = host.run("firewall-cmd", f"--get-zone-of-interface={route['device']}")
            if code == 0 and out.strip():
                return out.strip()
    return host.run("firewall-cmd", "--get-default-zone")[1].strip() or "public"


def _firewalld_present(host: Host, wanted: list[dict[str, Any]]) -> set[str]:
    """Keys of those wanted rules that are in force both now and after a restart."""
    known: dict[str, list[set[str]]] = {}
    for zone in sorted({rule["zone"] for rule in wanted}):
        known[zone] = [
            set(host.run("firewall-cmd", f"--zone={zone}", *way, "--list-rich-rules")[1].splitlines())
            | set(host.run("firewall-cmd", f"--zone={zone}", *way, "--list-sources")[1].split())
            for way in ((), ("--permanent",))
        ]
    return {
        _key(rule)
        for rule in wanted
        if all((rule["rich_rule"] or rule["source"]) in have for have in known[rule["zone"]])
    }


def nft_statements(family: str, hook: str, openings: list[dict[str, Any]]) -> list[str]:
    """Accepting statements for one chain; sources of the other IP version than the table's are left out."""
    statements = []
    for opening in openings:
        if hook == "forward" and opening["proto"]:
            continue
        for version, word in ((4, "ip"), (6, "ip6")):
            sources = [
                source for source in opening["sources"] if ipaddress.ip_network(source, strict=False).version == version
            ]
            if not sources or family not in ("inet", word):
                continue
            listed = "{ " + ", ".join(sources) + " }"
            if hook == "forward":
                statements += [f"{word} saddr {listed} accept", f"{word} daddr {listed} accept"]
            elif opening["proto"]:
                ports = "{ " + ", ".join(str(port) for port in opening["ports"]) + " }"
                everywhere = any(ipaddress.ip_network(source, strict=False).prefixlen == 0 for source in sources)
                match = f"meta nfproto ipv{version}" if everywhere else f"{word} saddr {listed}"
                statements.append(f"{match} {opening['proto']} dport {ports} accept")
            else:
                statements.append(f"{word} saddr {listed} accept")
    return statements


def nft_script(chains: list[dict[str, str]], openings: list[dict[str, Any]]) -> str:
    """Chains of our own beside the dropping ones, each with a jump at the head of its neighbour; nothing is flushed."""
    lines = []
    for chain in chains:
        statements = nft_statements(chain["family"], chain["hook"], openings)
        if not statements:
            continue
        digest = hashlib.sha256("\n".join(statements).encode()).hexdigest()[:12]
        place = f"{chain['family']} {chain['table']}"
        own = f"skerry_{chain['name']}"
        lines.append(f"add chain {place} {own}")
        lines += [f"add rule {place} {own} {statement}" for statement in statements]
        lines.append(f'insert rule {place} {chain["name"]} jump {own} comment "{MARK}{digest}"')
    return "".join(f"{line}\n" for line in lines)


def _ruleset(host: Host) -> list[dict[str, Any]]:
    code, out, error = host.run("nft", "--json", "list", "ruleset")
    if code:
        raise TuningError(
            f"HOST_TUNING_007 nft list ruleset: {error.strip()} | remedy: repair nftables, or set "
            "host_tuning_firewall_enabled: false"
        )
    return list(json.loads(out)["nftables"])


def _removal(items: list[dict[str, Any]]) -> list[str]:
    """Statements that take our jumps, rules and chains out of the running rule set, by handle."""
    jumps, rules, chains = [], [], []
    for item in items:
        rule, chain = item.get("rule"), item.get("chain")
        if rule and str(rule.get("comment", "")).startswith(MARK):
            jumps.append(f"delete rule {rule['family']} {rule['table']} {rule['chain']} handle {rule['handle']}")
        elif rule and rule["chain"].startswith("skerry_"):
            rules.append(f"delete rule {rule['family']} {rule['table']} {rule['chain']} handle {rule['handle']}")
        elif chain and chain["name"].startswith("skerry_"):
            chains.append(f"delete chain {chain['family']} {chain['table']} {chain['name']}")
    return [*jumps, *rules, *chains]


def _in_force(items: list[dict[str, Any]], script: str) -> bool:
    """Whether exactly the script's jumps, with as many rules in our chains, are in the running rule set."""
    wanted = sorted(re.findall(rf'comment "({MARK}\w+)"', script))
    rules = [item["rule"] for item in items if "rule" in item]
    have = sorted(str(rule["comment"]) for rule in rules if str(rule.get("comment", "")).startswith(MARK))
    own = sum(rule["chain"].startswith("skerry_") for rule in rules)
    return wanted == have and own == script.count("add rule ")


def apply_nftables(context: Context, chains: list[dict[str, str]], openings: list[dict[str, Any]]) -> None:
    """Our chains in the running rule set, in a file of our own, loaded after the site's by a drop-in of
    nftables.service."""
    script = nft_script([chain for chain in chains if not chain["name"].startswith("skerry_")], openings)
    context.write(NFT_FILE, f"# Made by the role host_tuning; loaded after the site's own rules.\n{script}", 0o600)
    unit = (
        "# Made by the role host_tuning.\n[Service]\n"
        f"ExecStartPost=/usr/sbin/nft -f {NFT_FILE}\nExecReload=/usr/sbin/nft -f {NFT_FILE}\n"
    )
    context.write(NFT_UNIT, unit, then="daemon-reload")
    items = _ruleset(context.host)
    if _in_force(items, script):
        return
    context.change("nftables: ports opened")
    _load(context, "".join(f"{line}\n" for line in _removal(items)) + script)


def _load(context: Context, script: str) -> None:
    """One transaction: all of it or nothing."""
    if context.check or not script:
        return
    code, error = context.host.feed(script, "nft", "-f", "-")
    if code:
        raise TuningError(
            f"HOST_TUNING_008 nftables refuses our rules, nothing was changed: {error.strip()} | remedy: see "
            f"{NFT_FILE}, or set"
            " host_tuning_firewall_enabled: false and open the ports by hand"
        )


def undo(context: Context, found: dict[str, Any]) -> dict[str, Any]:
    """Take nftables' rules back here; give what the role removes from ufw or firewalld. Files are undone with the
    others."""
    kind = found["kind"]
    ours = context.journal.get("firewall", {}).get(kind, [])
    present = _present(context.host, kind, ours) if ours else set()
    remove = [rule for rule in ours if _key(rule) in present]
    if not remove:
        context.journal.pop("firewall", None)
    if NFT_FILE in context.journal.get("files", {}) and context.host.command("nft"):
        removal = _removal(_ruleset(context.host))
        if removal:
            context.change("nftables: our openings removed")
            _load(context, "".join(f"{line}\n" for line in removal))
        context.later("daemon-reload")
    return {"kind": kind, "add": [], "remove": remove}
