"""``skerry move``: one replica to another host."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, Workload

app = typer.Typer(add_completion=False)


@app.command(epilog="Exit codes: 0 it runs on the other host; 1 it does not, and the old one is kept; 2 bad input; 4 a "
                    "host was not reached.")
def move(
    name: Workload,
    inventory: Inventory,
    source: Annotated[str, typer.Option("--from", metavar="HOST", help="Host that it leaves.")],
    to: Annotated[str, typer.Option(metavar="HOST", help="Host that takes it.")],
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Move one replica by hand without a gap: it is ready there before it goes here."""
    from skerry.deploy import show
    from skerry.deploy.move import move as move_of
    from skerry.targets import inventory as inventories

    began = time.monotonic()
    found = move_of(inventories.read(inventory, None), inventory, name, source, to, host_timeout)
    show.submission(found, False, as_json, time.monotonic() - began)
    return found.exit_code
