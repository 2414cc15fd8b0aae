"""``skerry job``: runs of jobs and schedules."""

from __future__ import annotations

from typing import Annotated

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def group() -> None:
    """Runs of jobs and schedules."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Name of the job or schedule.")],
    inventory: Inventory,
    on: On = None,
    id_only: Annotated[bool, typer.Option("--id-only", help="Print the runs' ids alone, for scripts.")] = False,
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Run a job or a schedule once more, now, on every host that has it."""
    from skerry.deploy.answers import tell
    from skerry.deploy.verbs import everywhere
    from skerry.targets import inventory as inventories

    done = everywhere(inventories.read(inventory, on), {"op": "run", "name": name}, name, host_timeout)
    if id_only and done.results:
        for host, said in done.results:
            if "invocation" in said:
                typer.echo(f"{host}/{said['invocation']}")
        return done.exit_code
    return tell(name, done, as_json)
