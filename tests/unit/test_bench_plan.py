"""The plan: what is measured, in which order, and what a budget leaves of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.bench import plan
from skerry.bench.plan import Options
from skerry.bench.results import Combination
from skerry.targets.api import Capability
from skerry.workloads import manifest


def capability(rung: str, engine: str = "wasmedge", mode: str = "interpreter", **more: object) -> Capability:
    fields: dict[str, object] = {"version": "0.14.1", "payload": "native" if engine == "native" else "wasm",
                                 "available": True, **more}
    return Capability(rung=rung, engine=engine, mode=mode, **fields)  # type: ignore[arg-type]


WAYS = [capability("native", "native", "native"), *map(capability, ("embedded", "process", "container"))]


def combinations(hosts: int, options: Options) -> list[Combination]:
    found = []
    for at in range(hosts):
        found += plan.combinations(f"h{at}", WAYS, manifest.load_all(), options)[0]
    return found


def test_every_host_rung_and_workload_is_there_with_its_floor() -> None:
    options = Options(samples=5)
    found = combinations(2, options)
    assert len(found) == len({one.id for one in found}) == 2 * len(WAYS) * (3 + 1)
    assert Counter(one.workload for one in found) == dict.fromkeys(("hello", "sensors", "sha256", "empty"), 8)


def test_what_is_lacking_is_said_with_its_reason() -> None:
    ways = [*WAYS, capability("pod", available=False, reason="this host is not in a cluster"),
            capability("embedded", mode="aot", default=False)]
    found, missing = plan.combinations("h", ways, manifest.load_all(["hello"]), Options())
    assert {one.rung for one in found} == {"native", "embedded", "process", "container"}
    said = {(one.rung, one.mode): one.reason for one in missing}
    assert said[("pod", "interpreter")] == "this host is not in a cluster"
    assert "--every-mode" in said[("embedded", "aot")]
    found, missing = plan.combinations("h", ways, manifest.load_all(["hello"]), Options(every_mode=True))
    assert ("embedded", "aot") in {(one.rung, one.mode) for one in found}


def test_a_rung_of_which_the_probe_says_nothing_is_missing_too() -> None:
    _, missing = plan.combinations("h", WAYS, manifest.load_all(["hello"]), Options())
    assert [one.rung for one in missing] == ["pod"]


def test_rungs_that_were_not_asked_for_are_neither_measured_nor_missing() -> None:
    found, missing = plan.combinations("h", WAYS, manifest.load_all(["hello"]), Options(rungs=("native",)))
    assert {one.rung for one in found} == {"native"}
    assert missing == []


@given(st.integers(1, 2**31), st.integers(1, 12), st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_the_schedule_has_every_sample_and_hangs_on_the_seed_alone(seed: int, samples: int, memory: int) -> None:
    found = combinations(2, Options(samples=samples, memory_samples=memory))
    order = plan.schedule(found, seed)
    assert order == plan.schedule(list(reversed(found)), seed)
    counted = Counter((slot.combination, slot.kind) for slot in order)
    for one in found:
        assert counted[(one.id, "time")] == samples
        assert counted[(one.id, "memory")] == min(one.memory_planned, samples)


def test_another_seed_gives_another_order() -> None:
    found = combinations(3, Options(samples=3))
    assert plan.schedule(found, 1) != plan.schedule(found, 2)


def test_samples_of_hosts_and_rungs_are_mixed_and_spread_over_the_run() -> None:
    found = combinations(3, Options(samples=20, memory_samples=0))
    few = found[5].model_copy(update={"planned": 4})
    found[5] = few
    order = plan.schedule(found, 11)
    hosts = [slot.combination.split("|")[0] for slot in order]
    changes = sum(one != other for one, other in pairwise(hosts))
    assert changes > len(order) / 2  # 2 of 3 expected for three hosts; blocks would give a handful
    places = [at / len(order) for at, slot in enumerate(order) if slot.combination == few.id]
    for quarter, at in enumerate(places):
        assert quarter / 4 <= at <= (quarter + 1) / 4


def test_a_budget_that_holds_changes_nothing() -> None:
    one = combinations(1, Options(samples=10, memory_samples=2))[0]
    assert plan.with_budget(one, 0.5, 6.0) == one


def test_a_budget_that_does_not_hold_leaves_fewer_samples_and_says_so() -> None:
    one = combinations(1, Options(samples=20, memory_samples=4))[0]
    less = plan.with_budget(one, 1.0, 12.0)
    assert (less.planned, less.memory_planned) == (10, 2)
    assert less.decision == "10 of 20 samples, 2 of 4 of memory: one takes 1 s, the budget is 12 s"
    least = plan.with_budget(one, 60.0, 12.0)
    assert (least.planned, least.memory_planned) == (plan.LEAST_SAMPLES, 1)


def test_the_full_input_is_given_up_only_where_a_small_one_would_help() -> None:
    assert plan.too_slow_for_full(5.0, False, 0.3, 20.0)
    assert plan.too_slow_for_full(0.0, True, 0.3, 20.0)  # its time limit ended it
    assert not plan.too_slow_for_full(5.0, False, 4.0, 20.0)  # the rung itself takes that long
    assert not plan.too_slow_for_full(0.1, False, 0.01, 20.0)
