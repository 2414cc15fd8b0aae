"""``skerry restart``: a service once more."""

from __future__ import annotations

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On, Workload

app = typer.Typer(add_completion=False)


@app.command()
def restart(
    name: Workload,
    inventory: Inventory,
    on: On = None,
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Restart a service on every host that has it; it is ready when the command ends."""
    from skerry.deploy.answers import tell
    from skerry.deploy.verbs import everywhere
    from skerry.targets import inventory as inventories

    targets = inventories.read(inventory, on)
    return tell(name, everywhere(targets, {"op": "restart", "names": [name]}, name, host_timeout), as_json)
