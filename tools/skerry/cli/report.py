"""``skerry report``: show a run of the benchmark."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Show a run of the benchmark: table, page, samples.")


@app.command()
def report(
    run: Annotated[
        str | None, typer.Argument(help="A run's id, its beginning, or its directory; the newest otherwise.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the page there; beside the samples otherwise.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: ladder, steps, missing rungs.")] = False,
) -> None:
    """Show a run of the benchmark: a table here, and one self-contained page."""
    from rich.console import Console

    from skerry.bench import results
    from skerry.report import analysis, page, terminal

    place = results.find(run)
    found = analysis.analyse(*results.load(place))
    path = page.write(found, html or place / "report.html")
    if as_json:
        typer.echo(json.dumps({**analysis.as_dict(found), "page": str(path)}))
    else:
        console = Console()
        terminal.show(found, console)
        console.print(f"\npage: {path}", highlight=False, soft_wrap=True)
    if open_page:
        webbrowser.open(path.resolve().as_uri())
