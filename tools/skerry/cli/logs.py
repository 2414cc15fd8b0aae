"""``skerry logs``: what workloads print."""

from __future__ import annotations

from typing import Annotated

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On, Workload

app = typer.Typer(add_completion=False)


@app.command()
def logs(
    name: Workload,
    inventory: Inventory,
    on: On = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
    since: Annotated[str, typer.Option(help="Only newer lines: 10m, 2h, or a time such as '2026-11-21 14:00'.")] = "",
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="So many of the last lines of each host.")] = 100,
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Show the lines that a workload printed, of all hosts in their order of time."""
    from skerry.deploy import lines as read
    from skerry.targets import inventory as inventories

    asked = read.Asked(name, follow, read.since(since), None if since else lines)
    return read.show(inventories.read(inventory, on), asked, host_timeout, as_json)
