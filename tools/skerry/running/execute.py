"""All hosts and rungs at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from skerry.errors import SkerryError
from skerry.running.plan import Missing, choose
from skerry.targets.api import RUNGS, Capability, Fault, RunResult, RunSpec, Session, Target
from skerry.targets.sessions import open_session

#: Threads: every run of every host waits in one.
_THREADS = 256


@dataclass(frozen=True)
class Job:
    """What is to run everywhere.

    Attributes:
        natives: architecture -> native build of the same program.
        spec: the run without key and program, which differ from host to host.
        stdin: a file that is sent once a host, None for an empty standard input.
    """

    module: Path
    natives: Mapping[str, Path]
    rungs: Sequence[str]
    spec: RunSpec
    stdin: Path | None = None


@dataclass
class Report:
    """What came of it; filled by several threads under `lock`."""

    results: list[RunResult] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


#: Told of every beginning (how many runs a host has), piece of output and end.
@dataclass(frozen=True)
class Listener:
    """Callbacks, called from many threads."""

    output: Callable[[str, Capability, str, bytes], None]
    ended: Callable[[RunResult], None]
    missing: Callable[[Missing], None]
    failed: Callable[[str, Fault], None]


def run_everywhere(targets: Sequence[Target], job: Job, listener: Listener) -> Report:
    """Run ``job`` on all ``targets``; a host that fails is a fault in the report, and the others carry on.

    Sessions are closed, and hosts cleaned, also when this is interrupted.
    """
    report = Report()
    sessions: list[Session] = []
    pool = ThreadPoolExecutor(max_workers=_THREADS)
    try:
        opened = [(target, pool.submit(_open, target, sessions, report)) for target in targets]
        hosts = [pool.submit(_host, target, future, job, listener, report, pool) for target, future in opened]
        for host in hosts:
            host.result()
    finally:
        for future in [pool.submit(session.close) for session in list(sessions)]:
            future.result()
        pool.shutdown(wait=False, cancel_futures=True)
    order = {target.name: index for index, target in enumerate(targets)}
    report.results.sort(key=lambda one: (order[one.host], RUNGS.index(one.rung), one.runtime, one.mode))
    return report


def _open(target: Target, sessions: list[Session], report: Report) -> Session:
    session = open_session(target)
    with report.lock:
        sessions.append(session)
    return session


def _host(
    target: Target, opened: Future[Session], job: Job, listener: Listener, report: Report, pool: ThreadPoolExecutor
) -> None:
    try:
        session = opened.result()
        chosen, missing = choose(target.name, session.facts, session.capabilities(), job.rungs, job.natives)
        with report.lock:
            report.missing += missing
        for entry in missing:
            listener.missing(entry)
        spec = replace(job.spec, stdin_digest=session.put(job.stdin) if job.stdin and chosen else None)
        runs = [pool.submit(_one, session, entry, spec, job, listener, report) for entry in chosen]
    except SkerryError as error:
        _fail(target.name, error, listener, report)
        return
    for run in runs:
        try:
            run.result()
        except SkerryError as error:
            _fail(target.name, error, listener, report)


def _fail(host: str, error: SkerryError, listener: Listener, report: Report) -> None:
    fault = Fault(error.code, error.cause, error.remedy)
    with report.lock:
        known = host in report.faults
        report.faults.setdefault(host, fault)
    if not known:
        listener.failed(host, fault)


def _one(session: Session, entry: Capability, spec: RunSpec, job: Job, listener: Listener, report: Report) -> None:
    program = job.module if entry.payload == "wasm" else job.natives[session.facts.arch]
    ready = replace(spec, key=entry.key, program=session.put(program))

    def stream(name: str, data: bytes) -> None:
        listener.output(session.target.name, entry, name, data)

    result = session.run(ready, stream)
    with report.lock:
        report.results.append(result)
    listener.ended(result)
