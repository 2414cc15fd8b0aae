"""The end of a run: what each host got, what failed, what to do."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry.provision.runner import Outcome


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """The form that ``--json`` prints."""
    progress = outcome.progress
    return {
        "status": outcome.status,
        "seconds": round(outcome.seconds, 2),
        "tasks": progress.tasks,
        "log": str(outcome.log),
        "role_seconds": {name: round(seconds, 2) for name, seconds in progress.role_seconds.items()},
        "hosts": {
            name: {
                "ok": host.ok,
                "changed": host.changed,
                "unreachable": host.unreachable,
                "failures": [vars(found) for found in host.failures],
            }
            for name, host in progress.hosts.items()
        },
        "errors": [vars(found) for found in progress.general],
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print the recap: a table of hosts, the slowest roles, each failure once with its hosts and remedy."""
    progress = outcome.progress
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("host", "ok", "changed", "failed"):
        grid.add_column(column, justify="left" if column == "host" else "right")
    for name, host in progress.hosts.items():
        state = "unreachable" if host.unreachable else str(len(host.failures) or "")
        grid.add_row(
            name,
            str(host.ok),
            Text(str(host.changed), style="yellow" if host.changed else ""),
            Text(state, style="red"),
        )
    if progress.hosts:
        console.print(grid)
    slowest = sorted(progress.role_seconds.items(), key=lambda item: -item[1])[:6]
    if slowest:
        console.print(Text("roles: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest), style="dim"))
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, host in progress.hosts.items():
        for failure in host.failures:
            found.setdefault((failure.code, failure.cause, failure.remedy), []).append(name)
    for one in progress.general:
        found[one.code, one.cause, one.remedy] = []
    for (code, cause, remedy), hosts in found.items():
        console.print()
        where = f" on {', '.join(hosts)}: " if hosts else ": "
        console.print(Text.assemble((code, "bold red"), where, cause), soft_wrap=True)
        console.print(Text(f"  remedy: {remedy}"), soft_wrap=True)
    ending = {
        "successful": ("done", "green"),
        "interrupted": ("interrupted: nothing is half done, the same command carries on", "yellow"),
        "unreachable": ("some hosts could not be reached; the others are done", "red"),
    }.get(outcome.status, ("failed", "red"))
    console.print(
        Text.assemble((ending[0], f"bold {ending[1]}"), f" after {outcome.seconds:.0f} s; log: {outcome.log}"),
        soft_wrap=True,
    )
