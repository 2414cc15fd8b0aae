"""How deployments are shown: tables for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry.deploy.rollout import Outcome, Report
from skerry.deploy.verbs import Overview
from skerry.probe.traps import UNKNOWN, from_text
from skerry.running.units import shown

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STYLES = {"created": "green", "changed": "green", "repaired": "yellow", "removed": "yellow", "failed": "bold red",
           "held": "red", "unknown": "magenta", "dead": "magenta", "rolled back": "yellow", "running": "green",
           "done": "green", "waiting": "green", "restarting": "red", "stopped": "yellow", "last failed": "red"}


def visible(text: str) -> str:
    """What a module said, without what a terminal would do: control characters become ``\\x1b`` and the like."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def word(text: str) -> Text:
    """A state or an action in its colour."""
    return Text(text, style=_STYLES.get(text, ""))


def outcome_object(one: Outcome) -> dict[str, Any]:
    """One outcome as ``--json`` prints it."""
    return {key: value for key, value in asdict(one).items() if value not in (None, "", {}, False)}


def line(value: Mapping[str, Any]) -> None:
    """One object on standard output."""
    print(json.dumps(value, default=str), flush=True)


def _change(key: str, pair: Iterable[Any]) -> str:
    before, after = (json.dumps(value, sort_keys=True) for value in pair)
    return f"      {key}: {before} -> {after}"


def report(console: Console, found: Report, diff: bool, seconds: float) -> None:
    """What a submission came to."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("workload", "host", "rung", "what", ""):
        table.add_column(title)
    for one in found.outcomes:
        said = visible(f"{one.error.code} {one.error.cause}" if one.error else one.why)
        table.add_row(one.name, one.host, one.rung, word(one.action), Text(said, style="dim"))
    if found.outcomes:
        console.print(table)
    for one in found.outcomes:
        if diff and one.changes:
            console.print(Text(f"  {one.name} on {one.host}"))
            for key, pair in sorted(one.changes.items()):
                console.print(Text(_change(key, pair)), soft_wrap=True)
        if one.error and one.action == "failed":
            kept = "\n    the former revision runs on" if one.kept else ""
            text = f"  {one.host}: {one.error.code} {one.error.cause}\n    remedy: {one.error.remedy}{kept}"
            console.print(Text(visible(text), style="red"), soft_wrap=True)
    for name, chosen in found.chosen.items():
        if chosen.short:
            console.print(Text(f"  {name}: {chosen.short}", style="yellow"))
            for passed in chosen.passed:
                console.print(Text(f"    {passed.host}: {passed.reason}", style="dim"), soft_wrap=True)
    for name, fault in sorted(found.faults.items()):
        console.print(Text(f"  {name} was not reached: {fault.code} {fault.cause}\n    remedy: {fault.remedy}\n"
                           "    it keeps what it has; the next deploy catches it up", style="magenta"), soft_wrap=True)
    console.print(summary(found, seconds))


def submission(found: Report, diff: bool, as_json: bool, seconds: float) -> None:
    """What a submission came to, for people or programs."""
    if not as_json:
        report(Console(), found, diff, seconds)
        return
    for one in found.outcomes:
        line(outcome_object(one))
    for name, fault in found.faults.items():
        line({"host": name, "fault": fault.as_dict()})
    for name, chosen in found.chosen.items():
        if chosen.short:
            line({"name": name, "short": chosen.short, "passed_over": {one.host: one.reason for one in chosen.passed}})


def summary(found: Report, seconds: float) -> Text:
    """The last line."""
    counts: dict[str, int] = {}
    for one in found.outcomes:
        counts[one.action] = counts.get(one.action, 0) + 1
    if set(counts) <= {"unchanged", "dead"} and not found.failed and not found.faults:
        return Text(f"nothing to do: everything is as {'it should be' if counts else 'before'} ({seconds:.1f} s)")
    said = ", ".join(f"{number} {action}" for action, number in sorted(counts.items())) or "nothing done"
    sent = f", {found.files_sent} files and {shown(found.bytes_sent)} sent" if found.bytes_sent else ""
    return Text(f"{said}{sent} ({seconds:.1f} s)")


def ended(run: Mapping[str, Any] | None) -> str:
    """How a run ended, in a few words."""
    if run is None:
        return ""
    if run["limit"]:
        return f"limit: {run['limit']}"
    if run.get("refused"):
        return str(run["refused"])
    if run["trap"]:
        return f"trap: {from_text(run['trap']) or UNKNOWN}"
    if run.get("code_lost"):
        return "exit code lost"
    return f"signal {run['signal']}" if run["signal"] else f"exit {run['exit_code']}"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds else ""


def revision(row: Mapping[str, Any]) -> str:
    """Number and digest of the revision in force; "" where it is not known."""
    return f"r{row['number']} {row['revision'][:8]}" if "revision" in row else ""


#: Columns of `skerry ps`: title, and whether a narrow terminal does without it.
_COLUMNS = (("workload", False), ("host", False), ("kind", True), ("rung", False), ("runtime", True), ("state", False),
            ("for", False), ("restarts", False), ("memory", False), ("ports", False), ("last run", False),
            ("revision", True))
_RIGHT = ("for", "restarts", "memory")
#: Characters below which a terminal counts as narrow.
_WIDE = 110


def _ports(row: Mapping[str, Any]) -> str:
    """Ports of a service and the connections that they have."""
    held = ", ".join(str(port) for port in row.get("ports") or [])
    return f"{held} ({row['connections']} open)" if held and row.get("connections") else held


def _cells(row: Mapping[str, Any]) -> dict[str, Text]:
    said = {"workload": row["name"], "host": row["host"]}
    if "kind" in row:
        said |= {"kind": row["kind"], "rung": row["rung"], "runtime": row["runtime"], "for": _age(row["for_seconds"]),
                 "restarts": str(row["restarts"] or ""), "last run": ended(row["last"]), "revision": revision(row),
                 "memory": shown(row["memory_bytes"]) if row["memory_bytes"] else "", "ports": _ports(row)}
    return {title: Text(text) for title, text in said.items()} | {"state": word(row["state"])}


def table(rows: Iterable[Mapping[str, Any]], width: int) -> Table:
    """The table of ``skerry ps`` for a terminal of so many characters; columns without any value are left out."""
    every = [_cells(row) for row in rows]
    found = Table(box=None, pad_edge=False, header_style="dim")
    titles = [title for title, spare in _COLUMNS if not (spare and width < _WIDE)
              and (title == "state" or any(title in cells and cells[title].plain for cells in every))]
    for title in titles:
        found.add_column(title, justify="right" if title in _RIGHT else "left")
    for cells in every:
        found.add_row(*(cells.get(title, "") for title in titles))
    return found


def overview(console: Console, found: Overview) -> None:
    """What ``skerry ps`` prints: the table, then hosts that are dead or were not reached."""
    console.print(table(found.rows, console.width))
    for host, since in sorted(found.dead.items()):
        said = f"  {host} was declared dead ({since}): what it has goes when the next reconcile or deploy reaches it"
        console.print(Text(said, style="magenta"), soft_wrap=True)
    for host, fault in sorted(found.faults.items()):
        console.print(Text(f"  {host} was not reached: {fault.cause}", style="magenta"), soft_wrap=True)


def waited(found: Overview, as_json: bool) -> None:
    """What ``skerry deploy --wait`` saw at its end."""
    if not as_json:
        overview(Console(), found)
        return
    for row in found.rows:
        line({key: row.get(key) for key in ("host", "name", "state", "ready", "restarts", "last")})
