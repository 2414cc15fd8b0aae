"""Removes hosts and everything that belongs to them; with the last one also network, keys and changed settings."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from skerry.sandbox import engine, keys, limits, linking, machine
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.prepare import SANDBOX_LABEL, check_owner
from skerry.sandbox.spec import Sandbox


def remove(sandbox: Sandbox, chosen: list[str], docker: Docker, check: bool) -> dict[str, Any]:
    """Remove ``chosen`` hosts; ``changed`` tells whether there was anything. With ``check`` nothing is removed."""
    if not engine.answers(docker):
        return {"changed": False, "msg": "Docker Engine does not run: there are no hosts"}
    check_owner(sandbox, docker)
    label = f"{SANDBOX_LABEL}={sandbox.name}"
    containers = docker.by_label("containers", label)
    mine = [box for box in containers if box["Labels"].get("dev.skerry.host") in chosen]
    last = len(mine) == len(containers)
    networks = docker.by_label("networks", label) if last else []
    changed = bool(mine or networks or (last and sandbox.state.exists()))
    if check or not changed:
        return {"changed": changed}
    for box in mine:
        linking.unset(sandbox, box["Labels"]["dev.skerry.host"])
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda box: docker.remove_container(box["Id"]), mine))
    prefixes = tuple(f"{sandbox.container(host)}-" for host in chosen)
    for volume in docker.call("GET", "/volumes")["Volumes"] or []:
        if volume["Name"].startswith(prefixes):
            docker.call("DELETE", f"/volumes/{volume['Name']}", missing_ok=True)
    for host in chosen:
        shutil.rmtree(keys.host_folder(sandbox, host), ignore_errors=True)
    restored: list[str] = []
    if last:
        for network in networks:
            docker.call("DELETE", f"/networks/{network['Id']}", missing_ok=True)
        if sandbox.state.exists():
            shutil.rmtree(sandbox.state)
        others = [box for box in docker.call("GET", "/containers/json", {"all": "1"})
                  if SANDBOX_LABEL in (box.get("Labels") or {})]
        if not others:
            limits.stop()
            restored = machine.restore_sysctls()
    return {"changed": True, "restored": restored}
