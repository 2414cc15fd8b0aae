"""The rung process: workloads as systemd units. A service's new revision is ready before the old one goes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from . import argv, directories, places, records, rungs, store, systemd, units
from .faults import HostError

Desired = dict[str, Any]
#: Seconds that a service without a readiness check must have run.
SETTLED = 1.0
_TICK = 0.1
_WANTS = {".service": "multi-user.target.wants", ".timer": "timers.target.wants"}


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
    """Let it start with the host."""
    unit = units.wanted(desired)
    if unit:
        link = _link(unit)
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(f"../{unit}")


def ours(name: str) -> list[str]:
    """Units of a workload that are in place, those of former revisions included."""
    pattern = re.compile(rf"skerry-{re.escape(name)}(\.[0-9a-f]{{8}})?\.(service|timer)")
    there = [entry for entry in places.UNITS.glob(f"skerry-{name}.*") if pattern.fullmatch(entry.name)]
    return sorted(entry.name for entry in there if entry.read_text().startswith(places.MARK))


def take_away(names: Iterable[str]) -> None:
    """Stop units and remove them; the caller reloads systemd."""
    gone = [name for name in names if (places.UNITS / name).exists()]
    if gone:
        systemd.call("stop", "--", *gone, check=False)
        systemd.call("reset-failed", "--", *gone, check=False)
    for name in gone:
        _link(name).unlink(missing_ok=True)
        (places.UNITS / name).unlink()


def healthy(desired: Desired, shown: dict[str, dict[str, str]]) -> bool:
    """Whether what should be there is there and runs; ``shown``: what systemd says of its units (`systemd.show`)."""
    for name, text in units.files(desired).items():
        path = places.UNITS / name
        if not path.exists() or path.read_text() != text:
            return False
    wanted = units.wanted(desired)
    if wanted and not (_link(wanted).is_symlink() and shown[wanted]["ActiveState"] == "active"):
        return False
    return not store.lacking(records.digests(desired))


# -- readiness -------------------------------------------------------------------------------------------------------


def output_of(invocation: str, lines: int = 20) -> list[str]:
    """The last lines of one run of a unit."""
    command = ["journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(lines), f"_SYSTEMD_INVOCATION_ID={invocation}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode("utf-8", "replace").splitlines()


def _answers(desired: Desired, unit: dict[str, str], since: float) -> bool:
    readiness = desired["readiness"]
    if readiness is None:
        return time.monotonic() - since >= SETTLED
    if "tcp" in readiness:
        try:
            socket.create_connection((rungs.of(desired).address(desired), readiness["tcp"]), 1).close()
        except OSError:
            return False
        return True
    if "http" in readiness:
        connection = HTTPConnection(rungs.of(desired).address(desired), readiness["http"]["port"], timeout=2)
        try:
            connection.request("GET", readiness["http"]["path"])
            return connection.getresponse().status < 400
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
    pattern = re.compile(readiness["line"])
    return any(pattern.search(line) for line in output_of(unit["InvocationID"], 1000))


def wait_ready(desired: Desired) -> None:
    """Until a started service is ready.

    Raises:
        HostError: HOST_011 it ended, HOST_012 it was not ready in time; with its last lines.
    """
    name, readiness = units.service(desired), desired["readiness"]
    seconds = readiness["timeout"] if readiness else 30.0
    started, active = time.monotonic(), 0.0
    while True:
        unit = systemd.show([name])[name]
        if unit["ActiveState"] == "active":
            active = active or time.monotonic()
            if _answers(desired, unit, active):
                return
        restarted = unit.get("NRestarts", "0") not in ("0", "")
        if unit["ActiveState"] in ("failed", "inactive") or restarted:
            last = " | ".join(output_of(unit["InvocationID"], 5)) or "it said nothing"
            raise HostError("HOST_011", f"{desired['name']} ended while it started ({unit['Result']}): {last[-400:]}",
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
