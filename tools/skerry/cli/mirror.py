"""`skerry mirror`: fill, check and extend a mirror of upstream artifacts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from skerry import paths
from skerry.errors import Exit

app = typer.Typer(no_args_is_help=True, help="Fill, check and extend a mirror of upstream artifacts.")

DIRECTORY = typer.Option(None, "--dir", "-d", help="The mirror; default ~/.cache/skerry/mirror or $SKERRY_MIRROR.")
FILE = typer.Argument(..., metavar="FILE", help="The file to put into the mirror.")
PLACE = typer.Argument(None, metavar="[DIR]", help="The mirror; default as for build.")
JSON = typer.Option(False, "--json", help="Print JSON.")


def size_text(size: int) -> str:
    """A number of bytes for people: 71.3 MB."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


@app.command()
def add(
    file: Path = FILE,
    component: str = typer.Option(..., "--as", metavar="COMPONENT", help="What it is: k3s, wasmtime, ..."),
    version: str = typer.Option(..., "--version", metavar="V", help="Its version, as the roles name it: v1.36.5+k3s1."),
    arch: str = typer.Option(..., "--arch", metavar="A", help="amd64, arm64, arm or noarch."),
    name: str = typer.Option(None, "--file", metavar="NAME", help="Its name in the mirror; default: the component's."),
    directory: Path = DIRECTORY,
    as_json: bool = JSON,
) -> None:
    """Put a file of one's own into the mirror and lock its checksum."""
    from skerry.mirror.store import add as add_file

    mirror = directory or paths.mirror()
    entry = add_file(mirror, file, component, version, arch, name)
    if as_json:
        typer.echo(json.dumps({"mirror": str(mirror), **entry.model_dump()}))
    else:
        typer.echo(f"{mirror / entry.path}  {size_text(entry.size)}  sha256 {entry.sha256}")


@app.command()
def verify(
    directory: Path = PLACE,
    as_json: bool = JSON,
) -> int:
    """Compare every file of the mirror with its lock. Exit code 1 when a file is missing or differs."""
    from skerry.mirror.store import verify as check

    mirror = directory or paths.mirror()
    bad = count = 0
    for finding in check(mirror):
        count += 1
        bad += finding.state in ("missing", "size", "checksum")
        if as_json:
            typer.echo(json.dumps(asdict(finding)))
        else:
            typer.echo(f"{finding.state:9}{finding.path}{'  ' + finding.detail if finding.detail else ''}")
    if not as_json:
        typer.echo(f"{count} files, {bad} bad")
    if bad and not as_json:
        typer.echo("  remedy: run `skerry mirror build` again, or `skerry mirror add` for files of your own", err=True)
    return int(Exit.FAILED if bad else Exit.OK)
