"""``skerry demo``: the whole way in one go."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from skerry.errors import SkerryError

app = typer.Typer(
    add_completion=False, help="Three sandbox hosts, provisioned and measured, in one go (--local: this machine alone)."
)


@app.command()
def demo(
    local: Annotated[
        bool, typer.Option("--local", help="No hosts and no provisioning: this machine alone, without root or Docker.")
    ] = False,
    samples: Annotated[int | None, typer.Option("--samples", help="Samples of time for each combination.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the hosts down at the end.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="With --local: seed of the order; drawn otherwise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="With --local: one JSON object at the end.")] = False,
) -> None:
    """Make three unlike hosts, provision them, measure real WebAssembly programs on every rung, show the report.

    Exit codes: 0 all good; 1 a sample, a host or a step failed; 3 this machine lacks something; 130 interrupted.
    """
    from rich.console import Console

    if not local:
        if as_json or seed:
            raise SkerryError("DEMO_003", "--json and --seed belong to --local", "run skerry bench --json --seed N")
        from skerry.demo import demo as whole

        raise typer.Exit(whole(Console(), samples, remove))

    from skerry.bench.local import demo_local
    from skerry.report.analysis import as_dict

    outcome = demo_local(seed, samples, None if as_json else Console())
    if as_json:
        typer.echo(json.dumps({**as_dict(outcome.analysis), "directory": str(outcome.place)}))
    raise typer.Exit(int(outcome.exit_code))
