"""``skerry rollback``: back to a former revision."""

from __future__ import annotations

from typing import Annotated

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On, Workload

app = typer.Typer(add_completion=False)


@app.command()
def rollback(
    name: Workload,
    inventory: Inventory,
    on: On = None,
    to: Annotated[str, typer.Option(help="Number (r3) or digest of a revision, or of its module.")] = "",
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Bring a former revision into force again, on every host that has the workload."""
    from skerry.deploy.answers import tell
    from skerry.deploy.verbs import rollback as rollback_to
    from skerry.targets import inventory as inventories

    targets = inventories.read(inventory, on)
    return tell(name, rollback_to(targets, inventory, name, to, host_timeout), as_json)
