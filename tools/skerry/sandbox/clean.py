"""Removes hosts and everything that belongs to them; with the last one also network, keys and changed settings."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from skerry.errors import Exit, SkerryError
from skerry.sandbox import emulation, engine, keys, limits, linking, logins, settings
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.prepare import SANDBOX_LABEL, check_owner
from skerry.sandbox.spec import Sandbox


def _hosts(boxes: list[dict[str, Any]]) -> list[str]:
    return [str(box["Labels"].get("dev.skerry.host", "")) for box in boxes]


def remove_volumes(docker: Docker, prefixes: list[str]) -> None:
    """Remove the volumes whose names are one of ``prefixes`` and a definition's digest."""
    names = re.compile("(?:" + "|".join(re.escape(prefix) for prefix in prefixes) + ")[0-9a-f]{12}")
    for volume in docker.call("GET", "/volumes")["Volumes"] or []:
        if prefixes and names.fullmatch(volume["Name"]):
            docker.call("DELETE", f"/volumes/{volume['Name']}", missing_ok=True)


def remove(sandbox: Sandbox, chosen: list[str], docker: Docker, check: bool) -> dict[str, Any]:
    """Remove ``chosen`` hosts; ``changed`` tells whether there was anything. With ``check`` nothing is removed.

    Raises:
        SkerryError: SANDBOX_011 (another inventory's sandbox), SANDBOX_024 (the engine does not run).
    """
    if not engine.answers(docker):
        if sandbox.state.exists():
            raise SkerryError(
                "SANDBOX_024",
                f"Docker Engine does not run; what is left of the sandbox {sandbox.name!r} cannot be removed",
                "start the engine (sudo systemctl start docker, or: skerry sandbox up), then take the sandbox down",
                Exit.PREREQUISITE,
            )
        return {"changed": False, "msg": "Docker Engine does not run: there are no hosts"}
    check_owner(sandbox, docker)
    label = f"{SANDBOX_LABEL}={sandbox.name}"
    containers = docker.by_label("containers", label)
    # With all hosts of the inventory go those that left it since they were made.
    whole = set(chosen) >= set(sandbox.hosts)
    mine = [box for box in containers if whole or box["Labels"].get("dev.skerry.host") in chosen]
    last = whole or len(mine) == len(containers)
    networks = docker.by_label("networks", label) if last else []
    changed = bool(mine or networks or (last and sandbox.state.exists()))
    if check or not changed:
        return {"changed": changed}
    logins.close({sandbox.hosts[host].address for host in chosen if host in sandbox.hosts})
    for box in mine:
        linking.unset(sandbox, box["Labels"]["dev.skerry.host"])
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda box: docker.remove_container(box["Id"]), mine))
    remove_volumes(docker, [f"{sandbox.container(host)}-" for host in {*chosen, *_hosts(mine)}])
    for host in chosen:
        shutil.rmtree(keys.host_folder(sandbox, host), ignore_errors=True)
    restored: list[str] = []
    if last:
        for network in networks:
            docker.call("DELETE", f"/networks/{network['Id']}", missing_ok=True)
        if sandbox.state.exists():
            shutil.rmtree(sandbox.state)
        others = [
            box
            for box in docker.call("GET", "/containers/json", {"all": "1"})
            if SANDBOX_LABEL in (box.get("Labels") or {})
        ]
        if not others:
            limits.stop()
            emulation.stop()
            restored = settings.restore()
    return {"changed": True, "restored": restored}
