"""Runs stages: each in a process group of its own, with a log, a deadline and an honest outcome."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from skerry import paths
from skerry.testing.reports import Counts, read
from skerry.testing.stages import Need, Stage

POLL = 0.1
GRACE = 20.0  #: seconds between the polite signal and the last one: Ansible closes its connections
WORKERS = 2


class Outcome(StrEnum):
    """How a stage ended."""

    PASSED = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"  #: a need is not met on this machine
    NOT_RUN = "not run"  #: a stage that it requires failed, or the run was interrupted


@dataclass
class Result:
    """One stage's outcome. ``reason`` says why it was skipped, not run or ended."""

    stage: Stage
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    counts: Counts | None = None

    @property
    def bad(self) -> bool:
        """Whether the run as a whole has failed because of it."""
        return self.outcome not in (Outcome.PASSED, Outcome.SKIPPED)


@dataclass
class Running:
    """A stage under way: one command at a time, all of them into one log."""

    stage: Stage
    started: float = field(default_factory=time.monotonic)
    position: int = 0
    failed: bool = False
    timed_out: bool = False
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the next command of the stage, in a session of its own."""
        command = self.stage.commands[self.position]
        with self.stage.log().open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                command,
                cwd=paths.root(),
                env={**os.environ, **common_environment(), **self.stage.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> bool:
        """Whether the stage is over; starts its next command when one has ended."""
        assert self.process is not None
        if self.process.poll() is None:
            if time.monotonic() - self.started > self.stage.deadline:
                self.timed_out = True
                self.end()
                return True
            return False
        self.failed |= self.process.returncode != 0
        self.position += 1
        if self.position == len(self.stage.commands):
            return True
        self.start()
        return False

    def end(self) -> None:
        """End the command and everything it started: interrupt, then, after a grace, kill."""
        if self.process is None or self.process.poll() is not None:
            return
        for number, grace in ((signal.SIGINT, GRACE), (signal.SIGTERM, GRACE / 4), (signal.SIGKILL, GRACE / 4)):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                return
            return

    def result(self) -> Result:
        """What came out; a stage that should have written a report and did not has failed."""
        seconds = time.monotonic() - self.started
        counts = read(self.stage.report()) if self.stage.junit else None
        if self.timed_out:
            return Result(self.stage, Outcome.TIMEOUT, seconds, f"ended after {self.stage.deadline:.0f} s", counts)
        if self.failed or (counts is not None and counts.failed):
            return Result(self.stage, Outcome.FAILED, seconds, "", counts)
        if self.stage.junit and counts is None:
            return Result(self.stage, Outcome.FAILED, seconds, f"wrote no report {self.stage.report().name}", None)
        return Result(self.stage, Outcome.PASSED, seconds, "", counts)


def common_environment() -> dict[str, str]:
    """What every stage sees: this checkout, no colours, no prompts, records of its own."""
    root = paths.root()
    return {
        "SKERRY_ROOT": str(root),
        "SKERRY_SUPPORT_DIR": str(paths.state() / "test" / "support"),
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "PY_COLORS": "0",
        "COLUMNS": "160",
        "PYTHONUNBUFFERED": "1",
    }


#: Told about every change: (stages under way, result of a stage that ended or None).
Watcher = Callable[[Sequence[Running], Result | None], None]


class Runner:
    """Runs a plan, two stages at a time; of those that may not run together one, beside one that may.

    Args:
        unmet: for each need, why this machine does not meet it, or None when it does (asked once, when first needed).
        watch: told about what goes on.
        total: seconds for all stages together, cleaning up apart.
    """

    def __init__(self, unmet: Callable[[Need], str | None], watch: Watcher, total: float = math.inf) -> None:
        self._unmet, self._watch = unmet, watch
        self._until, self._total = time.monotonic() + total, total
        self.results: list[Result] = []
        self._running: list[Running] = []

    def run(self, stages: Sequence[Stage]) -> list[Result]:
        """Run ``stages``; those marked ``always`` run also after an interruption.

        Raises:
            KeyboardInterrupt: after everything has been ended and cleaned up; ``results`` holds what there is.
        """
        ordinary = [stage for stage in stages if not stage.always]
        try:
            self._run_all(ordinary, WORKERS)
        except KeyboardInterrupt:
            self._interrupt(ordinary)
            raise
        finally:
            self._until = math.inf
            started = {result.stage.name for result in self.results if result.outcome not in _NEVER_STARTED}
            self._run_all([stage for stage in stages if stage.always and started & set(stage.cleans)], 1)
        return self.results

    def _interrupt(self, stages: Iterable[Stage]) -> None:
        for running in self._running:
            running.end()
            seconds = time.monotonic() - running.started
            self._report(Result(running.stage, Outcome.FAILED, seconds, "interrupted"))
        self._running = []
        done = {result.stage.name for result in self.results}
        for stage in stages:
            if stage.name not in done:
                self.results.append(Result(stage, Outcome.NOT_RUN, 0.0, "interrupted"))

    def _run_all(self, stages: Sequence[Stage], workers: int) -> None:
        waiting = list(stages)
        while waiting or self._running:
            if time.monotonic() > self._until:
                self._stop(waiting)
                return
            while len(self._running) < workers and (stage := self._next(waiting)) is not None:
                waiting.remove(stage)
                self._begin(stage)
            ended = [running for running in self._running if running.poll()]
            for running in ended:
                self._running.remove(running)
                self._report(running.result())
            if not ended:
                self._watch(self._running, None)
                time.sleep(POLL)

    def _next(self, waiting: Sequence[Stage]) -> Stage | None:
        """The first stage that waits for no other one of these; of those that share hosts one at a time."""
        ahead = {stage.name for stage in waiting} | {running.stage.name for running in self._running}
        taken = any(not running.stage.together for running in self._running)
        return next((stage for stage in waiting
                     if not ahead & set(stage.requires) and (stage.together or not taken)), None)

    def _stop(self, waiting: Iterable[Stage]) -> None:
        """The run's time is up: end what runs, leave out the rest."""
        reason = f"the whole run had {self._total / 60:.0f} minutes"
        for running in self._running:
            running.end()
            self._report(Result(running.stage, Outcome.TIMEOUT, time.monotonic() - running.started, reason))
        self._running = []
        for stage in waiting:
            self._report(Result(stage, Outcome.NOT_RUN, 0.0, reason))

    def _begin(self, stage: Stage) -> None:
        for need in stage.needs:
            if (reason := self._unmet(need)) is not None:
                self._report(Result(stage, Outcome.SKIPPED, 0.0, reason))
                return
        for name in stage.requires:
            before = next((result for result in self.results if result.stage.name == name), None)
            if before is None or before.outcome is not Outcome.PASSED:
                self._report(Result(stage, Outcome.NOT_RUN, 0.0, f"{name} did not succeed"))
                return
        for need in stage.wants:
            self._unmet(need)  # installs it where it can
        running = Running(stage)
        self._running.append(running)
        running.start()

    def _report(self, result: Result) -> None:
        self.results.append(result)
        self._watch([running for running in self._running if running.stage is not result.stage], result)


_NEVER_STARTED = (Outcome.SKIPPED, Outcome.NOT_RUN)


def tail(path: Path, lines: int) -> list[str]:
    """The last ``lines`` lines of a log that say something."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
