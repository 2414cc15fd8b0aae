"""What of a sandbox is there: its hosts, whether they can be logged in to, and what their links really do."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skerry.errors import Exit, SkerryError
from skerry.sandbox import engine, linking, links, measure, spec
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.spec import Host, Sandbox

LOGIN_SECONDS = 8


@dataclass(frozen=True)
class HostStatus:
    """One host as found. Sizes in bytes; ``login_seconds`` None when nobody can log in (``problem`` says why)."""

    name: str
    address: str
    release: str
    arch: str
    cpus: float
    memory: int
    memory_used: int | None
    state: str
    login_seconds: float | None
    problem: str
    link_asked: str
    link_method: str
    link_in_force: bool
    link_measured: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _plain(value: Any) -> Any:
    """ansible-inventory wraps strings that came from expressions."""
    return value.get("__ansible_unsafe", value) if isinstance(value, dict) else value


def load(inventory: Path) -> Sandbox:
    """The sandbox that an inventory describes.

    Raises:
        SkerryError: SANDBOX_016 (it cannot be read, or has no sandbox hosts), SANDBOX_010 (a value is wrong).
    """
    command = ["ansible-inventory", "-i", str(inventory), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SkerryError(
            "SANDBOX_016",
            f"{inventory} cannot be read: {done.stderr.strip()[-300:]}",
            f"skerry inventory check -i {inventory} says what is wrong",
        )
    data = json.loads(done.stdout)
    names = data.get("skerry_sandbox", {}).get("hosts", [])
    if not names:
        raise SkerryError(
            "SANDBOX_016", f"{inventory} has no host in the group skerry_sandbox", "make hosts first: skerry sandbox up"
        )
    every = {
        name: {key: _plain(value) for key, value in data["_meta"]["hostvars"].get(name, {}).items()} for name in names
    }
    hosts = {
        name: {
            "address": values.get("ansible_host"),
            **{key: values.get(f"sandbox_{key}") for key in ("image", "arch", "memory", "cpus", "link")},
        }
        for name, values in every.items()
    }
    first = every[names[0]]
    return spec.parse(first["sandbox_name"], first["sandbox_subnet"], first["sandbox_keys"], hosts)


def ssh_command(sandbox: Sandbox, host: str) -> list[str]:
    """The ssh command that logs in to ``host``, its key checked."""
    return ["ssh", "-F", str(sandbox.state / "ssh_config"), host]


def _login(sandbox: Sandbox, host: str) -> tuple[float | None, str]:
    if not (sandbox.state / "ssh_config").exists():
        return None, "no keys: never made, or taken down"
    command = ssh_command(sandbox, host)
    command[1:1] = ["-o", f"ConnectTimeout={LOGIN_SECONDS}", "-o", "BatchMode=yes"]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*command, "sudo", "-n", "true"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=3 * LOGIN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None, "no answer"
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return time.monotonic() - started, ""


def _one(sandbox: Sandbox, host: Host, docker: Docker, measured: bool) -> HostStatus:
    container = docker.call("GET", f"/containers/{sandbox.container(host.name)}/json", missing_ok=True)
    state = container["State"]["Status"] if container else "absent"
    asked = links.parse(host.link)
    used: int | None = None
    seconds, problem, seen, pid = None, state, None, 0
    if state == "running":
        pid = int(container["State"]["Pid"])
        query = {"stream": "false", "one-shot": "true"}
        used = docker.call("GET", f"/containers/{container['Id']}/stats", query)["memory_stats"].get("usage")
        seconds, problem = _login(sandbox, host.name)
        if measured and seconds is not None:
            seen = measure.link(ssh_command(sandbox, host.name), sandbox.gateway, asked, streams=asked.shapes).as_dict()
    note = linking.read_note(sandbox, host.name) or {}
    return HostStatus(
        host.name,
        host.address,
        host.image,
        host.arch,
        host.cpus,
        host.memory,
        used,
        state,
        None if seconds is None else round(seconds, 3),
        problem if seconds is None else "",
        str(asked),
        str(note.get("method", "")),
        not asked.shapes or linking.in_force(sandbox, host.name, pid),
        seen,
    )


def collect(sandbox: Sandbox, measured: bool) -> list[HostStatus]:
    """All hosts of a sandbox; ``measured`` sends packets over every host's link (a few seconds)."""
    docker = Docker()
    if not engine.answers(docker):
        raise SkerryError(
            "SANDBOX_002", "Docker Engine does not run: there are no hosts", "skerry sandbox up", Exit.PREREQUISITE
        )
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda host: _one(sandbox, host, docker, measured), sandbox.hosts.values()))
