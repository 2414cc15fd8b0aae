"""Which runs there are: every chosen rung, with every engine in its default mode, on every host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.errors import SkerryError
from skerry.targets.api import RUNGS, Capability, HostFacts


@dataclass(frozen=True)
class Missing:
    """A way of running that a host lacks; ``asked``: it was named on the command line and nothing stands in for it."""

    host: str
    key: str
    reason: str
    asked: bool


def check_names(rungs: Sequence[str]) -> None:
    """Raises SkerryError (RUN_031) for a rung that does not exist, with the nearest right forms."""
    for name in rungs:
        if name.split("/")[0] not in RUNGS or name.count("/") > 2:
            raise SkerryError(
                "RUN_031",
                f"there is no rung {name!r}",
                f"rungs are {', '.join(RUNGS)}; an engine and a mode may follow: embedded/wasmtime/aot",
            )


def _asked(entry: Capability, rungs: Sequence[str]) -> bool:
    return any((entry.key + "/").startswith(name.rstrip("/") + "/") for name in rungs)


def choose(
    host: str, facts: HostFacts, capabilities: Sequence[Capability], rungs: Sequence[str], natives: Mapping[str, object]
) -> tuple[list[Capability], list[Missing]]:
    """What runs on one host and what does not.

    Args:
        rungs: ``container``, ``embedded/wasmtime``, ``process/wasmedge/aot``; [] for all rungs in their default modes.
        natives: architectures that a native build of the program is there for.
    """
    chosen: list[Capability] = []
    lacking: list[tuple[Capability, str]] = []
    for entry in capabilities:
        exact = any(name.count("/") == 2 for name in rungs if _asked(entry, [name]))
        if (rungs and not _asked(entry, rungs)) or not (entry.default or exact):
            continue
        reason = entry.reason
        if entry.payload == "native" and facts.arch not in natives:
            if not any(
                _asked(entry, [name]) and (name == "native" or "native" in name.split("/")[1:]) for name in rungs
            ):
                continue  # a module alone has no native control, and nobody asked for one
            reason = f"no native build for {facts.arch} was given (--native {facts.arch}=FILE)"
        if reason is None:
            chosen.append(entry)
        else:
            lacking.append((entry, reason))
    unmet = [name for name in rungs if not any(_asked(entry, [name]) for entry in chosen)]
    return chosen, [Missing(host, entry.key, reason, _asked(entry, unmet)) for entry, reason in lacking]
