"""The report in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry.report import units
from skerry.report.analysis import RUNGS, Analysis, Series, labels, title


def _ladder(analysis: Analysis, host: str, workload: str) -> Table:
    table = Table(title=f"{workload} on {host}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  padding=(0, 1, 0, 0))
    table.add_column("rung", no_wrap=True)
    table.add_column("engine", overflow="fold", min_width=14)
    for name in ("median", "95% interval", "PSS", "cgroup"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True, min_width=2)
    there = set()
    notes: list[str] = []
    for one in analysis.ladder(host, workload):
        combination = one.combination
        summary = one.summary()
        if summary is None and not one.failed and not combination.fault:
            continue
        there.add(combination.rung)
        engine = "native program" if combination.payload == "native" else " ".join(combination.series)
        if combination.size != "full":
            engine += f" ({combination.size} input)"
        if summary is None:
            why = combination.fault.cause if combination.fault else one.failed[0].failure
            table.add_row(combination.rung, engine, Text("failed", style="red"))
            notes.append(f"  {combination.rung}, {engine}: {why}")
            continue
        pss, peak = one.summary(Series.pss), one.summary(Series.cgroup)
        count = f"{summary.count}" + (f" ({len(one.failed)} failed)" if one.failed else "")
        table.add_row(
            combination.rung, engine, Text(units.seconds(summary.median), style="bold"),
            units.interval(summary.low, summary.high),
            units.size(pss.median) if pss else "—", units.size(peak.median) if peak else "—", count)
    for rung in RUNGS:
        if rung not in there and any(entry.rung == rung for entry in analysis.missing(host)):
            table.add_row(rung, Text("missing: see below", style="dim italic"))
    table.caption, table.caption_justify, table.caption_style = "\n".join(notes) or None, "left", "red"
    return table


def _steps(analysis: Analysis, host: str, console: Console) -> None:
    """Steps as lines of fixed columns: they fit 80 characters, and headings may be longer than a column."""
    last = ""
    for step in analysis.steps:
        if step.first.host != host or step.metric != "run_seconds":
            continue
        values, second = step.values, step.second
        engine = "native program" if second.payload == "native" else " ".join(second.series)
        workload = step.first.workload + ("" if step.first.size == "full" else f", {step.first.size} input")
        if (heading := f"steps of {workload}, {engine}") != last:
            console.print(Text(f"{heading} (difference, 95% interval, ratio, Cliff's δ)", style="bold"), soft_wrap=True)
            last = heading
        name = f"{step.first.rung} → {second.rung}" if step.kind == "rung" else f"{second.rung}: native → wasm"
        ratio = units.ratio(values.ratio) if values.ratio else "—"
        interval = units.interval(values.difference_low, values.difference_high, "difference")
        line = f"  {name:<24}{units.difference(values.difference):>9}  {interval:>19} {ratio:>7} {values.delta:+6.2f}"
        console.print(Text(line + ("  unclear" if values.clear is False else "")), soft_wrap=True)


def _notes(analysis: Analysis, host: str, console: Console) -> None:
    for entry in analysis.missing(host):
        what = f"{entry.rung} {entry.engine} {entry.mode}".rstrip()
        console.print(Text(f"  missing  {what}: {entry.reason}", style="dim"), soft_wrap=True)
    for one in analysis.run.combinations:
        if one.host != host:
            continue
        if one.fault:
            console.print(Text(f"  failed   {title(one)}, {one.workload}: {one.fault.code} {one.fault.cause}"
                               f"\n           remedy: {one.fault.remedy}", style="red"))
        elif one.decision:
            console.print(Text(f"  budget   {title(one)}, {one.workload}: {one.decision}", style="dim"))
    failures = [row for row in analysis.failures() if row.host == host]
    for row in failures[:10]:
        console.print(Text(f"  failed   sample {row.index}, {row.rung} {row.engine} {row.workload}: {row.failure}",
                           style="red"))
    if len(failures) > 10:
        console.print(Text(f"  failed   and {len(failures) - 10} more samples", style="red"))


def show(analysis: Analysis, console: Console) -> None:
    """Print ladders, steps, and what is missing with the reasons, host by host."""
    run = analysis.run
    counted = sum(len(one.good("time")) for one in analysis.series.values())
    state = "interrupted" if run.interrupted else "complete" if run.complete else "unfinished"
    console.print(Text(f"run {run.id} ({state}), seed {run.seed}: {counted} samples of time, {run.failures} failures"))
    for host in analysis.hosts():
        names = labels(host)
        console.print()
        console.rule(Text(host.name + (f"  [{'; '.join(names)}]" if names else ""), style="bold"), align="left")
        if host.fault:
            console.print(Text(f"  {host.fault.code} {host.fault.cause}\n  remedy: {host.fault.remedy}", style="red"))
        if host.arch:
            facts = f"{host.os_name}, {host.arch}, {host.cpus} × {host.cpu_model}, {units.size(host.memory_bytes)}"
            console.print(facts, highlight=False)
        for workload in analysis.workloads():
            if any(one.rows for one in analysis.ladder(host.name, workload)):
                console.print(_ladder(analysis, host.name, workload))
        _steps(analysis, host.name, console)
        _notes(analysis, host.name, console)
