"""What this host has and how it does: one call to systemd for all workloads."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from . import handover, places, ports, processes, records, rungs, systemd, units

Desired = dict[str, Any]


def host() -> dict[str, Any]:
    """What placement needs to know of a host."""
    try:
        facts = json.loads(places.FACTS.read_text())
    except (FileNotFoundError, ValueError):
        facts = {}
    return {"arch": os.uname().machine, "hostname": os.uname().nodename, "facts": facts, "running": records.names()}


def _state(desired: Desired, unit: dict[str, str], runs: list[dict[str, Any]]) -> str:
    """One word: running, starting, waiting (schedule), done, failed, stopped."""
    active = unit.get("ActiveState", "inactive")
    if active in ("activating", "reloading"):
        return "restarting" if unit.get("SubState") == "auto-restart" else "starting"
    if active in ("active", "deactivating"):
        return "running"
    if active == "failed":
        return "failed"
    if desired["kind"] == "service":
        return "stopped"
    last = runs[-1] if runs else None
    well = last is not None and (last["exit_code"] == 0 or bool(last.get("code_lost")))
    if desired["kind"] == "schedule":
        return "waiting" if last is None or well else "last failed"
    return "stopped" if last is None else "done" if well else "failed"


def _seconds(stamp: str) -> float:
    """Seconds since a monotonic stamp of systemd in microseconds; 0 when there is none."""
    return round(time.monotonic() - int(stamp) / 1e6, 1) if stamp.isdigit() and stamp != "0" else 0.0


def workloads() -> list[dict[str, Any]]:
    """Every workload of this host."""
    found = []
    there = [(name, records.current(name)) for name in records.names()]
    mine = [(name, desired) for name, desired in there if desired is not None]
    asked = [unit for _, desired in mine for unit in (units.service(desired), units.wanted(desired)) if unit]
    shown = systemd.show(asked)
    for name, desired in mine:
        unit, runs = shown.get(units.service(desired), {}), processes.runs(name)
        state = _state(desired, unit, runs)
        kind = "container" if desired["module"]["form"] == "image" else desired["kind"]
        memory = rungs.of(desired).memory(desired, unit) if state == "running" else None
        clock = shown.get(units.timer(desired), {}) if desired["kind"] == "schedule" else {}
        if clock and clock.get("ActiveState") != "active":
            state = "stopped"
        held = [one["port"] for one in ports.of(desired)]
        found.append({
            "name": name, "owner": desired["owner"], "kind": kind, "rung": desired["rung"],
            "runtime": f"{desired['runtime']['name']} {desired['runtime']['version']}", "state": state,
            "ready": state == "running" if desired["kind"] == "service" else state in ("waiting", "done", "running"),
            "revision": desired["revision"], "number": records.in_force(name),
            "module": desired["module"]["digest"],
            "for_seconds": _seconds(unit.get("ActiveEnterTimestampMonotonic", "0")) if state == "running" else
            _seconds(unit.get("InactiveEnterTimestampMonotonic", "0")),
            "restarts": int(unit.get("NRestarts") or 0), "memory_bytes": memory,
            "next": clock.get("NextElapseUSecRealtime") or None, "last": runs[-1] if runs else None,
            "ports": held, "connections": handover.connections(desired) if held else None,
        })  # fmt: skip
    return found
