"""From an embedded engine's outcome to a result."""

from __future__ import annotations

from typing import Any

from ..faults import ProbeError
from .base import Result


def refused(message: str) -> ProbeError:
    """The engine does not take the module."""
    text = " ".join(message.split())
    return ProbeError(
        "RUN_011",
        f"the engine refuses the module: {text[:600]}",
        "give a WASI preview 1 command that validates (wasm-tools validate says where it does not)",
    )


def fill(result: Result, outcome: dict[str, Any]) -> None:
    """Take an engine's outcome into a result. Raises ProbeError when the engine refused the module."""
    if outcome["error"] is not None:
        raise refused(outcome["error"])
    go, loaded, instantiated, end = (outcome[name] for name in ("go_ns", "loaded_ns", "instantiated_ns", "end_ns"))
    first = result.started_ns + int(result.cold_seconds * 1e9)
    result.exit_code, result.trap, result.message = outcome["exit_code"], outcome["trap"], outcome["message"]
    result.started_ns, result.seconds = go, (end - go) / 1e9
    result.cold_seconds = (min(first, end) - go) / 1e9
    result.phases = {
        "load": (loaded - go) / 1e9,
        "instantiate": (instantiated - loaded) / 1e9,
        "call": (end - instantiated) / 1e9,
    }
