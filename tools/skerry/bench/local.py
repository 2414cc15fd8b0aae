"""``skerry demo --local``: the ladder on this machine alone, for a person without root or Docker."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from skerry.bench.conduct import Outcome, conduct
from skerry.bench.plan import Options
from skerry.bench.view import Live
from skerry.report import terminal
from skerry.targets.inventory import this_machine

#: Small enough that the whole demo ends in two minutes on a small machine, builds included.
OPTIONS = Options(samples=15, memory_samples=2, warmups=2, budget=3.0)


def demo_local(seed: int = 0, samples: int | None = None, console: Console | None = None) -> Outcome:
    """Measure the three programs on the rungs that this machine has, and show the report.

    Raises:
        SkerryError: see `conduct`.
    """
    options = replace(OPTIONS, seed=seed, samples=samples or OPTIONS.samples)
    command = ["./skerry", "demo", "--local", *(["--samples", str(samples)] if samples else [])]
    with Live() as view:
        outcome = conduct([this_machine()], None, options, command, None, view)
    if console is not None:
        terminal.show(outcome.analysis, console)
        console.print(f"\nresults: {outcome.place}\npage: {outcome.place / 'report.html'}", highlight=False,
                      soft_wrap=True)
    return outcome
