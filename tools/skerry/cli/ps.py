"""``skerry ps``: what runs where."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On
from skerry.errors import Exit

app = typer.Typer(add_completion=False)


@app.command(epilog="Exit codes: 0 everything is ready; 1 something is not; 4 a host was not reached. With --watch: 0 "
                    "when it is ended by Ctrl-C or SIGTERM.")
def ps(
    inventory: Inventory,
    names: Annotated[list[str] | None, typer.Argument(help="Only these workloads.")] = None,
    on: On = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show what changes: a live table, in a pipe a "
                                                              "line an event, with --json an object.")] = False,
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Show deployed workloads: where they run, how they do, how their last runs ended."""
    from rich.console import Console

    from skerry.deploy import record, show, verbs, wanted
    from skerry.targets import inventory as inventories

    targets = inventories.read(inventory, on)
    if watch:
        from skerry.deploy.watch import Picture, follow

        def given(host: str) -> list[dict[str, Any]]:
            return verbs.given(record.read(inventory), host, wanted.read(inventory).dead)

        return follow(targets, Picture(names or [], given), host_timeout, as_json)
    found = verbs.overview(targets, inventory, names or [], host_timeout)
    if as_json:
        for row in found.rows:
            show.line(row)
    else:
        show.overview(Console(), found)
    if not found.ready:
        return Exit.FAILED
    return Exit.UNREACHABLE if found.faults else Exit.OK
