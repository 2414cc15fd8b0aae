"""Rules about the files themselves and about names: what is unreadable, unknown or misspelt."""

from __future__ import annotations

from collections.abc import Iterator

from skerry.inventory import findings as f
from skerry.inventory.context import Context, relative
from skerry.inventory.files import Kind
from skerry.inventory.findings import Finding
from skerry.inventory.model import Place
from skerry.inventory.names import is_dns_name
from skerry.inventory.values import did_you_mean

_FAULTS = {"syntax": f.NOT_YAML, "duplicate": f.DUPLICATE_KEY, "structure": f.STRUCTURE}
#: Groups that a playbook may name although a site has no host for them.
_OWN_GROUPS = {
    "all", "ungrouped", "skerry_servers", "skerry_agents", "skerry_cloud", "skerry_edge", "skerry_sandbox",
}


def faults(context: Context) -> Iterator[Finding]:
    """Files that are no YAML, keys that stand twice, mappings where there should be none."""
    for path, fault in context.inventory.faults:
        yield context.finding(_FAULTS[fault.what], Place(path, fault.line), fault.key, fault.text)


def empty(context: Context) -> Iterator[Finding]:
    """An inventory without a single host."""
    if not context.hosts and not context.inventory.faults:
        yield context.finding(f.NO_HOSTS, context.inventory.path, "all", "the inventory has no hosts")


def host_names(context: Context) -> Iterator[Finding]:
    """Names that Kubernetes, or Ansible beside groups, does not take."""
    groups = set(context.inventory.groups) | set(context.effective.groups if context.effective else ())
    for host in context.hosts:
        place = context.place_of_host(host)
        if not is_dns_name(host):
            yield context.finding(f.HOST_NAME, place, host, f"{host} cannot be the name of a node")
        if host in groups:
            yield context.finding(f.SAME_NAME, place, host, f"{host} is a host and a group")


def unknown_hosts(context: Context) -> Iterator[Finding]:
    """Hosts that are only named in groups while all others are described: a misspelt name, most of the time."""
    described = {
        host for host, values in context.hosts.items()
        if "ansible_host" in values or "ansible_connection" in values or f"host:{host}" in context.by_owner
    }
    for host in set(context.hosts) - described:
        if not described or "." in host or host == "localhost":
            continue
        cause = f"{host} has no address and no variables, unlike the {len(described)} other hosts"
        yield context.finding(f.UNKNOWN_HOST, context.place_of_host(host), host, cause, did_you_mean(host, described))


def unknown_owners(context: Context) -> Iterator[Finding]:
    """Files in host_vars and group_vars whose host or group is nowhere else."""
    hosts = set(context.hosts)
    groups = set(context.inventory.groups) | set(context.effective.groups if context.effective else ()) | _OWN_GROUPS
    for kind, owner, path in context.inventory.variable_files:
        known, rule = (groups, f.UNKNOWN_GROUP) if kind is Kind.GROUP else (hosts, f.UNKNOWN_HOST)
        if owner not in known:
            cause = f"{relative(path)} is for the {kind.value} {owner}, which the inventory does not have"
            yield context.finding(rule, Place(path, 1), owner, cause, did_you_mean(owner, known))


def unknown_groups(context: Context) -> Iterator[Finding]:
    """Groups that are only named as children: without hosts, children or variables anywhere."""
    groups = context.inventory.groups
    dynamic = context.effective.groups if context.effective else {}
    with_files = {owner for kind, owner, _ in context.inventory.variable_files if kind is Kind.GROUP}
    solid = {
        name for name, group in groups.items()
        if group.hosts or group.children or group.has_vars or name in with_files or dynamic.get(name)
    }
    for group in groups.values():
        for child, place in group.children.items():
            if child not in solid and child not in _OWN_GROUPS:
                cause = f"group {child}, a child of {group.name}, has no hosts and is defined nowhere"
                yield context.finding(f.UNKNOWN_GROUP, place, child, cause, did_you_mean(child, solid - {group.name}))
