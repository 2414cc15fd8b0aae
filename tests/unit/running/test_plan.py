"""Which runs there are, and how their results are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from skerry.errors import SkerryError
from skerry.running import show, units
from skerry.running.plan import check_names, choose
from skerry.targets.api import Capability, Fault, HostFacts, RunResult

FACTS = HostFacts("h", "x86_64", "x86_64", "6.1", "D", "3.11.2", 2, "", 1 << 30, True, 2, None, "m", False, "/", {})
NATIVE = Capability("native", "native", "", "native", "native", True)
AOT = Capability("embedded", "wasmtime", "50", "aot", "wasm", True)
JIT = replace(AOT, mode="jit", default=False)
EDGE = Capability("embedded", "wasmedge", "", "interpreter", "wasm", False, "no libwasmedge on the host")
BOX = Capability("container", "native", "", "native", "native", False, "no Docker on the host")
ALL = [NATIVE, AOT, JIT, EDGE, BOX]


def _keys(rungs: list[str], natives: dict[str, Any] | None = None) -> tuple[list[str], dict[str, bool]]:
    chosen, missing = choose("h", FACTS, ALL, rungs, natives or {})
    return [entry.key for entry in chosen], {entry.key: entry.asked for entry in missing}


def test_default_modes_run_and_reasons_are_kept() -> None:
    assert _keys([]) == (["embedded/wasmtime/aot"], {"embedded/wasmedge/interpreter": False})


def test_a_mode_that_is_named_runs_though_it_is_no_default() -> None:
    assert _keys(["embedded/wasmtime/jit"]) == (["embedded/wasmtime/jit"], {})


def test_a_rung_with_one_engine_is_no_failure_for_the_other() -> None:
    assert _keys(["embedded"])[1] == {"embedded/wasmedge/interpreter": False}
    assert _keys(["embedded/wasmedge"]) == ([], {"embedded/wasmedge/interpreter": True})
    assert _keys(["embedded", "embedded/wasmedge"])[1] == {"embedded/wasmedge/interpreter": True}


def test_the_control_needs_a_native_build() -> None:
    assert _keys(["native"]) == ([], {"native/native/native": True})
    assert _keys(["native"], {"x86_64": "f"}) == (["native/native/native"], {})
    assert _keys([], {"x86_64": "f"})[1]["container/native/native"] is False


@pytest.mark.parametrize("name", ["proces", "embedded/a/b/c", ""])
def test_rungs_that_do_not_exist(name: str) -> None:
    with pytest.raises(SkerryError, match="RUN_031"):
        check_names([name])


@pytest.mark.parametrize(("text", "size"), [("64M", 64 << 20), ("1GiB", 1 << 30), ("1.5k", 1536), ("512", 512)])
def test_sizes(text: str, size: int) -> None:
    assert units.size(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "much", "-1M", "0", "64 MB s"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SkerryError, match="RUN_030"):
        units.size(text, "--memory")


def _result(**fields: Any) -> RunResult:
    values: dict[str, Any] = {"host": "h", "rung": "embedded", "runtime": "wasmtime", "version": "50", "mode": "aot",
                              "exit_code": 0, "trap": None, "limit": None, "stdout": b"", "stderr": b"",
                              "seconds": 0.1, "memory_bytes": 1}
    return RunResult(**{**values, **fields})


def test_objects_have_every_key_and_survive_any_bytes() -> None:
    shown = json.loads(json.dumps(show.as_object(_result(stdout=b"a\xff\n"))))
    assert tuple(shown) == show.KEYS
    assert shown["stdout"] == "a\\xff\n"
    assert tuple(show.failed_object("h", None, Fault("TARGET_003", "c", "r"))) == show.KEYS


@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, "exit 0"), ({"note": "n"}, "exit 0*"), ({"exit_code": None, "trap": "unreachable"}, "trap unreachable"),
     ({"exit_code": None, "limit": "memory"}, "limit memory"), ({"fault": Fault("RUN_011", "", "")}, "RUN_011")],
)
def test_how_a_run_ended(fields: dict[str, Any], words: str) -> None:
    assert show.ended(_result(**fields)) == words


def test_lines_of_several_runs_stay_whole(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    streams = show.Streams(alone=False, colour=False)
    for label, data in (("a", b"one "), ("b", b"two\nthr"), ("a", b"line\n"), ("b", b"ee")):
        streams.write(label, "stdout", data)
    streams.finish("b")
    assert capfdbinary.readouterr().out == b"b | two\na | one line\nb | three\n"
