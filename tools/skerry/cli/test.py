"""``skerry test``: every check of the project."""

from __future__ import annotations

import fcntl
import functools
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from skerry import paths
from skerry.errors import Exit, SkerryError

if TYPE_CHECKING:
    from skerry.testing.runner import Result
    from skerry.testing.stages import Mode, Stage

app = typer.Typer(add_completion=False)


@app.command()
def test(
    stage: Annotated[list[str] | None, typer.Argument(help="Only these stages (--list); a role's name is one.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="No hosts: under two minutes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="The whole matrix: both releases, long tests.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Use hosts that are up, and leave them up.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Print the stages and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end on standard output.")] = False,
) -> int:
    """Run the project's checks: what .ci/run runs, less of it (--quick), or the whole matrix (--full).

    Each stage's output is kept in .skerry/test/<stage>.log. What was skipped, and why, stands in the last lines.
    Exit codes: 0 all passed, 1 something failed, 2 no such stage, 130 interrupted (hosts are removed all the same).
    """
    from skerry.testing.stages import Mode, plan

    if quick and full:
        raise SkerryError("TEST_001", "--quick and --full exclude one another", "give one of them, or none")
    mode = Mode.QUICK if quick else Mode.FULL if full else Mode.DEFAULT
    names = {item.name for item in plan(mode)}
    if unknown := [name for name in stage or () if name not in names and f"role {name}" not in names]:
        raise SkerryError("TEST_002", f"no stage {', '.join(unknown)} in this mode", "`skerry test --list` names them")
    chosen = plan(mode, stage or (), keep)
    if listing:
        for item in chosen:
            typer.echo(f"{item.name:<18} at most {item.deadline:5.0f} s")
        return Exit.OK
    with _alone():
        return _run(chosen, mode, as_json)


@contextmanager
def _alone() -> Iterator[None]:
    """One run a checkout: two would take each other's hosts and logs away."""
    paths.state().mkdir(exist_ok=True)
    with (paths.state() / "test.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SkerryError(
                "TEST_003", "another `skerry test` runs in this checkout", "wait for it, or use a checkout of its own"
            ) from error
        yield


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _run(chosen: list[Stage], mode: Mode, as_json: bool) -> int:
    from skerry.testing.needs import unmet
    from skerry.testing.runner import Runner
    from skerry.testing.stages import TOTAL, folder
    from skerry.testing.view import View, summary

    shutil.rmtree(folder(), ignore_errors=True)
    (folder() / "junit").mkdir(parents=True)
    # A CI job is cancelled with this signal: hosts have to go then too.
    signal.signal(signal.SIGTERM, _interrupt)
    # A shell starts background jobs with Ctrl-C ignored, and children inherit that: tests of it would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else 160)
    console.print(f"skerry test ({mode.value}): {len(chosen)} stages", highlight=False)
    started = time.monotonic()
    interrupted = False
    with View(console) as view:
        runner = Runner(functools.cache(unmet), view, TOTAL[mode])
        try:
            runner.run(chosen)
        except KeyboardInterrupt:
            interrupted = True
    seconds = time.monotonic() - started
    for line in summary(runner.results, seconds):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(_document(runner.results, seconds), indent=2))
    if interrupted:
        return Exit.INTERRUPTED
    return Exit.FAILED if any(result.bad for result in runner.results) else Exit.OK


def _document(results: list[Result], seconds: float) -> dict[str, Any]:
    """The run as data: one entry a stage with its outcome, seconds, cases and log."""
    return {
        "seconds": round(seconds, 2),
        "stages": [
            {
                "name": item.stage.name,
                "outcome": item.outcome.value,
                "seconds": round(item.seconds, 2),
                "reason": item.reason or None,
                "passed": item.counts.passed if item.counts else None,
                "failed": _cases(item.counts.failed) if item.counts else None,
                "skipped": _cases(item.counts.skipped) if item.counts else None,
                "log": str(item.stage.log()),
            }
            for item in results
        ],
    }


def _cases(named: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"case": name, "why": why} for name, why in named]
