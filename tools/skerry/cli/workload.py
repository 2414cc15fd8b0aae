"""``skerry workload``: workload files and projects."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def group() -> None:
    """Workload files and projects."""


@app.command()
def schema() -> None:
    """Print the JSON schema of a workload file, with which editors complete and check it."""
    import json

    from skerry.deploy.model import schema as of

    typer.echo(json.dumps(of(), indent=2))
