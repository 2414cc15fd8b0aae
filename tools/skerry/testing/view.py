"""What a person sees while the checks run, and at their end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from skerry import paths
from skerry.testing.runner import Outcome, Result, Running, tail

STYLE = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.TIMEOUT: "bold red",
    Outcome.SKIPPED: "yellow",
    Outcome.NOT_RUN: "yellow",
}
SHOWN_OF_A_FAILURE = 60  #: lines of its log
SHOWN_OF_A_REASON = 300  #: characters
HEARTBEAT = 60.0  #: seconds between lines about a long stage where there is no terminal


class View:
    """One line a stage; on a terminal the stages under way with the last line of their log, else a line a minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._spoken = time.monotonic()

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, running: Sequence[Running], result: Result | None) -> None:
        """See `skerry.testing.runner.Watcher`."""
        if result is not None:
            self._ended(result)
        if self._live:
            self._live.update(Group(*(self._line(item) for item in running)))
        elif time.monotonic() - self._spoken > HEARTBEAT:
            for item in running:
                self.console.print(self._line(item))
            self._spoken = time.monotonic()

    def _line(self, item: Running) -> Text:
        last = "".join(tail(item.stage.log(), 1))
        text = f"  {item.stage.name:<18} {time.monotonic() - item.started:6.0f} s  {last.strip()}"
        return Text(text[: max(40, self.console.width - 1)], style="dim")

    def _ended(self, result: Result) -> None:
        self._spoken = time.monotonic()
        said = result.counts.text() if result.counts else ""
        said = "; ".join(part for part in (said, result.reason) if part)
        style = STYLE[result.outcome]
        self.console.print(
            f"  {result.stage.name:<18} [{style}]{result.outcome.value:<8}[/] {result.seconds:7.1f} s  {escape(said)}",
            highlight=False,
        )
        if result.outcome in (Outcome.FAILED, Outcome.TIMEOUT):
            for line in tail(result.stage.log(), SHOWN_OF_A_FAILURE):
                self.console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
            self.console.print(f"    the whole log: {_short(result)}", highlight=False)


def _short(result: Result) -> str:
    log = result.stage.log()
    return str(log.relative_to(paths.root())) if log.is_relative_to(paths.root()) else str(log)


def totals(results: Sequence[Result]) -> dict[str, int]:
    """Cases over all stages; a stage without a report is one case."""
    counted = {"failed": 0, "passed": 0, "skipped": 0}
    for result in results:
        if result.counts is None:
            if result.outcome is Outcome.PASSED:
                counted["passed"] += 1
            else:
                counted["failed" if result.bad else "skipped"] += 1
            continue
        counted["failed"] += len(result.counts.failed)
        counted["passed"] += result.counts.passed
        counted["skipped"] += len(result.counts.skipped)
        if result.bad and not result.counts.failed:
            counted["failed"] += 1
    return counted


def summary(results: Sequence[Result], seconds: float) -> list[str]:
    """The last lines: what was skipped, then what failed (the end alone tells it), each with why; one closing line."""
    skipped = list(_skipped(results))
    lines = ["skipped, and why:", *skipped] if skipped else ["nothing was skipped"]
    for result in (result for result in results if result.bad):
        said = f": {result.reason}" if result.reason else ""
        lines.append(f"failed: {result.stage.name} ({result.outcome.value}){said}, log {_short(result)}")
        failed = result.counts.failed if result.counts else []
        lines += [f"  {name}: {why[:SHOWN_OF_A_REASON]}" for name, why in failed]
    counted = totals(results)
    said = ", ".join(f"{count} {word}" for word, count in counted.items() if count) or "nothing ran"
    return [*lines, f"== {said} in {seconds:.2f}s =="]


def _skipped(results: Sequence[Result]) -> Iterator[str]:
    """A line a stage and reason: the case, or how many of them and of which tests."""
    for result in results:
        if result.outcome is Outcome.SKIPPED:
            yield f"  {result.stage.name}: {result.reason}"
        reasons: dict[str, list[str]] = {}
        for name, why in result.counts.skipped if result.counts else []:
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            tests = list(dict.fromkeys(name.split("::")[-1].split("[")[0] for name in names))
            which = names[0] if len(names) == 1 else f"{len(names)} cases of {', '.join(tests)}"
            yield f"  {result.stage.name}, {which}: {why}"
