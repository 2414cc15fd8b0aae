"""The demo: three sandbox hosts, provisioned by site.yml, real programs measured on every rung they have, one deployed.

It types the commands that a person would type and shows them, so that what is seen can be repeated one by one.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.workloads import inputs, manifest

INVENTORY = "inventories/sandbox"
#: What the demo measures: the shortest program and the one that is deployed afterwards. All are `skerry bench`'s.
PROGRAMS = ("hello", "sensors")


@dataclass(frozen=True)
class Step:
    """One command of the tour: its words after ``skerry``, what it is for, what helps when it fails."""

    title: str
    words: tuple[str, ...]
    remedy: str
    #: exit codes with which the tour goes on: a finding in a measurement is shown, not a reason to stop
    goes_on: tuple[int, ...] = (0,)


@dataclass
class Tour:
    """Runs steps one after another and keeps their times."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    worst: int = 0

    def take(self, step: Step) -> None:
        """Run one step in the foreground.

        Raises:
            SkerryError: DEMO_001 when it fails.
        """
        self.console.print()
        self.console.print(Rule(Text(step.title, style="bold"), align="left"))
        self.console.print(Text(f"$ ./skerry {shlex.join(step.words)}", style="dim"))
        started = time.monotonic()
        ended = subprocess.run(_command(step.words), cwd=paths.root(), check=False).returncode
        self.seconds[step.title] = time.monotonic() - started
        self.worst = max(self.worst, ended)
        if ended == Exit.INTERRUPTED:
            raise KeyboardInterrupt
        if ended not in step.goes_on:
            raise SkerryError(
                "DEMO_001", f"`skerry {shlex.join(step.words)}` ended with exit code {ended}", step.remedy, Exit.FAILED
            )


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "skerry", *words]


class Background:
    """The programs are built while the hosts are made; what the compilers say goes to a log."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(_command(words), cwd=paths.root(), stdout=out, stderr=subprocess.STDOUT)
        self._words = words

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            SkerryError: DEMO_002 when it failed.
        """
        if (ended := self._process.wait()) != 0:
            raise SkerryError(
                "DEMO_002",
                f"`skerry {shlex.join(self._words)}` ended with exit code {ended}; its output is in {self._log}",
                "run it by itself to see what the compiler says",
                Exit.FAILED,
            )

    def stop(self) -> None:
        """End it when the tour ends early."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def steps(samples: int | None) -> list[Step]:
    """The tour; ``samples`` for each combination of host, rung and program (None: the benchmark's default)."""
    again = "run ./skerry demo again: what is done already is kept"
    count = () if samples is None else ("--samples", str(samples))
    programs = tuple(word for name in PROGRAMS for word in ("--workload", name))
    return [
        Step("Make three hosts on this machine", ("sandbox", "up"), again),
        Step("Provision them over SSH", ("provision", "-i", INVENTORY), f"mend what is named above, then {again}"),
        Step(
            "Measure real programs on every rung",
            ("bench", "-i", INVENTORY, *programs, "--minutes", "2", "--memory-samples", "1", "--warmups", "1", *count),
            "`skerry report` shows what was measured until then",
            goes_on=(0, 1),
        ),
    ]


def deployment(readings: Path) -> list[Step]:
    """The last part of the tour: the program stays on the hosts, and says what it did."""
    again = "run it again by itself; `skerry ps -i INVENTORY` shows what there is"
    words = ("deploy", "workloads/sensors/deploy.yaml", "-i", INVENTORY, "-V", f"READINGS={readings}", "--wait", "60")
    return [
        Step("Deploy a program to the edge hosts", words, again, goes_on=(0, 1)),
        Step("See how it does", ("ps", "-i", INVENTORY), again, goes_on=(0, 1)),
        Step("Read what it printed", ("logs", "sensors", "-i", INVENTORY, "-n", "3"), again, goes_on=(0, 1)),
    ]


def _readings() -> Path:
    """Some readings of sensors, those of the small measurement."""
    found = manifest.load_all(["sensors"])[0].sizes["small"].stdin
    if found is None:
        raise AssertionError("the program reads standard input")
    return inputs.materialise(found)


def demo(console: Console, samples: int | None = None, remove: bool = False) -> int:
    """The whole tour; its exit code is the worst of its steps.

    Raises:
        SkerryError: DEMO_001 or DEMO_002 when a step fails; hosts are left as they are, a second run carries on.
    """
    started = time.monotonic()
    tour = Tour(console)
    hosts, provision, bench = steps(samples)
    build = Background(("workloads", "build"), paths.state() / "demo" / "workloads.log")
    try:
        tour.take(hosts)
        tour.take(provision)
        build.wait()
        tour.take(bench)
        for step in deployment(_readings()):
            tour.take(step)
    finally:
        build.stop()
        if remove:
            tour.take(Step("Remove the hosts", ("sandbox", "down"), "run ./skerry sandbox down"))
    console.print()
    parts = ", ".join(f"{title.lower()} {took:.0f} s" for title, took in tour.seconds.items())
    console.print(Text(f"The demo took {time.monotonic() - started:.0f} s ({parts}).", style="bold"), soft_wrap=True)
    if not remove:
        console.print("Next:  ./skerry report              the same table again, and the page")
        console.print("       ./skerry sandbox ssh edge-1  look around on a host")
        console.print("       ./skerry sandbox down        remove the hosts, leaving nothing behind")
    return tour.worst
