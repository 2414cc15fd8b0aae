"""What an embedded engine is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass
class Wasi:
    """The world of one command: WASI preview 1.

    ``dirs`` are pairs (host directory, guest directory); ``stdin``: descriptor 0 has something to read.
    """

    argv: list[str]
    env: list[tuple[str, str]] = field(default_factory=list)
    dirs: list[tuple[str, str]] = field(default_factory=list)
    stdin: bool = False


@dataclass
class Outcome:
    """How a call ended. Times are of the monotonic clock in nanoseconds.

    ``error`` is the engine's own message where the module could not be loaded or linked; ``pss`` is this process's
    proportional set size while the instance still lives, where it was asked for.
    """

    go_ns: int = 0
    loaded_ns: int = 0
    instantiated_ns: int = 0
    end_ns: int = 0
    exit_code: int | None = None
    trap: str | None = None
    error: str | None = None
    message: str = ""
    pss: int | None = None


class EngineError(Exception):
    """The engine refused a module (invalid, or with imports that nobody gives), in its own words."""


class Engine(Protocol):
    """An engine whose library is loaded."""

    version: str

    def compile(self, wasm: Path, out: Path) -> None:
        """Compile ahead of time into ``out``. Raises EngineError."""
        ...

    def invoke(self, module: Path, mode: str, wasi: Wasi, measure: bool) -> Outcome:
        """Load ``module`` (for mode ``aot`` what `compile` wrote, else the wasm file) and run ``_start``."""
        ...
