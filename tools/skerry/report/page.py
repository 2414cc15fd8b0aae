"""The page: one HTML file that needs nothing else, for light and dark, for a desk and a phone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from skerry.bench.results import EMPTY, HostRecord, WorkloadRecord
from skerry.errors import Exit, SkerryError
from skerry.report import svg, units
from skerry.report.analysis import RUNGS, Analysis, LadderStep, Series, labels, title

Values = Callable[[Series], list[float]]
_STYLES = {"native": "native", "wasmtime": "wasmtime", "wasmedge": "wasmedge"}
_LONGEST_REASON = 60


@dataclass
class Panel:
    """One drawing with its heading and the same values as a table."""

    heading: str
    drawing: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def style(series: Series) -> str:
    """The style sheet's class of a series' colour: by its engine."""
    return _STYLES.get(series.combination.engine, "other")


def _size_name(workload: str, size: str) -> str:
    return workload if size == "full" else f"{workload}, {size} input"


def _groups(analysis: Analysis, host: str) -> list[tuple[str, str, list[Series]]]:
    """A host's measured series by workload and size."""
    found = []
    for workload in analysis.workloads():
        ladder = analysis.ladder(host, workload)
        for size in ("full", "small"):
            group = [one for one in ladder if one.combination.size == size and one.rows]
            if any(one.seconds() or one.failed for one in group):
                found.append((workload, size, group))
    return found


def _axes(analysis: Analysis, values: Values, kind: str) -> dict[tuple[str, str], svg.Axis]:
    """One axis for each workload and size, the same on every host, so that hosts can be compared by eye."""
    collected: dict[tuple[str, str], list[float]] = {}
    for one in analysis.series.values():
        key = (one.combination.workload, one.combination.size)
        collected.setdefault(key, []).extend(values(one))
    return {key: svg.axis(found, kind) for key, found in collected.items() if found}


def _absent(analysis: Analysis, host: str, group: list[Series]) -> dict[str, str]:
    """Rungs of which a host has nothing at all, with the first reason."""
    there = {one.combination.rung for one in group}
    found: dict[str, str] = {}
    for entry in analysis.missing(host):
        if entry.rung not in there:
            found.setdefault(entry.rung, entry.reason)
    return found


def _cut(reason: str, label: str) -> str:
    """A reason as long as there is room beside its label; the whole of it stands below the drawing."""
    room = _LONGEST_REASON - len(label)
    return reason if len(reason) <= room else reason[: room - 1] + "…"


def _strip_rows(analysis: Analysis, host: str, group: list[Series]) -> list[svg.Row]:
    absent = _absent(analysis, host, group)
    rows = []
    for rung in RUNGS:
        for one in (entry for entry in group if entry.combination.rung == rung):
            summary = one.summary()
            if summary is None:
                tried = "too slow for this input" if one.combination.decision else "no sample was taken"
                said = f"failed: {one.failed[0].failure}" if one.failed else tried
                rows.append(svg.Row(title(one.combination), missing=_cut(said, title(one.combination))))
                continue
            band = svg.Band(one.seconds(), style(one))
            ladder = "/".join((*one.combination.series, one.combination.payload))
            rows.append(svg.Row(title(one.combination), units.seconds(summary.median), [band], ladder=ladder))
        if rung in absent:
            rows.append(svg.Row(rung, missing=_cut(absent[rung], rung)))
    return rows


def _time_table(group: list[Series]) -> tuple[list[str], list[list[str]]]:
    columns = ["rung", "samples", "median", "95% interval", "least", "95th percentile", "greatest", "outliers",
               "to first output", "failures"]
    rows = []
    for one in group:
        summary, cold = one.summary(), one.summary(lambda entry: entry.seconds("cold_seconds"))
        if summary is None or cold is None:
            rows.append([title(one.combination), "0", *["—"] * 7, str(len(one.failed))])
            continue
        rows.append([
            title(one.combination), str(summary.count), units.seconds(summary.median),
            units.interval(summary.low, summary.high), units.seconds(summary.least), units.seconds(summary.p95),
            units.seconds(summary.greatest), str(summary.outliers), units.seconds(cold.median), str(len(one.failed)),
        ])
    return columns, rows


def _said(group: list[Series], host: str, what: str) -> str:
    """A drawing in words, for who does not see it."""
    parts = []
    for one in group:
        summary = one.summary()
        if summary:
            parts.append(f"{title(one.combination)} {units.seconds(summary.median)}")
    return f"{what} on {host}, medians: {'; '.join(parts)}. The table below has all values."


def ladder_panels(analysis: Analysis, host: str, axes: dict[tuple[str, str], svg.Axis]) -> list[Panel]:
    """The ladder of one host: a strip chart for each workload and size."""
    panels = []
    for workload, size, group in _groups(analysis, host):
        if (workload, size) not in axes:
            continue
        rows = _strip_rows(analysis, host, group)
        what = f"Run times of {_size_name(workload, size)}"
        drawing = svg.strips(rows, axes[(workload, size)], _said(group, host, what))
        columns, values = _time_table(group)
        notes = [f"{title(one.combination)}: {one.combination.decision}" for one in group if one.combination.decision]
        panels.append(Panel(_size_name(workload, size), drawing, columns, values, notes))
    return panels


def floor_panel(analysis: Analysis, host: str, axes: dict[tuple[str, str], svg.Axis]) -> Panel | None:
    """The harness's own floor: an empty program on every rung."""
    group = [one for one in analysis.floors(host) if one.seconds()]
    if not group or (EMPTY, "full") not in axes:
        return None
    rows = [svg.Row(title(one.combination), units.seconds(one.summary().median),  # type: ignore[union-attr]
                    [svg.Band(one.seconds(), style(one))]) for one in group]
    columns, values = _time_table(group)
    return Panel("empty program", svg.strips(rows, axes[(EMPTY, "full")], _said(group, host, "Floor")), columns, values)


_DASH = {"native": "solid", "embedded": "dotted", "process": "dashed", "container": "solid", "pod": "long"}


def distribution_panels(analysis: Analysis, host: str, axes: dict[tuple[str, str], svg.Axis]) -> list[Panel]:
    """Cumulative distributions of one host."""
    panels = []
    for workload, size, group in _groups(analysis, host):
        curves = [svg.Curve(one.seconds(), style(one), _DASH[one.combination.rung], title(one.combination))
                  for one in group if one.seconds()]
        if curves:
            what = _said(group, host, f"Cumulative distributions of run times of {_size_name(workload, size)}")
            panels.append(Panel(_size_name(workload, size), svg.cumulative(curves, axes[(workload, size)], what)))
    return panels


def memory_panels(analysis: Analysis, host: str, axes: dict[tuple[str, str], svg.Axis]) -> list[Panel]:
    """Memory of one host: proportional set (colour) beside the cgroup's peak (grey)."""
    panels = []
    for workload, size, group in _groups(analysis, host):
        rows, values = [], []
        for one in group:
            pss, peak = one.summary(Series.pss), one.summary(Series.cgroup)
            bands = [svg.Band(found, kind, kind) for found, kind in ((one.cgroup(), "cgroup"), (one.pss(), style(one)))
                     if found]
            shown = [units.size(found.median) if found else "—" for found in (pss, peak)]
            if bands:
                rows.append(svg.Row(title(one.combination), f"{shown[0]} · {shown[1]}", bands))
            values.append([title(one.combination), str(pss.count if pss else 0), *shown])
        if rows and (workload, size) in axes:
            description = f"Memory of {_size_name(workload, size)} on {host}; the table below has all values."
            drawing = svg.strips(rows, axes[(workload, size)], description, units.size)
            columns = ["rung", "samples", "proportional set (median)", "cgroup peak (median)"]
            panels.append(Panel(_size_name(workload, size), drawing, columns, values))
    return panels


def course_panels(analysis: Analysis, host: str, axes: dict[tuple[str, str], svg.Axis]) -> list[Panel]:
    """The run's course on one host, warm-ups left out."""
    panels = []
    for workload, size, group in _groups(analysis, host):
        points = [
            svg.Point(row.index, row.run_seconds, style(one),
                      f"{title(one.combination)}: {units.seconds(row.run_seconds)}", row.failure is not None)
            for one in group for row in one.rows if row.kind == "time" and row.run_seconds > 0
        ]
        if points and (workload, size) in axes:
            first = min(point.order for point in points)
            moved = [svg.Point(point.order - first, point.value, point.style, point.label, point.failed)
                     for point in points]
            what = f"Run times of {_size_name(workload, size)} on {host} in the order in which they were taken."
            panels.append(Panel(_size_name(workload, size), svg.course(moved, axes[(workload, size)], what)))
    return panels


def step_rows(steps: list[LadderStep]) -> list[dict[str, Any]]:
    """Steps as the page's table shows them."""
    rows = []
    for one in steps:
        values = one.values
        what = "native program" if one.second.payload == "native" else " ".join(one.second.series)
        name = f"{one.first.rung} → {one.second.rung}"
        if one.kind == "payload":
            name = f"in a {one.second.rung}: native → wasm"
        rows.append({
            "workload": _size_name(one.first.workload, one.first.size), "name": name, "engine": what,
            "style": _STYLES.get(one.second.engine, "other"),
            "difference": units.difference(values.difference),
            "difference_interval": units.interval(values.difference_low, values.difference_high, "difference"),
            "ratio": units.ratio(values.ratio) if values.ratio else "—",
            "ratio_interval": units.interval(values.ratio_low, values.ratio_high, "ratio"),
            "delta": f"{values.delta:+.2f}".replace("-", "−"), "share": round(abs(values.delta) * 100),
            "verdict": {True: "clear", False: "not clear", None: "too few samples"}[values.clear],
        })
    return rows


def host_facts(host: HostRecord) -> list[tuple[str, str]]:
    """The facts of a host that matter to a reader."""
    if not host.arch:
        return []
    where = ", ".join(f"{key} {value}" for key, value in host.labels.items() if key in ("host_type", "region", "zone"))
    return [(name, value) for name, value in (
        ("system", f"{host.os_name}, Linux {host.kernel}"),
        ("processor", f"{host.cpus} × {host.cpu_model or host.arch}"),
        ("memory", units.size(host.memory_bytes)), ("place", where),
        ("cgroup", f"version {host.cgroup}" if host.cgroup else f"none: {host.cgroup_reason or 'no reason was given'}"),
    ) if value]


def glance(analysis: Analysis, workload: str) -> list[dict[str, Any]]:
    """The matrix of medians: a row for each host and engine, a column for each rung."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for host in analysis.hosts():
        for one in analysis.ladder(host.name, workload):
            summary = one.summary()
            if summary is None:
                continue
            combination = one.combination
            engine = "native program" if combination.payload == "native" else " ".join(combination.series)
            row = rows.setdefault((host.name, combination.size, engine), {
                "host": host.name, "engine": engine, "style": style(one), "size": combination.size, "cells": {}})
            row["cells"][combination.rung] = (units.seconds(summary.median), units.interval(summary.low, summary.high))
    grouped = list(rows.values())
    for host_name in {row["host"] for row in grouped}:
        mine = [row for row in grouped if row["host"] == host_name]
        for at, row in enumerate(mine):
            row["span"] = len(mine) if at == 0 else 0
    return grouped


def climbs(analysis: Analysis) -> list[dict[str, Any]]:
    """The run's answer in short: on each host, the first workload's way up the longest ladder of one engine."""
    found = []
    for host in analysis.hosts():
        ladders: dict[tuple[str, ...], list[Series]] = {}
        for one in analysis.ladder(host.name, analysis.workloads()[0]):
            if one.seconds() and one.combination.payload == "wasm":
                ladders.setdefault((*one.combination.series, one.combination.size), []).append(one)
        if not ladders:
            continue
        longest = max(ladders.values(), key=len)
        steps = {step.second.id: step for step in analysis.steps
                 if step.kind == "rung" and step.metric == "run_seconds"}
        rungs = []
        for one in longest:
            summary = one.summary()
            step = steps.get(one.combination.id)
            rungs.append({"rung": one.combination.rung, "median": units.seconds(summary.median) if summary else "",
                          "step": units.difference(step.values.difference) if step else None})
        found.append({"host": host.name, "engine": " ".join(longest[0].combination.series), "rungs": rungs,
                      "style": style(longest[0])})
    return found


def _programs(workloads: list[WorkloadRecord]) -> list[list[str]]:
    return [[workload.name, program.target, f"{program.size:,}", program.sha256, program.toolchain]
            for workload in workloads for program in workload.programs]


def _host_view(analysis: Analysis, host: HostRecord, times: dict[tuple[str, str], svg.Axis],
               sizes: dict[tuple[str, str], svg.Axis]) -> dict[str, Any]:
    mine = [step for step in analysis.steps if step.first.host == host.name]
    return {
        "record": host, "anchor": f"host-{host.name}", "labels": labels(host), "facts": host_facts(host),
        "ladder": ladder_panels(analysis, host.name, times), "missing": analysis.missing(host.name),
        "steps": step_rows([step for step in mine if step.metric == "run_seconds"]),
        "cold_steps": step_rows([step for step in mine if step.metric == "cold_seconds"]),
        "distributions": distribution_panels(analysis, host.name, times),
        "memory": memory_panels(analysis, host.name, sizes), "floor": floor_panel(analysis, host.name, times),
        "course": course_panels(analysis, host.name, times),
        "curves": _legend(analysis, host.name),
        "failures": [row for row in analysis.failures() if row.host == host.name],
        "given_up": [one for one in analysis.run.combinations if one.host == host.name and one.fault is not None],
    }


def _legend(analysis: Analysis, host: str) -> list[tuple[str, str, str]]:
    found: dict[str, tuple[str, str, str]] = {}
    for _, _, group in _groups(analysis, host):
        for one in group:
            name = title(one.combination)
            found.setdefault(name, (style(one), _DASH[one.combination.rung], name))
    return list(found.values())


def render(analysis: Analysis) -> str:
    """The whole page."""
    times = _axes(analysis, Series.seconds, "seconds")
    sizes = _axes(analysis, lambda one: one.pss() + one.cgroup(), "size")
    environment = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    run = analysis.run
    engines = sorted({(_STYLES.get(one.combination.engine, "other"), one.combination.engine)
                      for one in analysis.series.values() if one.rows})
    return environment.get_template("report.html.j2").render(
        run=run, rungs=RUNGS, engines=engines, total=sum(len(one.rows) for one in analysis.series.values()),
        counted=sum(len(one.good("time")) for one in analysis.series.values()),
        glance=[(workload, rows) for workload in run.workloads if (rows := glance(analysis, workload.name))],
        hosts=[_host_view(analysis, host, times, sizes) for host in run.hosts],
        climbs=climbs(analysis) if run.workloads else [], programs=_programs(run.workloads),
        shared=any(host.shares_machine_with for host in run.hosts), emulated=any(host.emulated for host in run.hosts),
    )


def write(analysis: Analysis, path: Path) -> Path:
    """Write the page beside its place and rename it.

    Raises:
        SkerryError: REPORT_004 when it cannot be written there.
    """
    text = render(analysis)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as beside:
            beside.write(text)
        Path(beside.name).chmod(0o644)
        Path(beside.name).replace(path)
    except OSError as error:
        raise SkerryError("REPORT_004", f"{path} cannot be written: {error.strerror}",
                          "name another file with --html", Exit.PREREQUISITE) from error
    return path
