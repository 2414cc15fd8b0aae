"""``skerry undeploy``: a workload away."""

from __future__ import annotations

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On, Workload

app = typer.Typer(add_completion=False)


@app.command()
def undeploy(
    name: Workload,
    inventory: Inventory,
    on: On = None,
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Take a workload off every host, with its secrets and files; directories of hosts stay."""
    from skerry.deploy.answers import tell
    from skerry.deploy.verbs import undeploy as undeploy_of
    from skerry.targets import inventory as inventories

    targets = inventories.read(inventory, on)
    return tell(name, undeploy_of(targets, inventory, name, host_timeout), as_json)
