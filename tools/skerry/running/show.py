"""What `skerry run` prints: output as it comes, then a table; or one JSON object a run."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from skerry.running.plan import Missing
from skerry.running.units import seconds, shown
from skerry.targets.api import Fault, RunResult

#: The keys of one JSON object, in their order. ``error`` is null unless the run could not be made.
KEYS = (
    "host",
    "rung",
    "runtime",
    "version",
    "mode",
    "exit_code",
    "trap",
    "limit",
    "stdout",
    "stderr",
    "seconds",
    "memory_bytes",
    "note",
    "error",
)


_line = threading.Lock()


def as_object(result: RunResult) -> dict[str, Any]:
    """One run as ``--json`` prints it; bytes that are no UTF-8 appear as ``\\xNN``."""
    values: dict[str, Any] = {key: getattr(result, key, None) for key in KEYS}
    values |= {stream: values[stream].decode("utf-8", "backslashreplace") for stream in ("stdout", "stderr")}
    values["error"] = None if result.fault is None else vars(result.fault)
    return values


def failed_object(
    host: str, rung: str | None, fault: Fault, engine: str | None = None, mode: str | None = None
) -> dict[str, Any]:
    """A host that could not be reached, or a rung that it lacks, in the same shape."""
    values: dict[str, Any] = dict.fromkeys(KEYS)
    return values | {"host": host, "rung": rung, "runtime": engine, "mode": mode, "error": vars(fault)}


def ended(result: RunResult) -> str:
    """How a run ended, in two words."""
    if result.fault is not None:
        return result.fault.code
    if result.limit is not None:
        return f"limit {result.limit}"
    if result.trap is not None:
        return f"trap {result.trap}"
    return f"exit {result.exit_code}" + ("*" if result.note else "")


class Streams:
    """Output of several runs, line by line, each with its host and rung; of a single run, as it is."""

    def __init__(self, alone: bool, colour: bool) -> None:
        self.alone, self.colour = alone, colour
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], bytes] = {}

    def write(self, label: str, stream: str, data: bytes) -> None:
        """Print what a run printed; an unfinished line waits for its end."""
        with self._lock:
            if self.alone:
                self._out(stream, data)
                return
            *lines, rest = (self._open.pop((label, stream), b"") + data).split(b"\n")
            if rest:
                self._open[label, stream] = rest
            self._out(stream, b"".join(self._prefix(label, stream) + line + b"\n" for line in lines))

    def finish(self, label: str) -> None:
        """Print the unfinished lines of a run that has ended."""
        with self._lock:
            for stream in ("stdout", "stderr"):
                if rest := self._open.pop((label, stream), b""):
                    self._out(stream, self._prefix(label, stream) + rest + b"\n")

    def _prefix(self, label: str, stream: str) -> bytes:
        mark = "|" if stream == "stdout" else "!"
        if self.colour:
            return f"\x1b[{36 if stream == 'stdout' else 33}m{label} {mark}\x1b[0m ".encode()
        return f"{label} {mark} ".encode()

    @staticmethod
    def _out(stream: str, data: bytes) -> None:
        target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
        target.write(data)
        target.flush()


def console(colour: bool) -> Console:
    """Standard error; wide enough for the table where no terminal says how wide it is."""
    return Console(stderr=True, no_color=not colour or None, width=None if sys.stderr.isatty() else 140)


def table(results: Sequence[RunResult], missing: Sequence[Missing], faults: dict[str, Fault], out: Console) -> None:
    """The summary on standard error: runs, what is missing and why, hosts that failed."""
    if results:
        view = Table(box=None, pad_edge=False)
        for name in ("host", "rung", "runtime", "mode", "ended"):
            view.add_column(name)
        for name in ("time", "memory"):
            view.add_column(name, justify="right")
        for one in results:
            style = "" if one.exit_code == 0 else "red"
            runtime = f"{one.runtime} {one.version}".strip()
            view.add_row(
                one.host,
                one.rung,
                runtime,
                one.mode,
                ended(one),
                seconds(one.seconds),
                shown(one.memory_bytes),
                style=style,
            )
        out.print(view)
    for note in dict.fromkeys(one.note for one in results if one.note):
        out.print(f"* {note}", style="dim", markup=False, highlight=False)
    for one in results:
        if one.fault is not None:
            out.print(f"{one.fault.code} {one.rung}: {one.fault.cause}\n  remedy: {one.fault.remedy}", markup=False)
    for entry in missing:
        out.print(f"not run on {entry.host}: {entry.key}: {entry.reason}", style="dim", markup=False, highlight=False)
    for fault in faults.values():
        out.print(f"{fault.code} {fault.cause}\n  remedy: {fault.remedy}", markup=False, highlight=False)


def line(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    text = json.dumps(value, ensure_ascii=False) + "\n"
    with _line:  # several threads end runs at once
        sys.stdout.write(text)
        sys.stdout.flush()
