"""A whole run: builds, sessions, samples, results. `skerry bench` and `skerry demo` are thin over it."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.bench import metadata
from skerry.bench.execute import Bench, View
from skerry.bench.plan import Options
from skerry.bench.recorder import Recorder
from skerry.errors import Exit, SkerryError
from skerry.report import page
from skerry.report.analysis import Analysis, analyse
from skerry.targets.api import RUNGS, Session, Target
from skerry.targets.sessions import open_sessions
from skerry.workloads import build, manifest, toolchain


@dataclass(frozen=True)
class Outcome:
    """Where the results are, what they say, and how the run ended."""

    place: Path
    analysis: Analysis
    interrupted: bool

    @property
    def exit_code(self) -> Exit:
        run = self.analysis.run
        if self.interrupted:
            return Exit.INTERRUPTED
        if run.hosts and all(host.fault is not None and not host.arch for host in run.hosts):
            return Exit.UNREACHABLE
        failed = run.failures or any(host.fault is not None for host in run.hosts)
        return Exit.FAILED if failed else Exit.OK


def check_options(options: Options) -> Options:
    """The options with a seed drawn where none was given (0).

    Raises:
        SkerryError: BENCH_001 for a rung that is none, BENCH_002 for a number that cannot be.
    """
    for rung in options.rungs:
        if rung not in RUNGS:
            raise SkerryError("BENCH_001", f"no rung is called {rung!r}", f"there are: {', '.join(RUNGS)}")
    least = min(options.samples, options.warmups, options.memory_samples + 1)
    if least < 1 or options.budget <= 0 or (options.minutes or 1) <= 0:
        raise SkerryError("BENCH_002", "samples, warm-ups and budget must be above zero", "give larger numbers")
    return replace(options, seed=options.seed or secrets.randbelow(2**31 - 1) + 1)


def _targets_of(sessions: Mapping[str, Session]) -> list[str]:
    """Build targets: wasm, and a native program for each architecture that answered (others have no control)."""
    found = {build.MACHINES.get(session.facts.arch, session.facts.arch) for session in sessions.values()}
    return ["wasm", *sorted(found & set(toolchain.TARGETS))]


def conduct(targets: Sequence[Target], names: list[str] | None, options: Options, command: list[str],
            inventory: Path | None, view: View) -> Outcome:
    """Measure workloads on targets and leave a result directory with its page.

    Ctrl-C ends the run after the samples under way; what was measured is kept.

    Raises:
        SkerryError: WORKLOAD_... when the programs cannot be built, BENCH_003 when no host can be reached.
    """
    options = check_options(options)
    workloads = manifest.load_all(names)
    with ExitStack() as stack:
        view.phase(f"logging in to {len(targets)} hosts", len(targets))
        sessions, faults = open_sessions(targets)
        for session in sessions.values():
            stack.callback(session.close)
        for fault in faults.values() if sessions else ():
            view.note(f"{fault.code} {fault.cause}\n  remedy: {fault.remedy}")
        if not sessions:
            first = next(iter(faults.values()))
            raise SkerryError("BENCH_003", f"none of {len(targets)} hosts can be measured: {first.code} {first.cause}",
                              first.remedy, Exit.UNREACHABLE)
        built_for = _targets_of(sessions)
        view.phase("building workloads", len(workloads) * len(built_for))
        builds = build.build(workloads, built_for, lambda one: view.step("", f"{one.workload} {one.target}"))
        run = metadata.new_run(options, [*command, "--seed", str(options.seed)], inventory)
        run.hosts = metadata.hosts(targets, sessions, faults)
        run.workloads = [metadata.workload_record(workload, builds) for workload in workloads]
        recorder = Recorder(run)
        bench = Bench(sessions, workloads, builds, options, recorder, view)
        interrupted = False
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            bench.run()
        except KeyboardInterrupt:
            interrupted = True
            view.note("stopping; what was measured is kept")
        finally:
            signal.signal(signal.SIGTERM, before)
            place = recorder.finish(interrupted)
    analysis = analyse(run, recorder.rows)
    page.write(analysis, place / "report.html")
    return Outcome(place, analysis, interrupted)
