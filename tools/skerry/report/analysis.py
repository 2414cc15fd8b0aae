"""From samples to what the report says: ladders, steps, missing rungs, failures.

The rule of steps: one is taken only between rungs of one engine, version and compile mode, on one host, for one
workload and input. The native control climbs its own ladder (native, container, pod). Beside the ladder stands the
comparison of payloads: wasm instead of native code on one rung, under the same runtime.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from skerry.bench.results import EMPTY, Combination, HostRecord, Missing, Run, SampleRow
from skerry.report import stats

RUNGS = ("native", "embedded", "process", "container", "pod")
Metric = Literal["run_seconds", "cold_seconds"]


@dataclass
class Series:
    """The samples of one combination, in the order in which they were taken."""

    combination: Combination
    rows: list[SampleRow] = field(default_factory=list)

    def good(self, kind: str) -> list[SampleRow]:
        return [row for row in self.rows if row.kind == kind and row.failure is None]

    @property
    def failed(self) -> list[SampleRow]:
        return [row for row in self.rows if row.failure is not None]

    def seconds(self, metric: Metric = "run_seconds") -> list[float]:
        """Times of the good samples (warm-ups and memory samples have no part in them)."""
        return [float(getattr(row, metric)) for row in self.good("time")]

    def pss(self) -> list[float]:
        """Proportional set sizes in bytes: of the memory samples only."""
        return [float(row.pss_bytes) for row in self.good("memory") if row.pss_bytes is not None]

    def cgroup(self) -> list[float]:
        """Peaks of the cgroup in bytes: of the memory samples, or of all where those have none."""
        for kind in ("memory", "time"):
            found = [float(row.cgroup_peak_bytes) for row in self.good(kind) if row.cgroup_peak_bytes is not None]
            if found:
                return found
        return []

    def summary(self, values: Callable[[Series], list[float]] | None = None) -> stats.Summary | None:
        found = values(self) if values else self.seconds()
        return stats.summarise(found) if found else None


@dataclass(frozen=True)
class LadderStep:
    """A step between two combinations. ``kind``: ``rung`` (up the ladder) or ``payload`` (wasm instead of native)."""

    kind: Literal["rung", "payload"]
    metric: Metric
    first: Combination
    second: Combination
    values: stats.Step


@dataclass
class Analysis:
    """A run, arranged for people."""

    run: Run
    series: dict[str, Series]
    steps: list[LadderStep]

    def hosts(self) -> list[HostRecord]:
        return self.run.hosts

    def workloads(self) -> list[str]:
        return [workload.name for workload in self.run.workloads]

    def ladder(self, host: str, workload: str) -> list[Series]:
        """The series of one host and workload, from the lowest rung up, the control first within a rung."""
        found = [entry for entry in self.series.values()
                 if entry.combination.host == host and entry.combination.workload == workload]
        return sorted(found, key=lambda entry: place(entry.combination))

    def floors(self, host: str) -> list[Series]:
        """The empty samples of one host: what the harness itself costs on each rung."""
        return self.ladder(host, EMPTY)

    def missing(self, host: str) -> list[Missing]:
        order = {rung: at for at, rung in enumerate(RUNGS)}
        found = [entry for entry in self.run.missing if entry.host == host]
        return sorted(found, key=lambda entry: (order.get(entry.rung, 9), entry.engine, entry.mode))

    def failures(self) -> list[SampleRow]:
        return [row for entry in self.series.values() for row in entry.failed]


def place(combination: Combination) -> tuple[int, bool, str, str, str, str]:
    """Where a combination stands in the ladder."""
    at = RUNGS.index(combination.rung) if combination.rung in RUNGS else len(RUNGS)
    wasm = combination.payload != "native"
    return (at, wasm, combination.engine, combination.version, combination.mode, combination.size)


def labels(host: HostRecord) -> list[str]:
    """What a reader must know about a host before comparing it with another."""
    found = []
    if host.emulated:
        found.append("emulated")
    if host.shares_machine_with:
        found.append(f"shares a machine with {', '.join(host.shares_machine_with)}")
    if host.cgroup == 0 and host.arch:
        found.append("no cgroup accounting")
    if host.fault is not None:
        found.append("lost")
    return found


def title(combination: Combination) -> str:
    """A combination's name within its host and workload: ``container, wasmedge 0.14.1 interpreter``."""
    if combination.payload == "native":
        what = "native program" if combination.rung != "native" else "control"
        return f"{combination.rung}, {what}"
    return f"{combination.rung}, {combination.engine} {combination.version} {combination.mode}"


def _rung_steps(entries: list[Series], metric: Metric) -> Iterable[LadderStep]:
    ladders: dict[tuple[str, ...], list[Series]] = defaultdict(list)
    for entry in entries:
        combination = entry.combination
        key = (combination.host, combination.workload, combination.size, combination.payload, *combination.series)
        ladders[key].append(entry)
    for ladder in ladders.values():
        ladder.sort(key=lambda entry: place(entry.combination))
        measured = [entry for entry in ladder if entry.seconds(metric)]
        for low, high in pairwise(measured):
            if low.combination.rung != high.combination.rung:
                values = stats.step(low.seconds(metric), high.seconds(metric))
                yield LadderStep("rung", metric, low.combination, high.combination, values)


def _payload_steps(entries: list[Series], metric: Metric) -> Iterable[LadderStep]:
    """Wasm against native on the container and pod rungs, where both were started by the same runtime."""
    controls: dict[tuple[str, ...], Series] = {}
    for entry in entries:
        one = entry.combination
        if one.payload == "native" and one.rung in ("container", "pod"):
            controls[(one.host, one.workload, one.size, one.rung, one.via)] = entry
    for entry in entries:
        one = entry.combination
        control = controls.get((one.host, one.workload, one.size, one.rung, one.via))
        if one.payload == "native" or control is None or not control.seconds(metric) or not entry.seconds(metric):
            continue
        values = stats.step(control.seconds(metric), entry.seconds(metric))
        yield LadderStep("payload", metric, control.combination, one, values)


def analyse(run: Run, rows: Iterable[SampleRow]) -> Analysis:
    """Arrange samples by combination and take the steps."""
    series = {combination.id: Series(combination) for combination in run.combinations}
    for row in rows:
        if row.combination in series:
            series[row.combination].rows.append(row)
    entries = [entry for entry in series.values() if entry.combination.workload != EMPTY]
    steps: list[LadderStep] = []
    metrics: tuple[Metric, ...] = ("run_seconds", "cold_seconds")
    for metric in metrics:
        steps += _rung_steps(entries, metric)
        steps += _payload_steps(entries, metric)
    names = [workload.name for workload in run.workloads]
    steps.sort(key=lambda one: (one.first.host, names.index(one.first.workload), one.first.size, one.kind == "payload",
                                one.second.payload != "native", one.second.series, place(one.second)))
    return Analysis(run, series, steps)


def _summary_dict(summary: stats.Summary | None) -> dict[str, Any] | None:
    return None if summary is None else {key: getattr(summary, key) for key in summary.__dataclass_fields__}


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """The form of ``skerry report --json``: seconds and bytes."""
    ladder = []
    for entry in sorted(analysis.series.values(),
                        key=lambda one: (one.combination.host, one.combination.workload, place(one.combination))):
        combination = entry.combination
        ladder.append({
            **combination.model_dump(),
            "failures": len(entry.failed),
            "run_seconds": _summary_dict(entry.summary()),
            "cold_seconds": _summary_dict(entry.summary(lambda one: one.seconds("cold_seconds"))),
            "pss_bytes": _summary_dict(entry.summary(Series.pss)),
            "cgroup_peak_bytes": _summary_dict(entry.summary(Series.cgroup)),
        })
    steps = []
    for step in analysis.steps:
        values = {key: getattr(step.values, key) for key in step.values.__dataclass_fields__}
        steps.append({"kind": step.kind, "metric": step.metric, "host": step.first.host,
                      "workload": step.first.workload, "size": step.first.size, "engine": step.second.engine,
                      "version": step.second.version, "mode": step.second.mode, "from": step.first.id,
                      "to": step.second.id, **values})
    run = analysis.run
    return {
        "run": run.id, "complete": run.complete, "interrupted": run.interrupted, "seed": run.seed,
        "failures": run.failures,
        "hosts": [{"name": host.name, "labels": labels(host), "fault": host.fault.model_dump() if host.fault else None}
                  for host in run.hosts],
        "ladder": ladder, "steps": steps, "missing": [entry.model_dump() for entry in run.missing],
    }
