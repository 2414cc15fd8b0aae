"""The rung process: workloads as systemd units. A service's new revision is ready before the old one goes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import argv, directories, handover, places, ports, records, rungs, store, systemd, units
from .faults import HostError

Desired = dict[str, Any]
#: Seconds that a service without a readiness check must have run.
SETTLED = 1.0
#: Bytes of a workload's last lines that are looked at here: this runs outside of its limits.
_MOST = 256 << 10
_TICK = 0.1
_WANTS = {".service": "multi-user.target.wants", ".timer": "timers.target.wants", ".socket": "sockets.target.wants"}


def write_secrets(desired: Desired, values: dict[str, bytes]) -> None:
    """Write a revision's secrets, readable by root alone; systemd hands them on."""
    place = units.secrets(desired)
    if not values:
        return
    place.mkdir(parents=True, exist_ok=True)
    for folder in (place.parent, place):
        os.chmod(folder, 0o700)
    environment = ""
    for one in desired["secrets"]:
        value = values[one["name"]]
        if one["mount"]:
            path = place / one["name"]
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(value)
        else:
            text = re.sub(r'([\\"$`])', r"\\\1", value.decode("utf-8", "surrogateescape"))
            environment += f'{one["name"]}="{text}"\n'
    if environment:
        places.write(place / "environment", environment, 0o600)


def _link(unit: str) -> Path:
    return places.UNITS / _WANTS[Path(unit).suffix] / unit


def write(desired: Desired) -> bool:
    """Put a revision's files and units in place without starting anything; whether a unit changed."""
    argv.place_files(desired)
    changed = False
    for name, text in units.files(desired).items():
        changed = places.write(places.UNITS / name, text) or changed
    return changed


def enable(desired: Desired) -> None:
    """Let it start with the host, and no other instance of it."""
    links = _links(desired)
    for other in places.UNITS.glob(f"*.wants/skerry-{desired['name']}.*@*.service"):
        if other not in links:
            other.unlink()
    for link, unit in links.items():
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(f"../{unit}")


def _links(desired: Desired) -> dict[Path, str]:
    """What starts with the host -> its unit file."""
    return {_link(unit): re.sub(r"@[0-9]\.", "@.", unit)
            for unit in (units.wanted(desired), *ports.sockets(desired)) if unit}


def ours(name: str) -> list[str]:
    """Units of a workload that are in place, those of former revisions included."""
    parts = r"(\.[0-9a-f]{8}@?|\.relay\.[0-9a-f]{8}|\.port\.[0-9]+)?\.(service|timer|socket)"
    pattern = re.compile(rf"skerry-{re.escape(name)}{parts}")
    there = [entry for entry in places.UNITS.glob(f"skerry-{name}.*") if pattern.fullmatch(entry.name)]
    return sorted(entry.name for entry in there if entry.read_text().startswith(places.MARK))


def take_away(names: Iterable[str]) -> None:
    """Stop units and remove them; the caller reloads systemd."""
    gone = [name for name in names if (places.UNITS / name).exists()]
    patterns = [name.replace("@.", "@*.") for name in gone]  # all instances
    if gone:
        systemd.call("stop", "--", *patterns, check=False)
        systemd.call("reset-failed", "--", *patterns, check=False)
    for name, pattern in zip(gone, patterns):
        for link in _link(name).parent.glob(pattern):
            link.unlink()
        (places.UNITS / name).unlink()


def healthy(desired: Desired, shown: dict[str, dict[str, str]]) -> bool:
    """Whether what should be there is there and runs; ``shown``: what systemd says of its units (`systemd.show`)."""
    for name, text in units.files(desired).items():
        path = places.UNITS / name
        if not path.exists() or path.read_text() != text:
            return False
    if not all(link.is_symlink() for link in _links(desired)) or set(ours(desired["name"])) - set(units.files(desired)):
        return False
    if any(shown[unit]["ActiveState"] != "active" for unit in units.active(desired)):
        return False
    if ports.of(desired) and handover.instances(desired["name"]) != [units.service(desired)]:
        return False
    return not store.lacking(records.digests(desired))


# -- services --------------------------------------------------------------------------------------------------------


def start(desired: Desired, again: bool) -> None:
    """Start a service and wait until it is ready; ``again``: even where it runs. With ports, another instance comes
    beside the one in force, which goes with `retire`.

    Raises:
        HostError: HOST_011, HOST_012 (`wait_ready`), HOST_060 to HOST_063 (`handover`).
    """
    if ports.of(desired):
        handover.prepare(desired)
        desired = handover.another(desired)
    unit, before = units.service(desired), _ended_first(desired)
    systemd.call("reset-failed", unit, check=False)
    systemd.call("restart" if again else "start", unit, check=False)  # its own end says more
    try:
        wait_ready(desired)
        if ports.of(desired):
            handover.switch(desired)
    except HostError:
        if ports.of(desired) or before is not None:
            systemd.call("stop", unit, check=False)
        if before is not None:
            _again(before)
        raise


def _ended_first(desired: Desired) -> Desired | None:
    """What is in force, ended where two at once would write to directories of the host; connections to its ports wait
    for the next one. None where both may run beside each other."""
    old = records.current(desired["name"])
    if old is None or old["kind"] != "service" or units.service(old) == units.service(desired):
        return None
    if not (units.writable(old) and units.writable(desired)):
        return None
    if ports.of(old):
        handover.hold(old)
    systemd.call("stop", units.service(old), check=False)
    return old


def _again(old: Desired) -> None:
    """Start what was ended for one that did not come up."""
    systemd.call("start", units.service(old), check=False)
    with contextlib.suppress(HostError):  # what is told is why the new one failed
        wait_ready(old)
        if ports.of(old):
            handover.switch(old)


def retire(desired: Desired, former: Iterable[str]) -> None:
    """Take away what was in force before; ``former``: units that the new revision has not."""
    gone = list(former)
    handover.retire(desired, gone)
    take_away(gone)


# -- readiness -------------------------------------------------------------------------------------------------------


def output_of(invocation: str, lines: int = 20) -> list[str]:
    """The last lines of one run of a unit."""
    words = ["-r", "-n", str(lines), f"_SYSTEMD_INVOCATION_ID={invocation}"]
    command = ["journalctl", "--no-pager", "-q", "-o", "cat", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as asked:
        said = asked.stdout.read(_MOST) if asked.stdout is not None else b""
        asked.kill()
    return said.decode("utf-8", "replace").splitlines()[::-1]


def status_of(place: tuple[str, int], path: str, seconds: float = 2.0) -> int:
    """The status with which a service answers, read no further than that; what is no HTTP counts as 500.

    Raises:
        OSError: it cannot be reached, or takes longer than ``seconds`` in all, byte by byte or not.
    """
    deadline, said = time.monotonic() + seconds, b""
    with socket.create_connection(place, seconds) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while b"\n" not in said and len(said) < 1024:
            link.settimeout(max(0.001, deadline - time.monotonic()))
            data = link.recv(1024)
            if not data:
                break
            said += data
    found = re.match(rb"HTTP/1\.[01] (\d{3})\b", said)
    return int(found[1]) if found else 500


def _answers(desired: Desired, unit: dict[str, str], since: float) -> bool:
    readiness = desired["readiness"] or {}
    if "http" in readiness:
        try:
            with handover.reached(desired, unit):
                return status_of(handover.place(desired, readiness["http"]["port"]), readiness["http"]["path"]) < 400
        except OSError:
            return False
    asked = [readiness["tcp"]] if "tcp" in readiness else [] if readiness else [p["port"] for p in ports.of(desired)]
    if asked:
        try:
            with handover.reached(desired, unit):
                for port in asked:
                    socket.create_connection(handover.place(desired, port), 1).close()
        except OSError:
            return False
        return True
    if not readiness:
        return time.monotonic() - since >= SETTLED
    pattern = re.compile(readiness["line"])
    return any(pattern.search(line) for line in output_of(unit["InvocationID"], 1000))


def wait_ready(desired: Desired) -> None:
    """Until a started service is ready.

    Raises:
        HostError: HOST_011 it ended, HOST_012 it was not ready in time; with its last lines.
    """
    name, readiness = units.service(desired), desired["readiness"]
    seconds = readiness["timeout"] if readiness else 30.0
    started, active, begun = time.monotonic(), 0.0, time.time() - 1
    while True:
        unit = systemd.show([name])[name]
        if unit["ActiveState"] == "active":
            active = active or time.monotonic()
            if _answers(desired, unit, active):
                return
        restarted = unit.get("NRestarts", "0") not in ("0", "")
        if unit["ActiveState"] in ("failed", "inactive") or restarted:
            last = " | ".join(output_of(unit["InvocationID"], 5)) or "it said nothing"
            limit = next((one["limit"] for one in runs(desired["name"])[-1:] if one["ended"] > begun), None)
            why = f"limit: {limit}" if limit else unit["Result"]
            raise HostError("HOST_011", f"{desired['name']} ended while it started ({why}): {last[-400:]}",
                            f"skerry logs {desired['name']} shows all of it")
        if time.monotonic() - started > seconds:
            raise HostError("HOST_012", f"{desired['name']} was not ready within {seconds:g} s",
                            f"skerry logs {desired['name']}; readiness.timeout gives it longer")
        time.sleep(_TICK)


# -- what the runs' own hooks call -----------------------------------------------------------------------------------


def verify(desired: Desired) -> None:
    """Before each start: every file is what it was when it came. Raises HostError (HOST_003; HOST_040 and HOST_041 for
    directories that lead elsewhere)."""
    for digest in records.digests(desired):
        store.verify(digest)
    argv.place_files(desired)
    rung = rungs.of(desired)
    directories.own(desired, lambda: rung.user(desired))
    rung.prepare(desired)


def tidy(name: str) -> None:
    """Remove folders of revisions that are no longer kept."""
    kept = {(records.read(name, number) or {}).get("revision", "")[:16] for number in records.revisions(name)}
    for kind in ("files", "secrets"):
        place = places.folder(name) / kind
        for entry in place.iterdir() if place.is_dir() else ():
            if entry.name not in kept:
                shutil.rmtree(entry, ignore_errors=True)


def runs(name: str) -> list[dict[str, Any]]:
    """How the last runs ended, oldest first."""
    try:
        lines = (places.folder(name) / "runs").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
