"""What is measured, and in which order: pure functions of capabilities, options and the seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from skerry.bench.results import EMPTY, Combination, Kind, Missing
from skerry.targets.api import RUNGS, Capability
from skerry.workloads.manifest import Workload

#: A combination that was begun is sampled at least this often, whatever its budget.
LEAST_SAMPLES = 3
#: The full input is given up when this many runs of it would not fit the budget.
LEAST_FULL_RUNS = 5
#: Seconds: no budget is made smaller than this.
LEAST_BUDGET = 1.0


@dataclass(frozen=True)
class Options:
    """How much is measured.

    ``budget`` is seconds of sampling for each combination, its overhead included. ``every_mode``: also those compile
    modes of an engine that are not the default of their rung. ``seed`` 0: one is drawn. ``minutes``: how long the
    whole run may take; the budget is then found from what the rungs cost.
    """

    samples: int = 20
    memory_samples: int = 3
    warmups: int = 2
    budget: float = 20.0
    seed: int = 0
    rungs: tuple[str, ...] = RUNGS
    floors: bool = True
    every_mode: bool = False
    minutes: float | None = None


@dataclass(frozen=True)
class Slot:
    """One sample to take."""

    combination: str
    kind: Kind


def identity(host: str, capability_key: str, version: str, workload: str, size: str) -> str:
    """The stable name of a combination."""
    return "|".join((host, capability_key, version, workload, size))


def combination(host: str, capability: Capability, workload: str, size: str, options: Options) -> Combination:
    """The combination of a host, a way of running and a workload, before its budget is known."""
    return Combination(
        id=identity(host, capability.key, capability.version, workload, size),
        host=host,
        rung=capability.rung,
        engine=capability.engine,
        version=capability.version,
        mode=capability.mode,
        payload=capability.payload,
        via=capability.via,
        workload=workload,
        size=size,
        wanted=options.samples,
        planned=options.samples,
        memory_planned=0 if workload == EMPTY else options.memory_samples,
    )


def combinations(
    host: str, capabilities: Iterable[Capability], workloads: Sequence[Workload], options: Options
) -> tuple[list[Combination], list[Missing]]:
    """Everything that one host can do for these workloads, and what it cannot with the reasons."""
    found: list[Combination] = []
    missing: list[Missing] = []
    for one in capabilities:
        if one.rung not in options.rungs:
            continue
        if not one.available:
            reason = one.reason or "no reason was given"
            missing.append(Missing(host=host, rung=one.rung, engine=one.engine, mode=one.mode, reason=reason))
            continue
        if not (one.default or options.every_mode):
            missing.append(Missing(host=host, rung=one.rung, engine=one.engine, mode=one.mode,
                                   reason="left out of this run: it is measured with --every-mode"))
            continue
        found += [combination(host, one, workload.name, "full", options) for workload in workloads]
        if options.floors:
            found.append(combination(host, one, EMPTY, "full", options))
    seen = {entry.rung for entry in found} | {entry.rung for entry in missing}
    missing += [Missing(host=host, rung=rung, reason="the probe knows no way to run it on this host")
                for rung in options.rungs if rung not in seen]
    return found, missing


def with_budget(one: Combination, seconds_each: float, budget: float) -> Combination:
    """The combination with as many samples as its budget allows, and the decision said in words."""
    affordable = int(budget / seconds_each) if seconds_each > 0 else one.wanted + one.memory_planned
    asked = one.wanted + one.memory_planned
    if affordable >= asked:
        return one
    memory = min(one.memory_planned, max(1, round(affordable * one.memory_planned / asked)))
    planned = min(one.wanted, max(LEAST_SAMPLES, affordable - memory))
    if (planned, memory) == (one.wanted, one.memory_planned):
        return one
    said = f"{planned} of {one.wanted} samples"
    if one.memory_planned:
        said += f", {memory} of {one.memory_planned} of memory"
    said += f": one takes {seconds_each:.2g} s, the budget is {budget:g} s"
    decision = f"{one.decision}; {said}" if one.decision else said
    return one.model_copy(update={"planned": planned, "memory_planned": memory, "decision": decision})


def too_slow_for_full(seconds: float, limited: bool, floor: float, budget: float) -> bool:
    """Whether a first run of the full input says that the small one must do.

    ``floor`` is what an empty program takes there, which a smaller input would not make shorter.
    """
    return limited or (seconds - floor) * LEAST_FULL_RUNS > budget


def fill(needs: Sequence[float], seconds: float) -> float:
    """The budget for each combination when all together may take ``seconds``: the level at which the sum of
    min(need, level) is ``seconds`` (water filling), so that what quick ones leave over goes to slow ones."""
    left, waiting = seconds, sorted(needs)
    for at, need in enumerate(waiting):
        level = left / (len(waiting) - at)
        if need > level:
            return max(level, LEAST_BUDGET)
        left -= need
    return max(seconds, LEAST_BUDGET)


def group(one: Combination) -> tuple[str, str, str, str, str]:
    """Combinations that must have the same input, or no step could be taken between them."""
    return (one.host, one.workload, *one.series)


def sizes_of_controls(host_combinations: Sequence[Combination]) -> dict[str, set[str]]:
    """For each rung the sizes of input that its native control needs: in container and pod those of the modules there,
    and on the lowest rung all that are in use on the host."""
    found: dict[str, set[str]] = {"native": set()}
    for one in host_combinations:
        if one.payload == "wasm":
            found["native"].add(one.size)
            found.setdefault(one.rung, set()).add(one.size)
    for rung in ("native", "container", "pod"):
        found[rung] = found.get(rung) or {"full"}
        found["native"] |= found[rung]
    return found


def _spread(slots: list[list[Slot]], name: str, kind: Kind, count: int) -> None:
    """Put ``count`` samples into the rounds at equal distances, so that few samples see the whole run as well."""
    for at in range(count):
        slots[int((at + 0.5) * len(slots) / count)].append(Slot(name, kind))


def schedule(planned: Sequence[Combination], seed: int) -> list[Slot]:
    """All samples in the order in which they are taken.

    In rounds, each in an order of its own drawn from the seed: a drift of the machine touches all combinations alike,
    and an interrupted run has about as many samples of each.
    """
    rounds = max((one.planned for one in planned), default=0)
    if rounds == 0:
        return []
    slots: list[list[Slot]] = [[] for _ in range(rounds)]
    for one in sorted(planned, key=lambda entry: entry.id):
        _spread(slots, one.id, "time", min(one.planned, rounds))
        _spread(slots, one.id, "memory", min(one.memory_planned, rounds) if one.planned else 0)
    drawn = random.Random(seed)
    for round_slots in slots:
        drawn.shuffle(round_slots)
    return [slot for round_slots in slots for slot in round_slots]
