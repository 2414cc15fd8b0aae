"""``skerry ps --watch``: every host is asked over and over on a connection of its own, and what changes is told.

A host that hangs holds nobody up; one that is lost is unknown until it can be reached again.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from skerry.deploy import show
from skerry.deploy.exchange import AT_ONCE, name_of, opened
from skerry.deploy.kube import Place, places
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target

#: Seconds between two questions to a host, and until a lost one is tried again.
EVERY, AGAIN = 1.0, 3.0
#: Keys of a row whose change is told; the others (age, memory) change all the time.
_TOLD = ("state", "ready", "revision", "restarts", "owner", "rung", "runtime")
#: Events below the live table; seconds for the connections' end.
_LAST, _PATIENCE = 8, 3.0
#: Changes that a line tells in other words, or not at all.
_QUIET = ("state", "ready", "revision", "last", "_run")

Row = dict[str, Any]
#: What a host answered: its rows, or why it could not be asked.
Answer = list[Row] | SkerryError


@dataclass(frozen=True)
class Event:
    """A workload of a host was seen first (``new``), changed or went (``gone``); or a host was lost or found.

    ``changes``: key -> (before, now).
    """

    what: str
    host: str
    row: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


def _told(row: Row) -> dict[str, Any]:
    run = row.get("last")
    return {**{key: row[key] for key in _TOLD if key in row}, "last": show.ended(run) if run else "",
            "_run": run["invocation"] if run else ""}


class Picture:
    """What is known of all hosts. ``given``: the workloads that the controller's notes give a host while it is lost."""

    def __init__(self, names: Sequence[str], given: Callable[[str], list[Row]]) -> None:
        self.names, self.given = names, given
        self.rows: dict[str, dict[tuple[str, str], Row]] = {}
        self.faults: dict[str, SkerryError] = {}

    def take(self, host: str, answer: Answer) -> Iterator[Event]:
        """Take over what a host answered; what that changes."""
        if isinstance(answer, SkerryError):
            if host not in self.faults:
                yield Event("lost", host, {"host": host, "fault": answer.as_dict()})
            self.faults[host] = answer
            found = self.given(host)
        else:
            if self.faults.pop(host, None):
                yield Event("found", host, {"host": host})
            found = [{"host": host, **row} for row in answer]
        before = self.rows.get(host, {})
        now = {(row["name"], row.get("pod", "")): row for row in found if not self.names or row["name"] in self.names}
        self.rows[host] = now
        for name in sorted({*before, *now}):
            if name not in before:
                yield Event("new", host, now[name])
            elif name not in now:
                yield Event("gone", host, before[name])
            else:
                old, new = _told(before[name]), _told(now[name])
                changes = {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}
                if "kind" not in now[name] or "kind" not in before[name]:
                    changes = {key: pair for key, pair in changes.items() if key == "state"}
                if changes:
                    yield Event("changed", host, now[name], changes)

    def all(self) -> list[Row]:
        """Every row, by workload and host."""
        return sorted((row for rows in self.rows.values() for row in rows.values()),
                      key=lambda row: (row["name"], row["host"]))


class Polls:
    """A thread for each host and cluster that asks it until the end."""

    def __init__(self, targets: Sequence[Target | Place], seconds: float) -> None:
        self.seconds = seconds
        self.stop = threading.Event()
        self.arrived: queue.SimpleQueue[tuple[str, Answer] | None] = queue.SimpleQueue()
        self._logins = threading.Semaphore(AT_ONCE)
        self._threads = [threading.Thread(target=self._poll, args=(target,), daemon=True) for target in targets]

    def _poll(self, target: Target | Place) -> None:
        while not self.stop.is_set():
            try:
                self._ask(target)
            except SkerryError as error:
                self.arrived.put((name_of(target), [] if error.code == "DEPLOY_030" else error))
            self.stop.wait(AGAIN)

    def _ask(self, target: Target | Place) -> None:
        with self._logins:
            host = opened(target, self.seconds)
        try:
            while not self.stop.is_set():
                said = list(host.ask({"op": "status"}, self.seconds))
                self.arrived.put((name_of(target), [row for answer in said for row in answer["workloads"]]))
                self.stop.wait(EVERY)
        finally:
            host.close()

    def end(self, *_: Any) -> None:
        """Stop asking; safe in a signal handler."""
        self.stop.set()
        self.arrived.put(None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask while the block runs; SIGINT and SIGTERM end it."""
        former = {number: signal.signal(number, self.end) for number in (signal.SIGINT, signal.SIGTERM)}
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.end()
            until = time.monotonic() + _PATIENCE
            for thread in self._threads:  # one that waits for a lost host ends with the process
                thread.join(max(0.0, until - time.monotonic()))
            for number, handler in former.items():
                signal.signal(number, handler)

    def answers(self) -> Iterator[tuple[str, Answer]]:
        """What comes, until the end."""
        while (answer := self.arrived.get()) is not None:
            yield answer


def words(event: Event) -> Text:
    """One line of an event, for people."""
    text = Text(f"{datetime.now(UTC):%H:%M:%S} ", style="dim")
    if event.what in ("lost", "found"):
        fault = event.row.get("fault")
        said = f"cannot be asked: {fault['code']} {fault['cause']}" if fault else "answers again"
        return text.append(f"{event.host} {said}", style="magenta")
    pod = event.row.get("pod")  # of a cluster
    text.append(f"{event.row['name']} {event.row['host']} " + (f"{pod} " if pod else ""))
    if event.what == "gone":
        return text.append("gone", style="yellow")
    if event.what == "new":
        return text.append(show.word(event.row["state"])).append(f" {show.revision(event.row)}".rstrip(), style="dim")
    more = [f"{key} {old} -> {new}" for key, (old, new) in event.changes.items() if key not in _QUIET and new != ""]
    if "revision" in event.changes:
        more.insert(0, f"now {show.revision(event.row)}")
    if "_run" in event.changes and event.row.get("last"):
        more.append(f"a run ended: {show.ended(event.row['last'])}")
    if "state" in event.changes:
        old, new = event.changes["state"]
        text.append(f"{old} -> ").append(show.word(new)).append(", " if more else "")
    return text.append(", ".join(more), style="dim")


def _object(event: Event) -> dict[str, Any]:
    changes = {key: list(pair) for key, pair in event.changes.items() if not key.startswith("_")}
    return {"event": event.what, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **event.row,
            **({"changes": changes} if event.what == "changed" else {})}


def follow(targets: Sequence[Target], picture: Picture, seconds: float, as_json: bool) -> Exit:
    """Show what changes until SIGINT or SIGTERM: a live table on a terminal, else a line (an object) an event."""
    polls, console = Polls([*targets, *places(targets)], seconds), Console()
    with polls.running():
        if as_json or not console.is_terminal:
            for host, answer in polls.answers():
                for event in picture.take(host, answer):
                    if as_json:
                        show.line(_object(event))
                    else:
                        console.print(words(event), soft_wrap=True)
            return Exit.OK
        last: deque[Text] = deque(maxlen=_LAST)
        with Live(console=console, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
            for host, answer in polls.answers():
                first = host not in picture.rows
                events = list(picture.take(host, answer))
                last.extend(words(event) for event in events if not (first and event.what == "new"))
                live.update(Group(show.table(picture.all(), console.width), Text(), *last), refresh=True)
    return Exit.OK
