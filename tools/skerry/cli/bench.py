"""``skerry bench``: measure the overhead ladder on the hosts of an inventory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Measure the overhead ladder on the hosts of an inventory.")


@app.command()
def bench(
    inventory: Annotated[Path, typer.Option("--inventory", "-i", help="Inventory: a file or a directory.")],
    on: Annotated[str | None, typer.Option("--on", help="Hosts, as an Ansible pattern; all otherwise.")] = None,
    workload: Annotated[
        list[str] | None, typer.Option("--workload", help="Workload; repeatable; all otherwise.")
    ] = None,
    rung: Annotated[list[str] | None, typer.Option("--rung", help="Rung; repeatable; all otherwise.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Samples of time for each combination.")] = 20,
    memory_samples: Annotated[int, typer.Option("--memory-samples", help="Samples of memory for each.")] = 3,
    warmups: Annotated[int, typer.Option("--warmups", help="Runs before those that count.")] = 2,
    budget: Annotated[
        float, typer.Option("--budget", help="Seconds for each combination; a slow one gets fewer samples, and the "
                            "small input where it has one. Both are recorded.")
    ] = 20.0,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="How long the whole run may take, about: finds the budget.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the order; drawn and recorded otherwise.")] = 0,
    every_mode: Annotated[
        bool, typer.Option("--every-mode", help="Compile modes beside each engine's default ones as well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end: ladder, steps.")] = False,
) -> None:
    """Measure workloads on every host and rung; results go to .skerry/results, with a page for people.

    Exit codes: 0 all good; 1 a sample or a host failed (the rest is shown); 4 no host could be reached;
    130 interrupted (what was measured is kept).
    """
    from rich.console import Console

    from skerry.bench.conduct import conduct
    from skerry.bench.plan import Options
    from skerry.bench.view import Live
    from skerry.report import analysis, terminal
    from skerry.targets import api
    from skerry.targets import inventory as hosts

    options = Options(samples, memory_samples, warmups, budget, seed, tuple(rung) if rung else api.RUNGS,
                      every_mode=every_mode, minutes=minutes)
    command = ["./skerry", "bench", "-i", str(inventory)]
    for name, values in (("--on", [on] if on else []), ("--workload", workload or []), ("--rung", rung or [])):
        for value in values:
            command += [name, value]
    command += ["--samples", str(samples), "--memory-samples", str(memory_samples), "--warmups", str(warmups)]
    command += ["--budget", f"{budget:g}"] if minutes is None else ["--minutes", f"{minutes:g}"]
    command += ["--every-mode"] if every_mode else []
    with Live() as view:
        outcome = conduct(hosts.read([str(inventory)], on), workload, options, command, inventory, view)
    if as_json:
        typer.echo(json.dumps({**analysis.as_dict(outcome.analysis), "directory": str(outcome.place)}))
    else:
        console = Console()
        terminal.show(outcome.analysis, console)
        where = f"\nresults: {outcome.place}\npage: {outcome.place / 'report.html'}"
        console.print(where, highlight=False, soft_wrap=True)
    raise typer.Exit(int(outcome.exit_code))
