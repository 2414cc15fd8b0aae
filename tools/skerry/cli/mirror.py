"""`skerry mirror`: fill, check and extend a mirror of upstream artifacts."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
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
REGISTRY = typer.Option(
    None, "--registry", metavar="HOST=URL", help="Ask that cache instead of the registry; repeatable."
)
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
        # What is there goes out of sight: a site may need a hundred images.
        return lambda done, total: display.update(task, completed=done, total=total, visible=done != total)

    return display, watch


def _redirects(given: list[str]) -> dict[str, str]:
    from skerry.errors import SkerryError

    found = {}
    for text in given:
        registry, _, url = text.partition("=")
        if not registry or not url.startswith(("http://", "https://")):
            raise SkerryError(
                "MIRROR_003", f"--registry {text}: that is not HOST=URL",
                "write for instance --registry docker.io=https://cache.example/docker-hub",
            )
        found[registry] = url
    return found


def _list(plan: Any, as_json: bool) -> int:
    """What is known before anything is asked of upstream."""
    rows = [(need.artifact.path, need.artifact.url, need.artifact.model_dump()) for need in plan.artifacts.values()]
    rows += [(listed.path, listed.url, listed.model_dump()) for listed, _ in plan.lists.values()]
    for chart, _ in plan.charts:
        path = f"{chart.chart}/{chart.version}/noarch/{chart.file}"
        rows.append((path, f"{chart.repo} {chart.chart}", {"chart": chart.chart, "repo": chart.repo, "path": path}))
    for reference, arch in plan.images:
        rows.append((f"images ({arch})", reference, {"image": reference, "arch": arch}))
    for path, source, data in sorted(rows, key=lambda row: row[:2]):
        typer.echo(json.dumps(data) if as_json else f"{path}  {source}")
    return int(Exit.OK)


def _announce(things: list[Any], say: Any) -> None:
    """Sizes of what is about to be downloaded."""
    wanted = [thing for thing in things if not thing.present]
    for thing in wanted:
        say(f"{'':11}{size_text(thing.size) if thing.size is not None else '?':>9}  {thing.path}")
    total = size_text(sum(thing.size or 0 for thing in wanted))
    unknown = sum(thing.size is None for thing in wanted)
    there = size_text(sum(thing.size or 0 for thing in things if thing.present))
    say(
        f"to download: {len(wanted)} files, {total}" + (f" and {unknown} of unknown size" if unknown else "")
        + f"; {len(things) - len(wanted)} are there ({there})"
    )


@app.command()
def build(
    inventory: Path = INVENTORY,
    directory: Path = DIRECTORY,
    arch: list[str] = ARCH,
    registry: list[str] = REGISTRY,
    dry_run: bool = typer.Option(False, "--list", help="Only list what the inventory needs; download nothing."),
    as_json: bool = JSON,
) -> int:
    """Fill a mirror with what the hosts of an inventory need: binaries, charts, images. Lock the checksums.

    Charts come first: where Helm is on PATH, or SKERRY_HELM names it, images that a chart shows when it is rendered
    are added to those that the roles declare. Sizes are shown before the large downloads begin. Downloads are taken up
    where they broke, verified, and skipped when they are there. Hosts then use the mirror with skerry_mirror: the
    directory, or an http(s) URL that serves it.
    """
    from skerry.mirror.build import Options
    from skerry.mirror.build import build as fill
    from skerry.mirror.charts import helm
    from skerry.mirror.plan import needs

    redirects = _redirects(registry or [])
    mirror = directory or paths.mirror()
    plan = needs(inventory, arch or [])
    if dry_run:
        return _list(plan, as_json)
    command = helm()
    if plan.charts and not command:
        typer.echo(
            "no helm command: images of charts are those that the roles declare, not checked by rendering", err=True
        )
    display, watch = _bars()
    say = partial(display.console.print, markup=False, highlight=False, soft_wrap=True)
    with display:
        outcomes = fill(mirror, plan, Options(watch, partial(_announce, say=say), redirects, command))
    for outcome in outcomes:
        _say(outcome, as_json)
    if not as_json:
        total = size_text(sum(outcome.size for outcome in outcomes))
        missing = sum(outcome.state == "missing" for outcome in outcomes)
        typer.echo(f"{mirror}: {len(outcomes)} artifacts, {total}, {missing} optional ones missing")
    return int(Exit.FAILED if any(outcome.state == "failed" for outcome in outcomes) else Exit.OK)


def _say(outcome: Any, as_json: bool) -> None:
    """One line of the result."""
    if as_json:
        typer.echo(json.dumps(asdict(outcome)))
        return
    typer.echo(f"{outcome.state:11}{size_text(outcome.size):>9}  {outcome.path}")
    if outcome.detail:
        typer.echo(f"{'':22}{outcome.detail}")
    if outcome.state == "failed":
        typer.echo(f"  remedy: {outcome.remedy}", err=True)


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
