"""``skerry status``: what the cluster and the hosts of an inventory are like now."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from skerry.status.collect import Status, Wanted

app = typer.Typer(add_completion=False)


def console() -> Console:
    """Standard output; wide enough for the tables where no terminal says how wide it is."""
    from rich.console import Console

    plain = bool(os.environ.get("NO_COLOR")) or None
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, no_color=plain)


@app.command(
    epilog="Exit codes: 0 all well; 1 something is not, or was not read; 2 bad input; 4 neither the API nor a host"
    " answered; 130 interrupted."
)
def status(
    inventory: Annotated[list[str], typer.Option("-i", "--inventory", help="Inventory file or directory.")],
    on: Annotated[str | None, typer.Option(help="Ansible host pattern: ask only these hosts.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Instead of the one that the role k3s fetched.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Which one, where the inventory has several.")] = None,
    hosts: Annotated[bool, typer.Option("--hosts/--no-hosts", help="Ask the hosts over ssh.")] = True,
    api: Annotated[bool, typer.Option("--api/--no-api", help="Read the cluster.")] = True,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Read again and again until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.5, help="With --watch: seconds between two readings.")] = 5.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each list of the API.")] = 10.0,
    host_timeout: Annotated[float, typer.Option(min=1, help="Seconds for each host.")] = 10.0,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds for all hosts together.")] = 30.0,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="Another limit: cpu, memory, disk, inodes, pods, requests, restarts,"
                     " certificate, clock, conntrack."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; with --watch one a line.")] = False,
) -> int:
    """Nodes, pods, components with versions and health, runtimes of each host, thresholds crossed.

    Everything is read at once, each part with a deadline; what did not come in time is shown as missing.
    """
    from skerry.status.collect import Wanted
    from skerry.status.thresholds import parse
    from skerry.targets import inventory as inventories

    parse(threshold or [])  # bad input is told before anything is read
    targets = inventories.read(inventory, on)
    limits = parse(threshold or [], targets)
    wanted = Wanted(targets, kubeconfig, cluster, timeout, host_timeout, deadline, hosts, api)
    return _watch(wanted, limits, every, as_json) if watch else _once(wanted, limits, as_json)


def _code(found: Status) -> int:
    if not found.answered:
        return Exit.UNREACHABLE
    return Exit.OK if found.well else Exit.FAILED


def _once(wanted: Wanted, limits: Mapping[str, float], as_json: bool) -> int:
    from skerry.status.collect import collect

    found = collect(wanted, limits)
    if as_json:
        from skerry.status.document import document

        typer.echo(json.dumps(document(found)))
    else:
        from skerry.status.view import render

        screen = console()
        screen.print(render(found, screen.width))
    return _code(found)


def _watch(wanted: Wanted, limits: Mapping[str, float], every: float, as_json: bool) -> int:
    from rich.live import Live

    from skerry.status.collect import collect
    from skerry.status.document import document
    from skerry.status.view import render

    def again() -> Status:
        found = collect(wanted, limits)
        if as_json:
            typer.echo(json.dumps(document(found)))
        return found

    if as_json or not sys.stdout.isatty():
        while True:
            found = again()
            if not as_json:
                console().print(render(found, console().width))
            time.sleep(max(0.0, every - found.seconds))
    with Live(console=console(), screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            found = again()
            live.update(render(found, live.console.width), refresh=True)
            time.sleep(max(0.0, every - found.seconds))
