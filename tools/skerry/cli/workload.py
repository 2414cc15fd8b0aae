"""``skerry workload``: workload files and projects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from skerry.workloads import Language

app = typer.Typer(add_completion=False, no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with a workload.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.callback()
def group() -> None:
    """Workload files and projects."""


@app.command()
def schema() -> None:
    """Print the JSON schema of a workload file, with which editors complete and check it."""
    from skerry.deploy.model import schema as of

    typer.echo(json.dumps(of(), indent=2))


@app.command()
def new(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Name of the project: a new folder, or a path to one.")],
    language: Annotated[Language, typer.Option(help="What it is written in.")] = "c",
    kind: Annotated[Literal["job", "service", "http"], typer.Option(
        help="Runs once, all the time, or for each request.")] = "job",
    as_json: Json = False,
) -> None:
    """Write a small project into a new folder: a program with its test, and a workload file for it."""
    from skerry.workloads.new import write

    files = write(name, language, kind)
    if as_json:
        found = {"name": name.resolve().name, "language": language, "kind": kind, "folder": str(name.resolve()),
                 "files": sorted(file.name for file in files)}
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{name}: {', '.join(file.name for file in files)}")
    typer.echo(f"try it: skerry workload test {name}")


@app.command()
def build(
    folder: Folder,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Copy the module to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Build the project of a folder: a module for `skerry run`. `skerry deploy` builds by itself."""
    from skerry.errors import SkerryError
    from skerry.workloads.build import build_one
    from skerry.workloads.check import load

    built = build_one(load(folder), "wasm")
    if output is not None:
        try:
            shutil.copyfile(built.path, output)
        except OSError as error:
            raise SkerryError("WORKLOAD_010", f"{output} cannot be written: {error.strerror}",
                              "name a file in a folder where you may write") from error
    found = built.as_dict() | {"path": str(output or built.path)}
    typer.echo(json.dumps(found) if as_json else f"{found['path']}: {built.size:,} bytes, {built.toolchain}")


@app.command(epilog="Exit codes: 0 it prints what it must; 1 it does not, or does not build; 2 bad input; "
                    "3 a compiler is missing.")
def test(folder: Folder, as_json: Json = False) -> None:
    """Build the project of a folder, run it on this machine, and compare what it prints with its workload.yaml."""
    from dataclasses import asdict

    from skerry.workloads.check import check, load

    built, checked = check(load(folder))
    if as_json:
        typer.echo(json.dumps({"built": built.as_dict(), "checked": [asdict(one) for one in checked]}))
        return
    for one in checked:
        typer.echo(f"{one.workload} ({one.size}) prints what it must, {one.seconds:.1f} s, {built.toolchain}")
