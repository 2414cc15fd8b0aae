"""Where workloads go: the inventory's word, then what hosts can run, then a fair and steady spread."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skerry.deploy import placement
from skerry.deploy.model import Workload
from skerry.deploy.placement import Assignment, HostView
from skerry.errors import SkerryError
from skerry.targets.api import Target

WASMTIME = {"proved": True, "version": "48.0.8", "command": "/usr/local/bin/wasmtime"}
WASMEDGE = {"proved": True, "version": "0.14.1", "command": "/usr/bin/wasmedge"}


def host(name: str, host_type: str = "edge", zone: str = "", **variables: Any) -> Target:
    labels = {"host_type": host_type, "region": "eu", "zone": zone}
    return Target(name, variables, (f"skerry_{host_type}",), labels)


def view(*running: str, **runtimes: Any) -> HostView:
    return HostView("x86_64", {"wasm_runtime": {"runtimes": runtimes}}, frozenset(running))


def workload(**more: Any) -> Workload:
    return Workload.model_validate({"name": "a", "kind": "service", "module": "m.wasm", **more})


def test_all_conditions_must_hold() -> None:
    targets = [host("c", "cloud"), host("e1", zone="z1"), host("e2", zone="z2", k3s_node_labels={"gpu": "yes"})]
    fit, passed = placement.candidates(workload(placement={"host_type": "edge", "labels": {"gpu": True}}), targets)
    assert [one.name for one in fit] == []
    fit, passed = placement.candidates(workload(placement={"host_type": "edge", "labels": {"gpu": "yes"}}), targets)
    assert [one.name for one in fit] == ["e2"]
    assert {one.host: one.reason for one in passed} == {
        "c": "its host_type is cloud, not edge", "e1": "its label gpu is not set, not yes"}
    fit, _ = placement.candidates(workload(placement={"hosts": ["skerry_edge"]}), targets)
    assert [one.name for one in fit] == ["e1", "e2"]
    with pytest.raises(SkerryError, match="DEPLOY_020"):
        placement.candidates(workload(placement={"hosts": ["e9"]}), targets)


def place(one: Workload, form: Any, seen: HostView) -> Any:
    return placement.able(one, form, "h", seen)


def test_wasmtime_comes_first() -> None:
    found = place(workload(), "core", view(wasmtime=WASMTIME, wasmedge=WASMEDGE))
    assert (found.rung, found.runtime["name"]) == ("process", "wasmtime")
    assert place(workload(), "core", view(wasmedge=WASMEDGE)).runtime["name"] == "wasmedge"
    assert "no runtime's command" in place(workload(), "core", view()).reason


def test_components_need_wasmtime() -> None:
    assert "runtime for components" in place(workload(), "component", view(wasmedge=WASMEDGE)).reason
    assert place(workload(), "component", view(wasmtime=WASMTIME)).runtime["name"] == "wasmtime"


def test_who_serves_requests_and_who_listens() -> None:
    listening = workload(ports=[{"port": 80}])
    both = view(wasmtime=WASMTIME, wasmedge=WASMEDGE)
    assert place(listening, "http", both).runtime["name"] == "wasmtime"
    assert place(listening, "component", both).runtime["name"] == "wasmtime"
    assert place(listening, "core", both).runtime["name"] == "wasmedge"
    assert "core modules listen through WasmEdge" in place(listening, "core", view(wasmtime=WASMTIME)).reason
    assert "no server for wasi:http" in place(listening, "http", view(wasmedge=WASMEDGE)).reason
    without = view(wasmtime={**WASMTIME, "serves": False})
    assert "wasmtime serve" in place(listening, "http", without).reason
    assert place(listening, "component", without).runtime["name"] == "wasmtime"


def test_what_was_not_proved_is_not_used() -> None:
    broken = view(wasmtime={**WASMTIME, "proved": False})
    assert isinstance(place(workload(), "core", broken), placement.Passed)
    assert "arm64" in place(workload(placement={"arch": "arm64"}), "core", view(wasmtime=WASMTIME)).reason


CRUN = {"proved": True, "version": "1.21", "engine": "wasmedge", "engine_version": "0.14.1", "exit_code_kept": False}
DOCKER = {"version": "26.1.5", "wasm_runtime": "crun", "wasm_annotation": {"module.wasm.image/variant": "compat"}}


def docker_view(docker: dict[str, Any] = DOCKER, **runtimes: Any) -> HostView:
    return HostView("x86_64", {"wasm_runtime": {"runtimes": runtimes}, "docker": docker})


def test_docker_comes_after_commands() -> None:
    both = docker_view(wasmtime=WASMTIME, crun=CRUN)
    assert place(workload(), "core", both).rung == "process"
    asked = place(workload(rung="container"), "core", both)
    assert (asked.rung, asked.runtime["command"], asked.runtime["exit_codes"]) == ("container", "crun", False)
    left = place(workload(), "core", docker_view(crun=CRUN))
    assert (left.rung, left.why) == ("container", "Docker runs it: no runtime's command was proved there "
                                     "(role wasm_runtime)")


def test_a_host_says_why_its_docker_does_not_run_it() -> None:
    one = workload(rung="container")
    assert place(one, "core", view(wasmtime=WASMTIME)).reason == "it has no Docker (role docker)"
    old = docker_view({"version": "20.10", "wasm_runtime": None}, crun={"proved": False, "error": "too old"})
    assert place(one, "core", old).reason.endswith("was proved to run WebAssembly: too old")
    assert "core modules alone" in place(one, "component", docker_view(crun=CRUN)).reason
    image = Workload.model_validate({"name": "a", "kind": "container", "image": "r.example/a:1"})
    found = place(image, "image", old)
    assert (found.rung, found.why) == ("container", "Docker runs it: an image")
    assert place(image, "image", view(wasmtime=WASMTIME)).reason == "it has no Docker (role docker)"


def chosen(one: Workload, targets: list[Target], views: dict[str, HostView], held: frozenset[str] = frozenset()) -> Any:
    return placement.choose(one, "core", targets, views, held)


@given(count=st.integers(1, 8), zones=st.integers(1, 4), wanted=st.integers(1, 8), running=st.sets(st.integers(0, 7)))
def test_replicas_spread_and_stay(count: int, zones: int, wanted: int, running: set[int]) -> None:
    targets = [host(f"h{at}", zone=f"z{at % zones}") for at in range(count)]
    views = {f"h{at}": view(*(["a"] if at in running else []), wasmtime=WASMTIME) for at in range(count)}
    one = workload(placement={"replicas": wanted})
    found = chosen(one, targets, views)
    hosts = [entry.host for entry in found.assignments]
    assert len(set(hosts)) == len(hosts) == min(count, wanted)
    assert bool(found.short) == (wanted > count)
    had = {f"h{at}" for at in running if at < count}
    assert len(had & set(hosts)) == min(len(had), wanted), "what runs stays where it is"
    if not had:
        per_zone = [sum(name in hosts and targets[at].labels["zone"] == f"z{zone}"
                        for at, name in enumerate(f"h{n}" for n in range(count))) for zone in range(min(zones, count))]
        sizes = [sum(at % zones == zone for at in range(count)) for zone in range(min(zones, count))]
        assert all(taken == size or taken >= max(per_zone) - 1 for taken, size in zip(per_zone, sizes, strict=True))
    views = {name: HostView(seen.arch, seen.facts, frozenset({"a"} if name in hosts else ())) for name, seen in
             views.items()}
    assert [entry.host for entry in chosen(one, targets, views).assignments] == hosts, "the second time nothing moves"


def test_an_unknown_host_keeps_its_place() -> None:
    targets = [host("h1"), host("h2"), host("h3")]
    views = {"h2": view(wasmtime=WASMTIME), "h3": view(wasmtime=WASMTIME)}
    one = workload(placement={"replicas": 2})
    assert len(chosen(one, targets, views).assignments) == 2
    found = chosen(one, targets, views, frozenset({"h1"}))
    assert len(found.assignments) == 1
    assert not found.short
    assert [(entry.host, entry.reason) for entry in found.passed] == [("h1", "unknown: it could not be asked")]
    assert isinstance(found.assignments[0], Assignment)


@given(count=st.integers(2, 8), wanted=st.integers(1, 7), to=st.integers(0, 7), away=st.integers(0, 7))
def test_a_host_chosen_by_hand_comes_first_and_a_left_one_last(count: int, wanted: int, to: int, away: int) -> None:
    to, away, wanted = to % count, away % count, min(wanted, count - 1)
    assume(to != away)
    targets = [host(f"h{at}", zone=f"z{at % 2}") for at in range(count)]
    views = {f"h{at}": view(*(["a"] if at == away else []), wasmtime=WASMTIME) for at in range(count)}
    by_hand = placement.ByHand(frozenset({f"h{to}"}), frozenset({f"h{away}"}))
    found = placement.choose(workload(placement={"replicas": wanted}), "core", targets, views, by_hand=by_hand)
    assert len(found.assignments) == wanted
    assert [one.why.split(";")[0] for one in found.assignments if one.host == f"h{to}"] == ["moved here by hand"]
    assert f"h{away}" not in {one.host for one in found.assignments}
