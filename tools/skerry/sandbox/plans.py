"""What `skerry sandbox up` was asked for, and the inventory files that say so to Ansible.

The default sandbox is inventories/sandbox: its three hosts are in the tree, what is asked beyond them goes to
``zz_generated.yml`` beside them. A sandbox of another name has an inventory of its own under ``.skerry/inventories``.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from skerry import paths
from skerry.errors import SkerryError
from skerry.sandbox import k3s_source, links
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.engine import answers

DEFAULT = "skerry"
#: Edge hosts of the tree's inventory; their addresses end in .21 and .22, further ones follow.
TREE_EDGES = 2
MOST_EDGES = 200
ARM64_HOST = "edge-arm64"
_MARK = "# plan: "
_HEADER = "---\n# Written by `skerry sandbox up`, removed by `skerry sandbox down`; not for hand edits.\n"


@dataclass(frozen=True)
class Plan:
    """A sandbox as asked for: its name, number of edge hosts, whether with an arm64 host, links by host."""

    name: str = DEFAULT
    edge: int = TREE_EDGES
    arm64: bool = False
    links: dict[str, str] = field(default_factory=dict)

    def edge_hosts(self) -> list[str]:
        return [f"edge-{number}" for number in range(1, self.edge + 1)] + ([ARM64_HOST] if self.arm64 else [])

    def hosts(self) -> list[str]:
        return ["cloud-1", *self.edge_hosts()]


def folder(name: str) -> Path:
    """The inventory of a sandbox."""
    return paths.root() / "inventories" / "sandbox" if name == DEFAULT else paths.state() / "inventories" / name


def _generated(name: str) -> Path:
    return folder(name) / ("zz_generated.yml" if name == DEFAULT else "hosts.yml")


def stored(name: str) -> Plan | None:
    """The plan that is written in the inventory; None where `up` has written none."""
    try:
        lines = _generated(name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    marked = next((line for line in lines if line.startswith(_MARK)), None)
    if marked is None:
        raise SkerryError(
            "SANDBOX_012",
            f"{_generated(name)} was not written by skerry sandbox up",
            "move it away, then run the command again",
        )
    return Plan(**json.loads(marked.removeprefix(_MARK)))


def known() -> list[str]:
    """Names of sandboxes that have an inventory (the default one always has)."""
    place = paths.state() / "inventories"
    return [DEFAULT, *sorted(item.name for item in place.iterdir() if item.is_dir())] if place.exists() else [DEFAULT]


def revise(plan: Plan, edge: int | None, arm64: bool, asked: list[str]) -> Plan:
    """``plan`` with what a command line asks now; what it does not mention stays.

    Raises:
        SkerryError: SANDBOX_013 (number of hosts), SANDBOX_014 (link of no host), SANDBOX_020 (a link's text).
    """
    least = TREE_EDGES if plan.name == DEFAULT else 0
    if edge is not None and not least <= edge <= MOST_EDGES:
        raise SkerryError(
            "SANDBOX_013",
            f"--edge {edge}: the sandbox {plan.name!r} takes {least} to {MOST_EDGES}",
            "the default inventory has two edge hosts; fewer: --name NAME --edge N",
        )
    plan = replace(plan, edge=plan.edge if edge is None else edge, arm64=plan.arm64 or arm64)
    wanted = {host: link for host, link in plan.links.items() if host in plan.hosts()}
    for text in asked:
        pattern, equals, link = text.partition("=")
        matched = fnmatch.filter(plan.hosts(), pattern)
        if not equals or not matched:
            raise SkerryError(
                "SANDBOX_014",
                f"--link {text}: there is no host {pattern!r}",
                f"write HOST=LINK; hosts: {', '.join(plan.hosts())} (* and ? match several)",
            )
        links.parse(link)
        wanted.update(dict.fromkeys(matched, link))
    return replace(plan, links=wanted)


def _place(host: str, index: int, network: ipaddress.IPv4Network) -> dict[str, Any]:
    """Variables of a host that is not in the tree."""
    if host == "cloud-1":
        return {
            "ansible_host": str(network[11]),
            "sandbox_image": "debian13",
            "sandbox_memory": "3G",
            "sandbox_cpus": 2,
            "skerry_zone": "eu-core",
        }
    if host == ARM64_HOST:
        # Emulated programs need more room than their memory would on a real board.
        return {
            "ansible_host": str(network[12]),
            "sandbox_image": "debian12",
            "sandbox_arch": "arm64",
            "sandbox_memory": "1G",
            "sandbox_cpus": 2,
            "skerry_zone": "eu-shore",
        }
    return {
        "ansible_host": str(network[20 + index]),
        "sandbox_image": "debian12" if index % 2 else "debian13",
        "skerry_zone": "eu-shore",
    }


def architecture(host: str) -> str:
    """Architecture of a host of a plan, by its name in package archives."""
    return "arm64" if host == ARM64_HOST else "amd64"


def document(plan: Plan, subnet: str, keys: Path | None) -> dict[str, Any]:
    """The inventory of ``plan`` as data: all of it (``keys`` given), or what the tree's inventory lacks."""
    network = ipaddress.IPv4Network(subnet)
    whole = keys is not None
    fresh = [host for host in plan.hosts() if whole or host not in ("cloud-1", "edge-1", "edge-2")]
    hosts: dict[str, dict[str, Any]] = {}
    for host in plan.hosts():
        number = host.removeprefix("edge-")
        values = _place(host, int(number) if number.isdigit() else 0, network) if host in fresh else {}
        if link := plan.links.get(host):
            values["sandbox_link"] = link
        values.update(k3s_source.variables(architecture(host)))
        hosts[host] = values
    sandbox: dict[str, Any] = {"hosts": hosts}
    if keys is not None:
        checked = f"-o UserKnownHostsFile={keys}/known_hosts -o StrictHostKeyChecking=yes"
        sandbox["vars"] = {
            "sandbox_name": plan.name,
            "sandbox_subnet": subnet,
            "sandbox_keys": str(keys),
            "ansible_ssh_private_key_file": f"{keys}/id_ed25519",
            "ansible_ssh_common_args": f"{checked} -o IdentitiesOnly=yes -o PreferredAuthentications=publickey",
        }
    cloud = {"hosts": {host: None for host in fresh if host == "cloud-1"}}
    edge = {"hosts": {host: None for host in fresh if host != "cloud-1"}}
    groups = {"skerry_servers": cloud, "skerry_cloud": cloud, "skerry_agents": edge, "skerry_edge": edge}
    children = {name: json.loads(json.dumps(group)) for name, group in groups.items() if group["hosts"]}
    return {"all": {"children": {**children, "skerry_sandbox": sandbox}}}


def _free_subnet(name: str) -> str:
    """A network that no Docker network uses, the same one again for a sandbox that is up."""
    docker = Docker()
    taken: list[ipaddress.IPv4Network] = []
    if answers(docker):
        for network in docker.call("GET", "/networks"):
            for part in (network.get("IPAM") or {}).get("Config") or []:
                if "." in part.get("Subnet", ""):
                    if network["Name"] == name:
                        return str(part["Subnet"])
                    taken.append(ipaddress.IPv4Network(part["Subnet"], strict=False))
    for third in range(100, 250):
        candidate = ipaddress.IPv4Network(f"10.213.{third}.0/24")
        if not any(candidate.overlaps(other) for other in taken):
            return str(candidate)
    raise SkerryError(
        "SANDBOX_015",
        "no network 10.213.100.0/24 to 10.213.249.0/24 is free",
        "take sandboxes down that are not needed: docker network ls",
    )


def write(plan: Plan) -> Path:
    """Write the inventory of ``plan``; its folder, for ``-i``."""
    place = folder(plan.name)
    place.mkdir(parents=True, exist_ok=True)
    if plan.name == DEFAULT:
        data = document(plan, "10.213.77.0/24", None)
    else:
        data = document(plan, _free_subnet(plan.name), paths.state() / "sandbox" / plan.name)
        link = place / "group_vars"
        if not link.exists():
            link.symlink_to(paths.root() / "inventories" / "sandbox" / "group_vars")
    text = f"{_HEADER}{_MARK}{json.dumps(asdict(plan))}\n{yaml.safe_dump(data, sort_keys=False, width=120)}"
    beside = _generated(plan.name).with_name(".generated.new")
    beside.write_text(text, encoding="utf-8")
    beside.rename(_generated(plan.name))
    return place


def forget(name: str) -> None:
    """Remove what `write` wrote."""
    if name == DEFAULT:
        _generated(name).unlink(missing_ok=True)
    elif folder(name).exists():
        shutil.rmtree(folder(name))
