"""Shows a run while it goes on: a table of hosts by roles on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from skerry.provision.progress import HostProgress, Progress

MOST_HOSTS = 30  #: rows of the live table; the rest is counted in one line


class View(Protocol):
    """What the runner tells of its progress to."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: Progress) -> None: ...


def _cell(host: HostProgress, role: str, current_role: str) -> Text:
    done = host.roles.get(role)
    if done is None:
        return Text("·" if not host.unreachable else "", style="dim")
    if done.failed:
        return Text("failed", style="bold red")
    running = role == current_role and bool(host.current)
    if done.changed:
        return Text(f"{done.changed} changed" + (" …" if running else ""), style="yellow")
    return Text("ok" + (" …" if running else ""), style="green")


def table(progress: Progress) -> Table:
    """Hosts as rows, roles as columns."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("host", no_wrap=True)
    for role in progress.roles:
        grid.add_column(role, no_wrap=True)
    # Those with trouble first, so that they are seen among hundreds.
    names = sorted(progress.hosts, key=lambda name: (not progress.hosts[name].failed, list(progress.hosts).index(name)))
    for name in names[:MOST_HOSTS]:
        host = progress.hosts[name]
        label = Text(name, style="bold red" if host.failed else "")
        if host.unreachable:
            label.append(" unreachable", style="red")
        grid.add_row(label, *(_cell(host, role, progress.role) for role in progress.roles))
    if len(names) > MOST_HOSTS:
        grid.add_row(Text(f"… and {len(names) - MOST_HOSTS} more", style="dim"))
    return grid


class LiveView:
    """A table that is drawn anew, for terminals."""

    def __init__(self, console: Console) -> None:
        self._started = time.monotonic()
        self._progress = Progress()
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def _render(self) -> Group:
        progress = self._progress
        head = Text.assemble(
            (f"{time.monotonic() - self._started:4.0f} s  ", "dim"),
            (progress.role or "starting", "bold cyan"),
            "  ",
            (progress.task[:90], "dim"),
        )
        return Group(head, table(progress))

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        self._progress = progress


class PlainView:
    """A line each time a role begins and for each failure, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._role = ""
        self._told = 0

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def _say(self, text: str) -> None:
        self._console.print(
            f"{time.monotonic() - self._started:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True
        )

    def update(self, progress: Progress) -> None:
        if progress.role != self._role:
            self._role = progress.role
            self._say(f"{progress.role}: {progress.play}")
        failures = [(name, found) for name, host in progress.hosts.items() for found in host.failures]
        for name, found in failures[self._told :]:
            self._say(f"{name}: {found.code} {found.cause}")
        self._told = len(failures)


class NoView(PlainView):
    """Says nothing: ``--json`` speaks at the end."""

    def update(self, progress: Progress) -> None:
        return


def view_for(console: Console, as_json: bool) -> View:
    """The view that fits where the output goes."""
    if as_json:
        return NoView(console)
    return LiveView(console) if console.is_terminal else PlainView(console)
