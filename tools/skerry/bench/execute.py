"""Takes the samples. Hosts that share a machine are measured one at a time; other machines go on beside them.

The run goes workload by workload, so that a small host need keep only one workload ready on all its rungs; steps are
taken within a workload only, and within one all hosts and rungs are mixed.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from skerry.bench import plan
from skerry.bench.plan import Options, Slot
from skerry.bench.recorder import Recorder
from skerry.bench.results import EMPTY, Combination, FaultRecord, HostRecord, Kind, SampleRow
from skerry.bench.specs import Specs
from skerry.errors import SkerryError
from skerry.report.analysis import RUNGS
from skerry.targets.api import Sample, Session
from skerry.workloads.build import Built
from skerry.workloads.manifest import Workload

#: Share of a run's minutes that samples may fill; the rest is for preparing.
_SAMPLING = 0.6
#: Seconds that a Ctrl-C waits for the samples under way before the connections are closed under them.
_PATIENCE = 8.0


class View:
    """What the progress display is told; this one shows nothing."""

    def phase(self, name: str, total: int) -> None:
        """A phase of ``total`` steps begins."""

    def step(self, host: str, text: str) -> None:
        """One step of the phase was done on a host."""

    def note(self, text: str) -> None:
        """Something that a person should see at once."""


@dataclass
class Bench:
    """One run over open sessions. ``stop`` ends it after the samples that are under way."""

    sessions: Mapping[str, Session]
    workloads: Sequence[Workload]
    builds: Sequence[Built]
    options: Options
    recorder: Recorder
    view: View = field(default_factory=View)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._specs = Specs(self.sessions, self.workloads, self.builds, self.options)
        self._combinations: dict[str, Combination] = {}
        self._first: dict[str, Sample] = {}
        self._wall: dict[str, float] = {}
        self._lost: set[str] = set()
        self._starved: set[str] = set()
        self._lock = threading.Lock()

    def run(self) -> None:
        """The whole run: every workload, prepared, warmed up, sampled, released.

        Raises:
            KeyboardInterrupt: after the samples under way have ended.
        """
        self._ask()
        names = [workload.name for workload in self.workloads]
        random.Random(self.options.seed ^ 2).shuffle(names)
        if self.options.floors:
            self._share_time(names, before=True)
            self._block(EMPTY)
        self._share_time(names, before=False)
        for name in names:
            self._block(name)

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _replace(self, one: Combination) -> None:
        with self._lock:
            self._combinations[one.id] = one
            self.recorder.run.combinations = sorted(self._combinations.values(), key=lambda entry: entry.id)

    def _live(self, workload: str) -> list[Combination]:
        """Combinations of a workload that can be sampled."""
        return [one for one in self._combinations.values()
                if one.workload == workload and one.fault is None and one.planned and one.host not in self._lost]

    def _host(self, name: str) -> HostRecord:
        return next(host for host in self.recorder.run.hosts if host.name == name)

    def _lose(self, name: str, error: SkerryError) -> None:
        """A host is gone: its remaining samples are left out, which the record says."""
        with self._lock:
            if name in self._lost or self.stop.is_set():
                return
            self._lost.add(name)
            record = self._host(name)
            record.fault = FaultRecord(code=error.code, cause=error.cause, remedy=error.remedy)
            record.lost_after = sum(1 for row in self.recorder.rows if row.host == name)
            self.recorder.run.failures += 1
        self.view.note(f"{name} was lost: {error.code} {error.cause}")

    def _trouble(self, one: Combination, error: SkerryError) -> None:
        """Either the host is gone (TARGET_...), or this combination cannot be measured though its host has the rung."""
        if error.code.startswith("TARGET_"):
            self._lose(one.host, error)
            return
        fault = FaultRecord(code=error.code, cause=error.cause, remedy=error.remedy)
        self._replace(one.model_copy(update={"planned": 0, "memory_planned": 0, "fault": fault}))
        with self._lock:
            self.recorder.run.failures += 1
        self.view.note(f"{one.host} {one.rung} {one.engine} {one.workload}: {fault.code} {fault.cause}")

    def _no_room(self, one: Combination) -> None:
        """No plan limits memory: the probe ended it before it took the small host with it: no failure."""
        fault = FaultRecord(code="BENCH_007", cause="this host had too little memory to spare for it",
                            remedy="measure it on a host with more memory, or with fewer services")
        self._replace(one.model_copy(update={"planned": 0, "memory_planned": 0, "fault": fault}))
        self.view.note(f"{one.host} {one.rung} {one.engine} {one.workload}: {fault.code} {fault.cause}")

    def _key(self, one: Combination, workload: str, size: str) -> str:
        return plan.identity(one.host, f"{one.rung}/{one.engine}/{one.mode}", one.version, workload, size)

    # -- at once, and one at a time ------------------------------------------------------------------------------

    def _wait(self, futures: list[Future[None]]) -> None:
        try:
            wait(futures)
        except KeyboardInterrupt:
            self.stop.set()
            if wait(futures, timeout=_PATIENCE).not_done:
                for session in self.sessions.values():
                    session.close()
            raise
        for future in futures:
            future.result()

    def _each_host(self, work: Callable[[str], None], names: Iterable[str]) -> None:
        """Work on hosts at once: for what is not measured."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            self._wait([pool.submit(work, name) for name in names])

    def _each_machine(self, slots: Sequence[Slot], work: Callable[[Combination, Kind], None]) -> None:
        """Work through slots in their order, machines beside each other, hosts of one machine one at a time."""
        machines: dict[str, list[Slot]] = defaultdict(list)
        for slot in slots:
            machines[self._host(self._combinations[slot.combination].host).machine].append(slot)

        def follow(mine: list[Slot]) -> None:
            for slot in mine:
                one = self._combinations[slot.combination]
                if self.stop.is_set():
                    return
                if one.host in self._lost or one.fault is not None:
                    continue
                try:
                    work(one, slot.kind)
                except SkerryError as error:
                    self._trouble(one, error)

        with ThreadPoolExecutor(max_workers=max(1, len(machines))) as pool:
            self._wait([pool.submit(follow, mine) for mine in machines.values()])

    def _with_all(self, wanted: Sequence[Combination], work: Callable[[Combination], None]) -> None:
        """Do something with combinations, hosts at once, one at a time on each."""
        by_host: dict[str, list[Combination]] = defaultdict(list)
        for one in wanted:
            by_host[one.host].append(one)

        def on(host: str) -> None:
            for one in by_host[host]:
                if self.stop.is_set() or host in self._lost:
                    return
                try:
                    work(one)
                except SkerryError as error:
                    self._trouble(one, error)

        self._each_host(on, by_host)

    # -- the run's parts -----------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """What every host can do, and what it cannot."""
        def ask(host: str) -> None:
            try:
                capabilities = self.sessions[host].capabilities()
            except SkerryError as error:
                self._lose(host, error)
                return
            able, missing = plan.combinations(host, capabilities, self.workloads, self.options)
            with self._lock:
                self.recorder.run.missing.extend(missing)
            for one in able:
                self._replace(one)

        self._each_host(ask, self.sessions)
        order = {rung: at for at, rung in enumerate(RUNGS)}
        self.recorder.run.missing.sort(key=lambda one: (one.host, order.get(one.rung, 9), one.engine, one.mode))
        self.recorder.save()

    def _share_time(self, names: Sequence[str], before: bool) -> None:
        """Find the budget for each combination when the run's minutes are given."""
        if self.options.minutes is None:
            return
        by_machine: dict[str, list[float]] = defaultdict(list)
        for one in self._combinations.values():
            if one.workload == EMPTY and not before:
                continue
            asked = one.wanted + one.memory_planned + self.options.warmups
            each = 1e9 if before else self._wall.get(self._key(one, EMPTY, "full"), 0.5)
            by_machine[self._host(one.host).machine].append(each * asked)
        share = _SAMPLING if before else _SAMPLING * len(names) / (len(names) + 1)
        levels = [plan.fill(needs, 60 * self.options.minutes * share) for needs in by_machine.values()]
        self.options = replace(self.options, budget=round(min(levels, default=self.options.budget), 2))
        self.recorder.run.budget_seconds = self.options.budget

    def _block(self, workload: str) -> None:
        """One workload on every host and rung."""
        if workload != EMPTY:
            self._choose_sizes(workload)
        live = self._live(workload)
        self.view.phase(f"{workload}: preparing", len(live))
        self._with_all(live, self._make_ready)
        live = self._live(workload)
        first = [one for one in live if one.id not in self._first]
        self.view.phase(f"{workload}: first runs", len(first))
        self._warm(first, 1)
        # A combination that is slow has its budget for samples, not for warming up again and again.
        quick = [one for one in self._live(workload) if self._wall.get(one.id, 0.0) * 10 <= self.options.budget]
        if quick and self.options.warmups > 1:
            self.view.phase(f"{workload}: warming up", len(quick) * (self.options.warmups - 1))
            self._warm(quick, self.options.warmups - 1)
        for one in self._live(workload):
            self._replace(plan.with_budget(one, self._wall.get(one.id, 0.0), self.options.budget))
        slots = plan.schedule(self._live(workload), self.options.seed)
        self.view.phase(f"{workload}: sampling", len(slots))
        self._each_machine(slots, self._take)
        self._with_all(live, lambda one: self.sessions[one.host].release(self._specs.spec(one)))
        self.recorder.save()

    def _make_ready(self, one: Combination) -> None:
        self._specs.upload(one)
        self.sessions[one.host].prepare(self._specs.spec(one))
        self.view.step(one.host, f"prepared {one.rung} {one.engine}")

    def _warm(self, live: Sequence[Combination], times: int) -> None:
        slots = [Slot(one.id, "warm-up") for one in live] * max(0, times)
        random.Random(self.options.seed ^ 1).shuffle(slots)
        self._each_machine(slots, self._take)

    def _choose_sizes(self, workload: str) -> None:
        """Run the full input once on the lowest rung of each engine; where it is too slow, its whole ladder (and the
        controls that are compared with it) take the small one."""
        lowest: dict[tuple[str, str, str, str, str], Combination] = {}
        for one in sorted(self._live(workload), key=lambda entry: RUNGS.index(entry.rung)):
            if one.payload == "wasm" and self._specs.has_small(one):
                lowest.setdefault(plan.group(one), one)
        if not lowest:
            return
        self.view.phase(f"{workload}: trying the full input", 2 * len(lowest))
        self._with_all(list(lowest.values()), self._make_ready)
        self._warm([one for one in lowest.values() if self._combinations[one.id].fault is None], 1)
        slow: dict[tuple[str, str, str, str, str], str] = {}
        for key, one in lowest.items():
            first = self._first.get(one.id)
            empty = self._first.get(self._key(one, EMPTY, "full"))
            floor = empty.run_seconds if empty else 0.0
            limited = first is not None and first.limit == "timeout"
            if first and plan.too_slow_for_full(first.run_seconds, limited, floor, self.options.budget):
                slow[key] = (f"small input: the full one took {first.run_seconds:.3g} s{' or more' if limited else ''} "
                             f"on the rung {one.rung}, and {plan.LEAST_FULL_RUNS} runs of it must fit the budget of "
                             f"{self.options.budget:g} s")
                self._with_all([one], lambda gone: self.sessions[gone.host].release(self._specs.spec(gone)))
        for one in self._live(workload):
            if one.payload == "wasm" and plan.group(one) in slow:
                self._shrink(one, slow[plan.group(one)])
        self._size_controls(workload)

    def _shrink(self, one: Combination, why: str) -> None:
        if one.id in self._first:  # what was tried stays in the record
            self._replace(one.model_copy(update={"planned": 0, "memory_planned": 0, "decision": why}))
        else:
            with self._lock:
                del self._combinations[one.id]
        name = self._key(one, one.workload, "small")
        self._replace(one.model_copy(update={"id": name, "size": "small", "decision": why}))

    def _size_controls(self, workload: str) -> None:
        """Native controls with the sizes of what they are compared with."""
        for host in self.sessions:
            mine = [one for one in self._live(workload) if one.host == host]
            sizes = plan.sizes_of_controls(mine)
            for one in (entry for entry in mine if entry.payload == "native"):
                if "full" not in sizes[one.rung]:
                    with self._lock:
                        del self._combinations[one.id]
                if "small" in sizes[one.rung]:
                    why = "small input: the control of modules that have it"
                    name = self._key(one, workload, "small")
                    self._replace(one.model_copy(update={"id": name, "size": "small", "decision": why}))

    # -- one sample ----------------------------------------------------------------------------------------------

    def _take(self, one: Combination, kind: Kind) -> None:
        before = time.monotonic()
        sample = self.sessions[one.host].sample(self._specs.spec(one, memory=kind == "memory"))
        wall = time.monotonic() - before
        if sample.limit == "memory":
            if one.id in self._starved:
                self._no_room(one)
            else:  # short for a moment, as a node that evicts is: once more
                self._starved.add(one.id)
                self._take(one, kind)
            return
        failure = self._specs.judge(one, sample)
        first = one.id not in self._first
        if first:
            self._first[one.id] = sample
            if sample.limit == "timeout" and one.size == "full" and self._specs.has_small(one):
                failure = None  # the answer to a question, not a failure: the small input is taken instead
        self._wall[one.id] = wall if kind != "memory" else max(wall, self._wall.get(one.id, 0.0))
        row = self.recorder.add(_row(one, kind, sample, failure))
        if row.failure:
            self.view.note(f"{one.host} {one.rung} {one.engine} {one.workload}: {row.failure}")
        if sample.fault is not None and first:
            raise SkerryError(sample.fault.code, sample.fault.cause, sample.fault.remedy)
        self.view.step(one.host, f"{one.rung} {one.engine} {sample.run_seconds * 1000:.3g} ms")


def _row(one: Combination, kind: Kind, sample: Sample, failure: str | None) -> SampleRow:
    return SampleRow(
        index=0,
        combination=one.id,
        host=one.host,
        rung=one.rung,
        engine=one.engine,
        version=one.version,
        mode=one.mode,
        payload=one.payload,
        workload=one.workload,
        size=one.size,
        kind=kind,
        started_ns=sample.started_ns,
        cold_seconds=sample.cold_seconds,
        run_seconds=sample.run_seconds,
        pss_bytes=sample.pss_bytes or None,  # 0: it had ended before it could be looked at
        cgroup_peak_bytes=sample.cgroup_peak_bytes,
        exit_code=sample.exit_code,
        trap=sample.trap,
        limit=sample.limit,
        stdout_bytes=sample.stdout_bytes,
        stdout_digest=sample.stdout_digest,
        failure=failure,
        phases=dict(sample.phases),
    )
