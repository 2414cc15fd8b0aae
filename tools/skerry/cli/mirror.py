"""`skerry mirror`: fill, check and extend a mirror of upstream artifacts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from skerry import paths
from skerry.errors import Exit

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Fill, check and extend a mirror of upstream artifacts."
)

DIRECTORY = typer.Option(None, "--dir", "-d", help="The mirror; default ~/.cache/skerry/mirror or $SKERRY_MIRROR.")
FILE = typer.Argument(..., metavar="FILE", help="The file to put into the mirror.")
PLACE = typer.Argument(None, metavar="[DIR]", help="The mirror; default as for build.")
INVENTORY = typer.Option(..., "--inventory", "-i", help="The inventory whose hosts the mirror is for.")
ARCH = typer.Option(None, "--arch", help="Architecture of hosts whose inventory does not say it; repeatable.")
JSON = typer.Option(False, "--json", help="Print JSON.")


def size_text(size: int) -> str:
    """A number of bytes for people: 71.3 MB."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _bars() -> tuple[Any, Any]:
    """A progress display on standard error, and the watch that feeds it."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    display = Progress(*columns, console=Console(stderr=True), transient=True)

    def watch(path: str) -> Any:
        task = display.add_task(path, total=None)
        return lambda done, total: display.update(task, completed=done, total=total)

    return display, watch


@app.command()
def build(
    inventory: Path = INVENTORY,
    directory: Path = DIRECTORY,
    arch: list[str] = ARCH,
    dry_run: bool = typer.Option(False, "--list", help="Only list what the inventory needs; download nothing."),
    as_json: bool = JSON,
) -> int:
    """Fill a mirror with what the hosts of an inventory need, and lock the checksums.

    Downloads are taken up where they broke, verified, and skipped when they are there. Hosts then use it with
    skerry_mirror: the directory, or an http(s) URL that serves it.
    """
    from skerry.mirror.build import build as fill
    from skerry.mirror.plan import needs

    mirror = directory or paths.mirror()
    wanted = needs(inventory, arch or [])
    if dry_run:
        for need in wanted:
            text = need.artifact.model_dump_json() if as_json else f"{need.artifact.path}  {need.artifact.url}"
            typer.echo(text)
        return int(Exit.OK)
    display, watch = _bars()
    with display:
        outcomes = fill(mirror, wanted, watch)
    for outcome in outcomes:
        if as_json:
            typer.echo(json.dumps(asdict(outcome)))
            continue
        typer.echo(f"{outcome.state:11}{size_text(outcome.size):>9}  {outcome.path}")
        if outcome.detail:
            typer.echo(f"{'':22}{outcome.detail}")
        if outcome.state == "failed":
            typer.echo(f"  remedy: {outcome.remedy}", err=True)
    if not as_json:
        total = size_text(sum(outcome.size for outcome in outcomes))
        missing = sum(outcome.state == "missing" for outcome in outcomes)
        typer.echo(f"{mirror}: {len(outcomes)} artifacts, {total}, {missing} optional ones missing")
    return int(Exit.FAILED if any(outcome.state == "failed" for outcome in outcomes) else Exit.OK)


@app.command()
def add(
    file: Path = FILE,
    component: str = typer.Option(None, "--as", metavar="COMPONENT", help="What it is: k3s, wasmtime, ..."),
    version: str = typer.Option(None, "--version", metavar="V", help="Its version, as roles name it: v1.36.5+k3s1."),
    arch: str = typer.Option(None, "--arch", metavar="A", help="amd64, arm64, arm or noarch; an image says it itself."),
    name: str = typer.Option(None, "--file", metavar="NAME", help="Its name in the mirror; default: the component's."),
    image: str = typer.Option(None, "--image", metavar="REF", help="It is an archive of this image: docker.io/a/b:1."),
    directory: Path = DIRECTORY,
    as_json: bool = JSON,
) -> None:
    """Put a file of one's own, or an archive of an image, into the mirror and lock its checksum."""
    from skerry.errors import SkerryError
    from skerry.mirror.store import add as add_file
    from skerry.mirror.store import add_image

    mirror = directory or paths.mirror()
    if image:
        if component or version or name:
            raise SkerryError(
                "MIRROR_003", "--image with --as, --version or --file", "leave those away: the reference says the place"
            )
        entry = add_image(mirror, file, image, arch)
    elif component and version and arch:
        entry = add_file(mirror, file, component, version, arch, name)
    else:
        raise SkerryError(
            "MIRROR_003", "nothing says what the file is", "give --as, --version and --arch; or --image for an image"
        )
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
