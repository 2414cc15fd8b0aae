"""``skerry ps``: what runs where."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On
from skerry.errors import Exit

app = typer.Typer(add_completion=False)


@app.command(epilog="Exit codes: 0 everything is ready; 1 something is not; 4 a host was not reached.")
def ps(
    inventory: Inventory,
    names: Annotated[list[str] | None, typer.Argument(help="Only these workloads.")] = None,
    on: On = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")] = False,
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Show deployed workloads: where they run, how they do, how their last runs ended."""
    from rich.console import Console

    from skerry.deploy import show
    from skerry.deploy.verbs import overview
    from skerry.targets import inventory as inventories

    targets, console = inventories.read(inventory, on), Console()
    while True:
        found = overview(targets, inventory, names or [], host_timeout)
        if as_json:
            for row in found.rows:
                show.line(row)
        else:
            if watch:
                console.clear()
            show.workloads(console, found.rows, {host: fault.cause for host, fault in found.faults.items()})
        if not watch:
            break
        time.sleep(2)
    if any(not row.get("ready") for row in found.rows if row["state"] != "unknown"):
        return Exit.FAILED
    return Exit.UNREACHABLE if found.faults else Exit.OK
