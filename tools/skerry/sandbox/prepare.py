"""Everything that a sandbox needs before its containers, in one step: engine, images, keys, settings."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from skerry import paths
from skerry.errors import SkerryError
from skerry.sandbox import emulation, engine, images, keys, limits, linking, logins, machine, settings
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.spec import Host, Sandbox

SANDBOX_LABEL = "dev.skerry.sandbox"
PROJECT_LABEL = "dev.skerry.project"
DEFINITION_LABEL = "dev.skerry.definition"


def _entry() -> str:
    return (paths.root() / "playbooks" / "files" / "sandbox" / "entry.sh").read_text(encoding="utf-8")


def _names(sandbox: Sandbox) -> str:
    return "".join(f"{host.address} {host.name}\n" for host in sandbox.hosts.values())


def _definition(sandbox: Sandbox, host: Host, image: str, around: list[str]) -> str:
    """Digest of what a container is made from; its volume carries it in its name, so a new container never meets the
    old one's /var/lib (dpkg would believe in packages that are gone)."""
    parts = [image, host.memory, host.cpus, host.address, str(sandbox.subnet), str(sandbox.state), around]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def check_owner(sandbox: Sandbox, docker: Docker) -> None:
    """A sandbox of this name that another checkout made must not be taken over by accident.

    What is left of one, its keys gone or none of its hosts running (the machine was started anew), belongs to nobody.

    Raises:
        SkerryError: SANDBOX_011.
    """
    hosts = docker.by_label("containers", f"{SANDBOX_LABEL}={sandbox.name}")
    if not any(host.get("State") == "running" for host in hosts):
        return
    for network in docker.by_label("networks", f"{SANDBOX_LABEL}={sandbox.name}"):
        owner = (network.get("Labels") or {}).get(PROJECT_LABEL, "")
        if owner and owner != str(sandbox.state) and Path(owner).exists():
            raise SkerryError(
                "SANDBOX_011",
                f"a sandbox {sandbox.name!r} of another inventory is up (its keys: {owner})",
                f"take it down there, or use another name: skerry sandbox up --name {sandbox.name}-2",
            )


def check_network(sandbox: Sandbox, docker: Docker) -> None:
    """The sandbox's addresses must be nobody else's.

    Raises:
        SkerryError: SANDBOX_023 names the Docker network that has them.
    """
    for network in docker.call("GET", "/networks"):
        for part in (network.get("IPAM") or {}).get("Config") or []:
            subnet = part.get("Subnet", "")
            if network["Name"] == sandbox.name or "." not in subnet:
                continue
            if sandbox.subnet.overlaps(ipaddress.IPv4Network(subnet, strict=False)):
                raise SkerryError(
                    "SANDBOX_023",
                    f"the addresses of sandbox {sandbox.name!r} ({sandbox.subnet}) belong to Docker's network "
                    f"{network['Name']!r} ({subnet})",
                    "set another sandbox_subnet (and ansible_host of its hosts), or remove that network",
                )


def _remove_outdated(sandbox: Sandbox, wanted: dict[str, str], docker: Docker) -> bool:
    """Remove containers whose definition changed, and those of hosts that left the inventory; with their volumes."""
    gone = []
    for container in docker.by_label("containers", f"{SANDBOX_LABEL}={sandbox.name}"):
        host, made = container["Labels"].get("dev.skerry.host", ""), container["Labels"].get(DEFINITION_LABEL)
        if host not in sandbox.hosts or (host in wanted and made != wanted[host]):
            linking.unset(sandbox, host)
            if host in sandbox.hosts:
                logins.close({sandbox.hosts[host].address})
            docker.remove_container(container["Id"])
            docker.call("DELETE", f"/volumes/{sandbox.container(host)}-{made}", missing_ok=True)
            gone.append(host)
    return bool(gone)


def _volumes(sandbox: Sandbox, host: Host, definition: str, view: str) -> list[str]:
    """Mounts of a host: its own disk, what the controller gives it, packages shared between hosts of one release."""
    packages = paths.cache() / "packages" / f"{host.image}-{host.arch}"
    packages.mkdir(parents=True, exist_ok=True)
    mounts = [
        f"{sandbox.container(host.name)}-{definition}:/var/lib",  # nested overlay wants a real file system
        f"{keys.host_folder(sandbox, host.name)}:/etc/skerry-sandbox:ro",
        f"{packages}:/var/skerry/packages",
        "/lib/modules:/lib/modules:ro",
    ]
    return mounts + ([f"{view}:/var/skerry/lxcfs:ro"] if view else [])


def prepare(sandbox: Sandbox, chosen: Iterable[str]) -> dict[str, Any]:
    """Prepare ``chosen`` hosts of ``sandbox``.

    Returns:
        ``changed``; ``cap_drop``; ``gateway``; ``keys_folder``; ``hosts``: for each chosen host its ``image``,
        ``platform``, ``memory``, ``cpus``, ``volumes`` and ``definition``; ``settings``: see `settings.prepare`.
    """
    changed = engine.ensure()
    docker = Docker()
    check_owner(sandbox, docker)
    check_network(sandbox, docker)
    settled = settings.prepare(Path(docker.call("GET", "/info")["DockerRootDir"]))
    hosts = [sandbox.hosts[name] for name in chosen]
    kinds = sorted({(host.image, host.arch) for host in hosts})
    definitions = {kind: images.define(*kind) for kind in kinds}
    for _, arch in kinds:
        emulation.ensure(arch)
    with ThreadPoolExecutor(max_workers=len(kinds) or 1) as pool:
        changed |= any(list(pool.map(lambda kind: images.ensure(definitions[kind], docker), kinds)))
    files = {
        "entry.sh": _entry(),
        "resolv.conf": machine.name_servers(),
        "apt-proxy.conf": machine.apt_proxies(),
        "hosts": _names(sandbox),
    }
    changed |= keys.ensure(sandbox, files)
    cap_drop, view = machine.lacking_capabilities(), limits.ensure(docker, sandbox.name)
    made, wanted = {}, {}
    for host in hosts:
        image = definitions[(host.image, host.arch)].image
        wanted[host.name] = _definition(sandbox, host, image, [*cap_drop, view])
        made[host.name] = {
            "image": image,
            "platform": docker.image_platform(image),
            "memory": host.memory,
            "cpus": host.cpus,
            "definition": wanted[host.name],
            "volumes": _volumes(sandbox, host, wanted[host.name], view),
        }
    changed |= _remove_outdated(sandbox, wanted, docker)
    return {
        "changed": changed,
        "cap_drop": cap_drop,
        "gateway": sandbox.gateway,
        "hosts": made,
        "keys_folder": str(sandbox.state),
        "settings": settled,
    }
