"""What the inventory asks for: one sandbox of several hosts, checked before anything is made."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.errors import SkerryError
from skerry.sandbox.images import ARCHITECTURES, RELEASES

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,50}[a-z0-9])?")
_SIZE = re.compile(r"([0-9]+)([KMGkmg]?)[iI]?[bB]?")
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
#: What systemd, sshd and Ansible's Python need before anything runs.
LEAST_MEMORY = 128 << 20


@dataclass(frozen=True)
class Host:
    """One host as asked for. ``memory`` in bytes, ``cpus`` in cores, ``link`` a preset or settings ('' for none)."""

    name: str
    address: str
    image: str
    arch: str
    memory: int
    cpus: float
    link: str


@dataclass(frozen=True)
class Sandbox:
    """A sandbox: its name, network, place for keys, and every host of its inventory."""

    name: str
    subnet: ipaddress.IPv4Network
    state: Path
    hosts: dict[str, Host]

    def container(self, host: str) -> str:
        return f"{self.name}-{host}"

    @property
    def gateway(self) -> str:
        """This machine's address in the sandbox's network."""
        return str(next(self.subnet.hosts()))


def _bad(cause: str, remedy: str) -> SkerryError:
    return SkerryError("SANDBOX_010", cause, remedy)


def size(text: object) -> int:
    """Bytes of ``512M``, ``2G``, ``1024``; raises SANDBOX_010."""
    found = _SIZE.fullmatch(str(text).strip())
    if not found:
        raise _bad(f"sandbox_memory is {text!r}", "write it like 512M or 2G")
    return int(found[1]) * _FACTORS[found[2].lower()]


def _choice(host: str, key: str, value: object, choices: Mapping[str, object]) -> str:
    if value not in choices:
        raise _bad(f"host {host}: {key} is {value!r}", f"choose one of {', '.join(choices)}")
    return str(value)


def _host(name: str, raw: Mapping[str, Any], subnet: ipaddress.IPv4Network) -> Host:
    if not _NAME.fullmatch(name):
        raise _bad(f"host {name!r} cannot be a host name", "use small letters, digits and hyphens")
    try:
        address = ipaddress.IPv4Address(str(raw.get("address")))
    except ValueError as error:
        raise _bad(
            f"host {name}: ansible_host is {raw.get('address')!r}", f"give it an IPv4 address inside {subnet}"
        ) from error
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address, next(subnet.hosts())):
        raise _bad(
            f"host {name}: {address} is no host's address in {subnet}",
            f"choose one from {subnet.network_address + 2} on, or change sandbox_subnet",
        )
    memory, cpus = size(raw.get("memory")), float(str(raw.get("cpus")))
    if memory < LEAST_MEMORY:
        raise _bad(f"host {name}: {memory >> 20} MiB of memory do not boot", "set sandbox_memory to 128M or more")
    if not 0.05 <= cpus <= 1024:
        raise _bad(f"host {name}: sandbox_cpus is {cpus}", "set it between 0.05 and what this machine has")
    return Host(
        name,
        str(address),
        _choice(name, "sandbox_image", raw.get("image"), RELEASES),
        _choice(name, "sandbox_arch", raw.get("arch"), ARCHITECTURES),
        memory,
        cpus,
        str(raw.get("link") or ""),
    )


def parse(name: str, subnet: str, state: str, hosts: Mapping[str, Mapping[str, Any]]) -> Sandbox:
    """A sandbox from the inventory's values.

    Raises:
        SkerryError: SANDBOX_010 names the host and the variable.
    """
    if not _NAME.fullmatch(name):
        raise _bad(f"sandbox_name is {name!r}", "use small letters, digits and hyphens")
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise _bad(f"sandbox_subnet is {subnet!r}: {error}", "write it like 10.213.77.0/24") from error
    made = {host: _host(host, raw, network) for host, raw in hosts.items()}
    owners: dict[str, str] = {}
    for host in made.values():
        if other := owners.get(host.address):
            raise _bad(f"hosts {other} and {host.name} both have {host.address}", "give each host its own ansible_host")
        owners[host.address] = host.name
    return Sandbox(name, network, Path(state).resolve(), made)
