"""Puts asked links in force, and takes them away: netem where the kernel has it, else tbf and the relay."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.sandbox import links
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.keys import write_if_changed
from skerry.sandbox.links import Link
from skerry.sandbox.spec import Sandbox

START_SECONDS = 10.0


@dataclass(frozen=True)
class Port:
    """Where a running host is plugged in: its first process, the outer end of its pair, the bridge."""

    pid: int
    outer: str
    bridge: str


def _notes(sandbox: Sandbox) -> Path:
    return sandbox.state / "links"


def read_note(sandbox: Sandbox, host: str) -> dict[str, Any] | None:
    """What is in force for ``host``: ``link``, ``method``, ``outer``, ``pid`` (of the host), ``relay``; or None."""
    try:
        note: dict[str, Any] = json.loads((_notes(sandbox) / f"{host}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return note


def relay_lives(note: dict[str, Any]) -> bool:
    """Whether the noted relay process still runs (the process id may have another owner by now)."""
    try:
        return b"skerry.sandbox.relay" in Path(f"/proc/{int(note['relay'])}/cmdline").read_bytes()
    except OSError:
        return False


def in_force(sandbox: Sandbox, host: str, pid: int) -> bool:
    """Whether what the note says still stands for the container whose first process is ``pid``."""
    note = read_note(sandbox, host)
    return bool(note and note["pid"] == pid and (not note["relay"] or relay_lives(note)))


def port_of(sandbox: Sandbox, host: str, docker: Docker) -> Port | None:
    """The host's port; None when it does not run."""
    container = docker.call("GET", f"/containers/{sandbox.container(host)}/json", missing_ok=True)
    if container is None or not container["State"]["Running"]:
        return None
    pid = int(container["State"]["Pid"])
    peer = int(Path(f"/proc/{pid}/root/sys/class/net/eth0/iflink").read_text(encoding="ascii"))
    outer = next(
        device.name
        for device in Path("/sys/class/net").iterdir()
        if int((device / "ifindex").read_text(encoding="ascii")) == peer
    )
    network = docker.call("GET", f"/networks/{sandbox.name}")
    bridge = (network.get("Options") or {}).get("com.docker.network.bridge.name") or f"br-{network['Id'][:12]}"
    return Port(pid, outer, bridge)


def _tc(pid: int, *words: str) -> str:
    """Run tc on the outer end (``pid`` 0) or inside the host's network; the error text, '' for success."""
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []
    done = subprocess.run([*inside, "tc", *words], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")


def _ends(port: Port, link: Link) -> list[tuple[int, str, float]]:
    """(namespace, device, Mbit/s) of both directions: towards the host, from the host."""
    return [(0, port.outer, link.down), (port.pid, "eth0", link.up)]


def _netem(port: Port, link: Link) -> bool:
    """Try netem at both ends; False where this kernel has none."""
    for pid, device, mbit in _ends(port, link):
        words = ["netem", "limit", "20000", "delay", f"{link.latency}ms", f"{link.jitter}ms", "loss", f"{link.loss}%"]
        words += ["rate", f"{mbit}mbit"] if mbit else []
        if _tc(pid, "qdisc", "replace", "dev", device, "root", *words):
            _clear(port)
            return False
    return True


def _tbf(port: Port, link: Link) -> bool:
    """Rate limits by tbf at both ends; False where this kernel has none."""
    for pid, device, mbit in _ends(port, link):
        burst = max(8 * 1514, int(mbit * 1e6 / 8 * 0.005))  # 5 ms of the rate, never less than some frames
        words = ["tbf", "rate", f"{mbit}mbit", "burst", str(burst), "latency", f"{links.QUEUE_SECONDS * 1000:g}ms"]
        if mbit and _tc(pid, "qdisc", "replace", "dev", device, "root", *words):
            _clear(port)
            return False
    return True


def _clear(port: Port) -> None:
    for pid, device, _ in _ends(port, Link()):
        _tc(pid, "qdisc", "del", "dev", device, "root")  # an end without one says so: nothing to do


def _start_relay(sandbox: Sandbox, host: str, port: Port, link: Link) -> int:
    """Start the relay in the background; its process id."""
    asked = {
        "sandbox": sandbox.name,
        "outer": port.outer,
        "bridge": port.bridge,
        "pid": port.pid,
        "link": link.as_dict(),
    }
    environment = {**os.environ, "PYTHONPATH": str(paths.root() / "tools"), "PYTHONDONTWRITEBYTECODE": "1"}
    with (_notes(sandbox) / f"{host}.log").open("wb") as log:
        relay = subprocess.Popen(
            [sys.executable, "-m", "skerry.sandbox.relay", json.dumps(asked)],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    assert relay.stdout is not None
    ready, _, _ = select.select([relay.stdout], [], [], START_SECONDS)
    said = relay.stdout.readline().strip() if ready else b""
    relay.stdout.close()
    if said != b"ready":
        relay.kill()
        relay.wait()
        text = (_notes(sandbox) / f"{host}.log").read_text(errors="replace").strip()[-400:]
        raise SkerryError(
            "SANDBOX_022",
            f"host {host}: the relay of its link does not start: {text or 'no answer'}",
            "check that /dev/net/tun exists and that this is root; without --link hosts have a plain link",
            Exit.FAILED,
        )
    return relay.pid


def _set(sandbox: Sandbox, host: str, port: Port, link: Link) -> None:
    relay = 0
    if _netem(port, link):
        method = "netem"
    else:
        rated = not (link.down or link.up) or _tbf(port, link)
        method = "tbf" if rated and (link.down or link.up) else ""
        if link.delays or not rated:
            # A kernel without tbf: the relay limits the rate as well.
            wanted = Link(link.latency, link.jitter, link.loss) if rated else link
            relay = _start_relay(sandbox, host, port, wanted)
            method = f"{method}+relay".removeprefix("+")
    note = {
        "link": link.as_dict(),
        "method": method,
        "outer": port.outer,
        "bridge": port.bridge,
        "pid": port.pid,
        "relay": relay,
    }
    write_if_changed(_notes(sandbox) / f"{host}.json", json.dumps(note) + "\n")


def unset(sandbox: Sandbox, host: str) -> bool:
    """Take a host's link emulation away: end its relay (which plugs the host in again), remove the rate limits."""
    note = read_note(sandbox, host)
    if note is None:
        return False
    if note["relay"] and relay_lives(note):
        os.kill(note["relay"], signal.SIGTERM)
        deadline = time.monotonic() + 5
        while relay_lives(note) and time.monotonic() < deadline:
            time.sleep(0.02)
        if relay_lives(note):
            os.kill(note["relay"], signal.SIGKILL)
    if Path(f"/sys/class/net/{note['outer']}").exists():
        _clear(Port(int(note["pid"]), note["outer"], note["bridge"]))
    for name in (f"{host}.json", f"{host}.log"):
        (_notes(sandbox) / name).unlink(missing_ok=True)
    return True


def apply(sandbox: Sandbox, chosen: list[str], docker: Docker) -> list[str]:
    """Bring the links of ``chosen`` hosts to what is asked; names of hosts where something had to be done.

    Raises:
        SkerryError: SANDBOX_020 (a link that cannot be read), SANDBOX_021 (not root), SANDBOX_022 (no relay).
    """
    wanted = {name: links.parse(sandbox.hosts[name].link) for name in chosen}
    changed = []
    for name, link in wanted.items():
        note = read_note(sandbox, name)
        if note is None and not link.shapes:
            continue
        port = port_of(sandbox, name, docker)
        if port is None:
            continue
        if note and links.same(link, note["link"]) and in_force(sandbox, name, port.pid):
            continue
        if os.geteuid() != 0:
            raise SkerryError(
                "SANDBOX_021",
                f"host {name}: only root can emulate a link",
                "run this command as root, or leave sandbox_link empty",
                Exit.PREREQUISITE,
            )
        _notes(sandbox).mkdir(exist_ok=True)
        unset(sandbox, name)
        if link.shapes:
            _set(sandbox, name, port_of(sandbox, name, docker) or port, link)
        changed.append(name)
    return changed
