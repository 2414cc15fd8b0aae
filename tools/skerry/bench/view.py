"""The live view of a run: one line a phase on a terminal, one line in ten percent elsewhere."""

from __future__ import annotations

import threading

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from skerry.bench.execute import View


class Live(View):
    """Shows phases on standard error; standard output is the result's."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[at]}", style="dim"), console=self.console, disable=not self.console.is_terminal)
        self._task: TaskID | None = None
        self._lock = threading.Lock()
        self._done = self._total = 0
        self._name = ""

    def __enter__(self) -> Live:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int) -> None:
        """See `View.phase`."""
        self._name, self._total, self._done = name, total, 0
        if self.console.is_terminal:
            self._task = self._progress.add_task(name, total=total, at="")
        else:
            self.console.print(f"{name}: {total}", highlight=False)

    def step(self, host: str, text: str) -> None:
        """See `View.step`."""
        with self._lock:
            before, self._done = self._done, self._done + 1
            if self._task is not None:
                self._progress.update(self._task, advance=1, at=f"{host} {text}"[:60])
            elif self._total >= 10 and self._done * 10 // self._total > before * 10 // self._total:
                self.console.print(f"{self._name}: {self._done} of {self._total}", highlight=False)

    def note(self, text: str) -> None:
        """See `View.note`."""
        self.console.print(Text(text, style="yellow"), soft_wrap=True)
