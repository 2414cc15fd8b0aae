"""Replaces the instance of a service with ports while its ports listen: the new one is ready before the relay turns to
it, and the old one goes when its last connection has ended or the time for that is over."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

from . import containers, places, ports, rungs, systemd
from .faults import HostError

Desired = dict[str, Any]
_TICK = 0.1
_CLONE_NEWNET = 0x40000000
#: Connections that a relay has room for, and descriptors that a runtime needs beside its connections: wasmtime's server
#: ends when it has none left.
_MOST, _SPARE = 2000, 32
#: Seconds that connections have to end at most while others wait.
_HELD = 5.0


# -- the relay -------------------------------------------------------------------------------------------------------


def ask(relay: str, message: dict[str, Any]) -> dict[str, Any]:
    """Ask a relay something. Raises HostError (HOST_062)."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(ports.control(relay)))
            link.sendall(json.dumps(message).encode() + b"\n")
            answer: dict[str, Any] = json.loads(link.makefile("rb").readline())
            return answer
    except (OSError, ValueError) as error:
        raise HostError("HOST_062", f"{relay} does not answer: {error}", f"journalctl -u {relay} says more") from error


def connections(desired: Desired) -> int | None:
    """How many connections its ports have now; None when the relay does not say."""
    try:
        counts: dict[str, int] = ask(ports.relay(desired), {"op": "status"})["connections"]
    except HostError:
        return None
    return sum(counts.values())


def prepare(desired: Desired) -> None:
    """Have its ports listen and its relay run. What comes before an instance is in force waits.

    Raises:
        HostError: HOST_060 when something else has a port, HOST_061 when the relay does not start.
    """
    relay = ports.relay(desired)
    if not ports.target(relay).exists():
        places.write(ports.target(relay), json.dumps({"slot": "", "to": [], "most": 0}))
    for one, unit in zip([*ports.of(desired), None], ports.sockets(desired)):
        try:
            systemd.call("start", unit)
        except HostError as error:
            where = f"port {one['port']}" if one else str(ports.control(relay))
            raise HostError("HOST_060", f"{desired['name']}: {where} cannot be opened: something else has it",
                            "ss -ltnp on the host shows what; end it, or choose another port") from error
    try:
        systemd.call("start", relay)
        if connections(desired) is None:
            systemd.call("restart", relay)
    except HostError as error:
        raise HostError("HOST_061", f"{desired['name']}: its relay does not start",
                        f"journalctl -u {relay} on the host says why") from error


def endpoints(desired: Desired) -> list[tuple[str, int]]:
    """Where an instance listens, in the order of the ports."""
    if desired["rung"] == "process":
        return [("127.0.0.1", int(port)) for port in ports.inner(desired, ports.slot(desired))]
    address = rungs.of(desired).address(desired)
    return [(address, containers.inner(one)) for one in ports.of(desired)]


def place(desired: Desired, port: int) -> tuple[str, int]:
    """Where an instance listens for one of its ports, or for another one that it opens itself."""
    mine = dict(zip((one["port"] for one in ports.of(desired)), endpoints(desired)))
    return mine.get(port) or (rungs.of(desired).address(desired), port)


@contextlib.contextmanager
def reached(desired: Desired, unit: dict[str, str]) -> Iterator[None]:
    """Where sockets reach an instance; ``unit``: what systemd says of it. Raises OSError when it has ended."""
    if ports.of(desired) and ports.apart(desired):
        with network_of(int(unit["MainPID"])):
            yield
    else:
        yield


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Within the network namespace of a process: sockets that are made in the block belong there."""
    libc, own = ctypes.CDLL(None, use_errno=True), os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if libc.setns(theirs, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(theirs)
        try:
            yield
        finally:
            if libc.setns(own, _CLONE_NEWNET):
                raise SystemExit("the way back into the host's network failed")
    finally:
        os.close(own)


# -- instances -------------------------------------------------------------------------------------------------------


def instances(name: str) -> list[str]:
    """Instances of a workload that run or did, whatever their revision."""
    said = systemd.call("list-units", "--all", "--plain", "--no-legend", f"skerry-{name}.*@*.service")
    pattern = re.compile(rf"skerry-{re.escape(name)}\.[0-9a-f]{{8}}@(\d)\.service")
    return [word for line in said.splitlines() for word in line.split()[:1] if pattern.fullmatch(word)]


def _slot(unit: str) -> str:
    return unit[-len("1.service")]


def _free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def another(desired: Desired) -> Desired:
    """The workload with a slot that none of its instances has. Raises HostError (HOST_063)."""
    there = {_slot(unit) for unit in instances(desired["name"])} | {ports.slot(desired)}
    for slot in ports.SLOTS:
        shared = desired["rung"] == "process" and not ports.apart(desired)
        if slot not in there and not (shared and not all(map(_free, map(int, ports.inner(desired, slot))))):
            return {**desired, "slot": slot}
    raise HostError("HOST_063", f"{desired['name']}: none of its inner ports is free on this host",
                    "ss -ltnp on the host shows what listens from port 20000 to 29999")  # fmt: skip


def switch(desired: Desired) -> None:
    """Turn the relay to the instance that ``desired`` names; noted first, for a relay that starts anew.

    Raises:
        HostError: HOST_062; it is where it was then.
    """
    relay = ports.relay(desired)
    before = ports.target(relay).read_text()
    most = max(1, min(_MOST, desired["limits"]["open_files"] - _SPARE))
    target = {"slot": ports.slot(desired), "to": endpoints(desired), "most": most}
    places.write(ports.target(relay), json.dumps(target))
    try:
        ask(relay, {"op": "switch", **target})
    except HostError:
        places.write(ports.target(relay), before)
        raise


def hold(desired: Desired) -> None:
    """Have connections wait for the next instance, and those that are under way end."""
    with contextlib.suppress(HostError):  # a relay that does not answer has none
        ask(ports.relay(desired), {"op": "switch", "slot": "", "to": [], "most": 0})
    drain([ports.relay(desired)], "", min(desired["drain"], _HELD))


def point(desired: Desired) -> None:
    """After a start: an instance in force may have another address than before."""
    known = json.loads(ports.target(ports.relay(desired)).read_text())
    if known["slot"] == ports.slot(desired) and known["to"] != [list(one) for one in endpoints(desired)]:
        switch(desired)


def drain(relays: Iterable[str], keep: str, seconds: float) -> None:
    """Wait until no connection belongs to any but the slot ``keep``, at most so long."""
    deadline = time.monotonic() + seconds
    for relay in relays:
        with contextlib.suppress(HostError):  # one that does not answer has no connections
            while time.monotonic() < deadline:
                counts = ask(relay, {"op": "status"})["connections"]
                if not any(number for slot, number in counts.items() if slot not in ("", keep)):
                    break
                time.sleep(_TICK)


def close(units: Iterable[str], seconds: float) -> None:
    """Have ports listen no more, and let their connections end; ``units``: all of a workload that goes, or of a
    former revision."""
    gone = list(units)
    listening = [unit for unit in gone if ".port." in unit]
    relays = [unit for unit in gone if ".relay." in unit and unit.endswith(".service")]
    if listening:
        systemd.call("stop", "--", *listening, check=False)
    for relay in relays:
        with contextlib.suppress(HostError):
            ask(relay, {"op": "close"})
    drain(relays, "", seconds)


def retire(desired: Desired, former: Iterable[str]) -> None:
    """Let connections of former instances end, then stop them. ``former``: units that the new revision has not."""
    gone = list(former)
    seconds = desired.get("drain") or 0.0
    close(gone, seconds)
    if ports.of(desired):
        mine = ports.slot(desired)
        drain([ports.relay(desired)], mine, seconds)
        old = [unit for unit in instances(desired["name"]) if _slot(unit) != mine]
        if old:
            systemd.call("stop", "--", *old, check=False)
            systemd.call("reset-failed", "--", *old, check=False)
