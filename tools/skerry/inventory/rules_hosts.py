"""Rules about hosts together: addresses, connections, servers and agents, regions and zones."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from skerry.inventory import findings as f
from skerry.inventory.context import Context
from skerry.inventory.findings import Finding
from skerry.inventory.names import is_address
from skerry.inventory.values import shown, templated

_BY_NAME = ("ssh", "smart", "paramiko", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")


def addresses(context: Context) -> Iterator[Finding]:
    """Addresses that are none, ports that are none, and two hosts at one place."""
    taken: dict[tuple[str, str], str] = {}
    for host, values in context.hosts.items():
        if values.get("ansible_connection", "ssh") not in _BY_NAME:
            continue
        address, port = values.get("ansible_host", host), values.get("ansible_port", 22)
        if templated(address) or templated(port):
            continue
        place = context.place_of_host(host, "ansible_host")
        if "ansible_host" in values and not is_address(str(address)):
            yield context.finding(f.ADDRESS, place, "ansible_host", f"{host}: {shown(address)} is no address")
        if not str(port).isdigit() or not 1 <= int(port) <= 65535:
            where = context.place_of_host(host, "ansible_port")
            yield context.finding(f.PORT, where, "ansible_port", f"{host}: {shown(port)} is no port")
        where_is = (str(address).lower(), str(port))
        if where_is in taken:
            cause = f"{host} and {taken[where_is]} are both at {address}, port {port}"
            yield context.finding(f.ADDRESS_TWICE, place, "ansible_host", cause)
        taken.setdefault(where_is, host)


def connections(context: Context) -> Iterator[Finding]:
    """Keys that are not there or too open, become switched off, host keys unchecked."""
    asked: dict[str, tuple[f.Rule, str] | None] = {}
    sandbox = context.members("skerry_sandbox")  # their keys are made together with them
    for host, values in context.hosts.items():
        key = values.get("ansible_ssh_private_key_file")
        if isinstance(key, str) and key and not templated(key) and host not in sandbox:
            if key not in asked:
                asked[key] = _key_problem(key)
            if problem := asked[key]:
                place = context.place_of_host(host, "ansible_ssh_private_key_file")
                yield context.finding(problem[0], place, "ansible_ssh_private_key_file", f"{host}: {problem[1]}")
        if str(values.get("ansible_become", True)).lower() in ("false", "no", "0"):
            place = context.place_of_host(host, "ansible_become")
            yield context.finding(f.NO_BECOME, place, "ansible_become", f"{host}: ansible_become is false")
        arguments = " ".join(str(values.get(f"ansible_ssh_{kind}_args", "")) for kind in ("common", "extra"))
        unchecked = "StrictHostKeyChecking=no" in arguments.replace(" =", "=").replace("= ", "=")
        if unchecked or str(values.get("ansible_host_key_checking", True)).lower() in ("false", "no", "0"):
            place = context.place_of_host(host, "ansible_ssh_common_args")
            cause = f"{host}: whoever answers at its address is taken for the host"
            yield context.finding(f.HOST_KEYS, place, "ansible_ssh_common_args", cause)


def _key_problem(key: str) -> tuple[f.Rule, str] | None:
    path = Path(key).expanduser()
    if not path.is_file():
        return f.KEY_FILE, f"there is no key {key}"
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f.KEY_MODE, f"{key} has mode {stat.S_IMODE(path.stat().st_mode):04o}"
    return None


def cluster(context: Context) -> Iterator[Finding]:
    """Servers and agents: how many, who is both, and on what."""
    servers, agents = context.members("skerry_servers"), context.members("skerry_agents")
    group = context.inventory.groups.get("skerry_servers")
    place = group.places[0] if group and group.places else None
    external = any(values.get("k3s_datastore_endpoint") for values in context.hosts.values())
    if servers and len(servers) % 2 == 0 and not external:
        cause = f"skerry_servers has {len(servers)} hosts"
        yield context.finding(f.EVEN_SERVERS, place, "skerry_servers", cause)
    for host in sorted(servers & agents):
        where = context.place_of_member("skerry_agents", host)
        yield context.finding(f.TWO_ROLES, where, host, f"{host} is in skerry_servers and in skerry_agents")
    joined = any(values.get("k3s_server_url") for values in context.hosts.values())
    if agents and not servers and not joined:
        where = context.place_of_member("skerry_agents", min(agents))
        cause = f"{len(agents)} agents and no server to join"
        yield context.finding(f.NO_SERVER, where, "skerry_agents", cause)
    small = context.members("arch_armv7")
    small |= {host for host, values in context.hosts.items() if values.get("sandbox_arch") in ("armv7", "arm")}
    for host in sorted(servers & small):
        where = context.place_of_member("skerry_servers", host)
        yield context.finding(f.SERVER_ARMV7, where, host, f"server {host} is 32-bit ARM")


def places(context: Context) -> Iterator[Finding]:
    """Types, regions and zones: contradictions, and hosts that were forgotten."""
    for host in sorted(context.members("skerry_cloud") & context.members("skerry_edge")):
        where = context.place_of_member("skerry_edge", host) or context.place_of_host(host)
        yield context.finding(f.TWO_TYPES, where, host, f"{host} is in skerry_cloud and in skerry_edge")
    if context.effective is None:
        return  # regions and zones come from groups as a rule: only Ansible merges those
    regions: dict[str, str] = {}
    for key in ("skerry_region", "skerry_zone"):
        without = [host for host, values in context.hosts.items() if not values.get(key)]
        if 0 < len(without) < len(context.hosts):
            for host in without:
                cause = f"{host} has no {key}; {len(context.hosts) - len(without)} other hosts have one"
                yield context.finding(f.NO_PLACE, context.place_of_host(host), key, cause)
    for host, values in context.hosts.items():
        region, zone = str(values.get("skerry_region") or ""), str(values.get("skerry_zone") or "")
        if not region or not zone:
            continue
        if regions.setdefault(zone, region) != region:
            cause = f"zone {zone} of {host} is in region {region}, for other hosts in {regions[zone]}"
            yield context.finding(f.ZONE_TWICE, context.place_of_host(host, "skerry_zone"), "skerry_zone", cause)
