"""Takes the samples. Hosts that share a machine are measured one at a time; other machines go on beside them."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from skerry.bench import plan
from skerry.bench.metadata import DATA, fault_record
from skerry.bench.plan import Options, Slot
from skerry.bench.recorder import Recorder
from skerry.bench.results import EMPTY, Combination, FaultRecord, HostRecord, Kind, SampleRow
from skerry.errors import SkerryError
from skerry.targets.api import RunSpec, Sample, SampleSpec, Session
from skerry.workloads import inputs
from skerry.workloads.build import MACHINES, Built
from skerry.workloads.manifest import Workload

#: A run may take this many times its warm-up before it counts as hung.
PATIENCE = 10.0


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
    """One run over open sessions.

    Call `prepare`, `warm_up`, `sample`, in this order. ``stop`` ends each of them after the samples that are under way.
    """

    sessions: Mapping[str, Session]
    workloads: Sequence[Workload]
    builds: Sequence[Built]
    options: Options
    recorder: Recorder
    view: View = field(default_factory=View)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._by_name = {workload.name: workload for workload in self.workloads}
        self._built = {(built.workload, built.target): built for built in self.builds}
        self._combinations: dict[str, Combination] = {}
        self._timeouts: dict[str, float] = {}
        self._first: dict[str, tuple[float, bool]] = {}  # seconds of the first run, whether a limit ended it
        self._wall: dict[str, float] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()

    # -- what is run ---------------------------------------------------------------------------------------------

    def _spec(self, one: Combination, memory: bool = False) -> SampleSpec:
        session = self.sessions[one.host]
        workload = self._by_name[self.workloads[0].name if one.workload == EMPTY else one.workload]
        target = "wasm" if one.payload == "wasm" else MACHINES.get(session.facts.arch, session.facts.arch)
        built = self._built[(workload.name, target)]
        key = f"{one.rung}/{one.engine}/{one.mode}"
        timeout = self._timeouts.get(one.id, self.options.budget)
        if one.workload == EMPTY:
            return SampleSpec(RunSpec(key, built.sha256, name=EMPTY, timeout=timeout), empty=True)
        size = workload.sizes["small" if one.size == "small" else "full"]
        files = ((f"{DATA}/{size.file.name}", size.file.sha256),) if size.file else ()
        run = RunSpec(key, built.sha256, tuple(workload.arguments(DATA)), name=workload.name, files=files,
                      stdin_digest=size.stdin.sha256 if size.stdin else None, timeout=timeout)
        return SampleSpec(run, memory=memory)

    def _upload(self, one: Combination) -> None:
        session = self.sessions[one.host]
        workload = self._by_name.get(one.workload, self.workloads[0])
        target = "wasm" if one.payload == "wasm" else MACHINES.get(session.facts.arch, session.facts.arch)
        session.put(self._built[(workload.name, target)].path)
        size = workload.sizes["small" if one.size == "small" else "full"]
        for wanted in (size.file, size.stdin):
            if wanted is not None:
                session.put(inputs.materialise(wanted))

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _replace(self, one: Combination) -> None:
        with self._lock:
            self._combinations[one.id] = one
            self.recorder.run.combinations = sorted(self._combinations.values(), key=lambda entry: entry.id)

    def _host(self, name: str) -> HostRecord:
        return next(host for host in self.recorder.run.hosts if host.name == name)

    def _lose(self, name: str, error: SkerryError) -> None:
        """A host is gone: its remaining samples are left out, which the record says."""
        with self._lock:
            if name in self._lost:
                return
            self._lost.add(name)
            record = self._host(name)
            record.fault = FaultRecord(code=error.code, cause=error.cause, remedy=error.remedy)
            record.lost_after = sum(1 for row in self.recorder.rows if row.host == name)
            self.recorder.run.failures += 1
        self.view.note(f"{name} was lost: {error.code} {error.cause}")

    def _give_up(self, one: Combination, fault: FaultRecord) -> None:
        """A combination cannot be measured although its host has the rung: a failure, shown with its reason."""
        self._replace(one.model_copy(update={"planned": 0, "memory_planned": 0, "fault": fault}))
        with self._lock:
            self.recorder.run.failures += 1
        self.view.note(f"{one.host} {one.rung} {one.engine} {one.workload}: {fault.code} {fault.cause}")

    def _alive(self, error: SkerryError) -> bool:
        """Whether the session still stands after an error (TARGET_... means that the host is gone)."""
        return not error.code.startswith("TARGET_")

    # -- phases --------------------------------------------------------------------------------------------------

    def _each_host(self, work: Callable[[str], None], names: Iterable[str]) -> None:
        """Run ``work`` on hosts at once."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            self._wait([pool.submit(work, name) for name in names])

    def _wait(self, futures: list[Future[None]]) -> None:
        try:
            wait(futures)
        except KeyboardInterrupt:
            self.stop.set()
            wait(futures)
            raise
        for future in futures:
            future.result()

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
                    if self._alive(error):
                        self._give_up(one, FaultRecord(code=error.code, cause=error.cause, remedy=error.remedy))
                    else:
                        self._lose(one.host, error)

        with ThreadPoolExecutor(max_workers=max(1, len(machines))) as pool:
            self._wait([pool.submit(follow, mine) for mine in machines.values()])

    def _make_ready(self, host: str, wanted: Sequence[Combination]) -> None:
        for one in wanted:
            if self.stop.is_set() or host in self._lost:
                return
            try:
                self._upload(one)
                self.sessions[host].prepare(self._spec(one))
                if one.memory_planned:
                    self.sessions[host].prepare(self._spec(one, memory=True))
            except SkerryError as error:
                if self._alive(error):
                    self._give_up(one, FaultRecord(code=error.code, cause=error.cause, remedy=error.remedy))
                else:
                    self._lose(host, error)
            self.view.step(host, f"prepared {one.rung} {one.engine} {one.workload}")

    def prepare(self) -> None:
        """Ask every host what it can do, and do all that is not measured: uploads, compilation, images."""
        found: dict[str, list[Combination]] = {}

        def ask(host: str) -> None:
            try:
                capabilities = self.sessions[host].capabilities()
            except SkerryError as error:
                self._lose(host, error)
                return
            able, missing = plan.combinations(host, capabilities, self.workloads, self.options)
            with self._lock:
                found[host] = able
                self.recorder.run.missing.extend(missing)

        self._each_host(ask, self.sessions)
        self.recorder.run.missing.sort(key=lambda entry: (entry.host, entry.rung, entry.engine, entry.mode))
        for able in found.values():
            for one in able:
                self._replace(one)
        self.view.phase("preparing", sum(len(able) for able in found.values()))
        self._each_host(lambda host: self._make_ready(host, found[host]), found)
        self.recorder.save()

    def warm_up(self) -> None:
        """Run everything before it counts; the first runs decide about inputs and numbers of samples."""
        live = [one for one in self._combinations.values() if one.fault is None]
        self.view.phase("warming up", len(live) * self.options.warmups)
        self._warm(live, 1)
        small = self._shrink()
        if small:
            self.view.phase("warming up the small inputs", 2 * len(small))
            by_host: dict[str, list[Combination]] = defaultdict(list)
            for one in small:
                by_host[one.host].append(one)
            self._each_host(lambda host: self._make_ready(host, by_host[host]), by_host)
            self._warm([self._combinations[one.id] for one in small], 1)
        live = [one for one in self._combinations.values() if one.fault is None and one.planned]
        # A combination that is slow has its budget for samples, not for warming up again and again.
        quick = [one for one in live if self._wall.get(one.id, 0.0) * 10 <= self.options.budget]
        self._warm(quick, self.options.warmups - 1)
        for one in live:
            now = self._combinations[one.id]
            if now.fault is None:
                self._replace(plan.with_budget(now, self._wall.get(one.id, 0.0), self.options.budget))
        self.recorder.save()

    def _warm(self, live: Sequence[Combination], times: int) -> None:
        slots = [Slot(one.id, "warm-up") for one in live] * max(0, times)
        random.Random(self.options.seed ^ 1).shuffle(slots)
        self._each_machine(slots, self._take)

    def _shrink(self) -> list[Combination]:
        """Replace full inputs by small ones where they are too slow, in whole groups and with their controls."""
        slow: dict[tuple[str, str, str, str, str], float] = {}
        for name, (seconds, limited) in self._first.items():
            one = self._combinations[name]
            empty = plan.identity(one.host, f"{one.rung}/{one.engine}/{one.mode}", one.version, EMPTY, "full")
            floor = self._first.get(empty, (0.0, False))[0]
            if self._has_small(one) and plan.too_slow_for_full(seconds, limited, floor, self.options.budget):
                slow[plan.group(one)] = max(seconds, slow.get(plan.group(one), 0.0))
        shrunk_at = {(host, workload) for host, workload, *_ in slow}
        made = []
        for one in list(self._combinations.values()):
            control = one.payload == "native" and (one.host, one.workload) in shrunk_at
            took = slow.get(plan.group(one))
            if one.fault is not None or (took is None and not control):
                continue
            if took is not None:
                why = (f"small input: a full one took {took:.3g} s or more on one of its rungs, and "
                       f"{plan.LEAST_FULL_RUNS} runs must fit the budget of {self.options.budget:g} s")
                self._replace(one.model_copy(update={"planned": 0, "memory_planned": 0, "decision": why}))
            else:
                why = "small input as well: the control of combinations that have it only"
            name = plan.identity(one.host, f"{one.rung}/{one.engine}/{one.mode}", one.version, one.workload, "small")
            small = one.model_copy(update={"id": name, "size": "small", "decision": why})
            self._replace(small)
            made.append(small)
        return made

    def sample(self) -> None:
        """Take the samples that count, in the order of the schedule."""
        slots = plan.schedule(list(self._combinations.values()), self.options.seed)
        self.view.phase("sampling", len(slots))
        self._each_machine(slots, self._take)

    # -- one sample ----------------------------------------------------------------------------------------------

    def _take(self, one: Combination, kind: Kind) -> None:
        before = time.monotonic()
        sample = self.sessions[one.host].sample(self._spec(one, memory=kind == "memory"))
        wall = time.monotonic() - before
        failure = self._judge(one, sample)
        first = one.id not in self._first
        if first:
            self._first[one.id] = (sample.run_seconds, sample.limit == "timeout")
            self._timeouts[one.id] = max(self.options.budget, PATIENCE * sample.run_seconds)
            if sample.limit == "timeout" and one.size == "full" and self._has_small(one):
                failure = None  # the answer to a question, not a failure: the small input is taken instead
        self._wall[one.id] = wall if kind != "memory" else max(wall, self._wall.get(one.id, 0.0))
        row = self.recorder.add(_row(one, kind, sample, failure))
        if row.failure:
            self.view.note(f"{one.host} {one.rung} {one.engine} {one.workload}: {row.failure}")
        if sample.fault is not None and first:
            self._give_up(one, fault_record(sample.fault))
        self.view.step(one.host, f"{one.rung} {one.engine} {one.workload} {sample.run_seconds * 1000:.3g} ms")

    def _has_small(self, one: Combination) -> bool:
        workload = self._by_name.get(one.workload)
        return workload is not None and "small" in workload.sizes

    def _judge(self, one: Combination, sample: Sample) -> str | None:
        """None for a good sample, else what is wrong with it."""
        if sample.fault is not None:
            return f"{sample.fault.code} {sample.fault.cause}"
        if sample.limit is not None:
            return f"ended by its limit: {sample.limit}"
        if sample.trap is not None or sample.exit_code != 0:
            how = f"trap: {sample.trap}" if sample.trap is not None else f"exit code {sample.exit_code}"
            return f"{how} {sample.stderr_tail[-200:]}".strip()
        if one.workload == EMPTY:
            return None
        size = self._by_name[one.workload].sizes["small" if one.size == "small" else "full"]
        right = sample.stdout_digest == size.expected_sha256
        return None if right else f"wrong output: {sample.stdout_bytes} bytes with digest {sample.stdout_digest[:16]}"


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
