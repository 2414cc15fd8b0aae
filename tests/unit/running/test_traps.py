"""Every engine's way of telling a trap ends in one vocabulary, and an exit is no trap."""

from __future__ import annotations

import pytest

from skerry.probe import traps
from skerry.probe.faults import ProbeError
from skerry.probe.rungs import container, process
from skerry.probe.rungs.base import Result

WASMTIME = """Error: failed to run main module `x.wasm`

Caused by:
    0: failed to invoke command default
    1: error while executing at wasm backtrace:
    0:     0x3b - <unknown>!<wasm function 0>
    2: wasm trap: {}
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wasm `unreachable` instruction executed", "unreachable"),
        ("integer divide by zero", "integer_divide_by_zero"),
        ("integer overflow", "integer_overflow"),
        ("out of bounds memory access", "memory_out_of_bounds"),
        ("uninitialized element", "indirect_call_to_null"),
        ("undefined element: out of bounds table access", "table_out_of_bounds"),
        ("indirect call type mismatch", "indirect_call_type_mismatch"),
        ("call stack exhausted", "stack_overflow"),
        ("invalid conversion to integer", "invalid_conversion_to_integer"),
    ],
)
def test_words_name_the_trap(text: str, name: str) -> None:
    assert traps.from_text(text) == name
    result = Result(exit_code=134)
    process.judge(result, "wasmtime", "", "the module's own words\n" + WASMTIME.format(text))
    assert (result.trap, result.exit_code) == (name, None)
    assert result.stderr_foreign == len(WASMTIME.format(text))


def test_all_names_of_codes_are_in_use_once() -> None:
    assert traps.WASMTIME_CODES[9] == "unreachable"
    assert all(name.replace("_", "").isalpha() for name in traps.WASMTIME_CODES.values())


@pytest.mark.parametrize("engine", ["wasmtime", "wasmedge"])
@pytest.mark.parametrize("code", [0, 1, 7, 134])
def test_an_exit_stays_an_exit(engine: str, code: int) -> None:
    result = Result(exit_code=code)
    process.judge(result, engine, "", "Error: this the module printed\n")
    assert (result.exit_code, result.trap) == (code, None)


def test_exit_codes_that_wasmtime_refuses() -> None:
    said = WASMTIME.replace("wasm trap: {}", "exit with invalid exit status outside of [0..126)")
    result = Result(exit_code=1)
    process.judge(result, "wasmtime", "", said)
    assert (result.trap, result.exit_code) == ("invalid_exit_code", None)


def test_a_refused_module_is_a_fault() -> None:
    said = "[2026-11-21 11:44:08.793] [error] instantiation failed: unknown import, Code: 0x302"
    with pytest.raises(ProbeError, match="unknown import"):
        process.judge(Result(exit_code=1), "wasmedge", said, "")
    with pytest.raises(ProbeError, match="RUN_011"):
        container.judge(Result(exit_code=1), True, said, "[libcrun:wasmedge]: could not get wasmedge result from VM\n")


def test_native_programs_trap_by_signals() -> None:
    result = Result(exit_code=139)
    container.judge(result, False, "", "")
    assert (result.trap, result.exit_code) == ("signal_SIGSEGV", None)
    assert traps.from_signal(200) == "signal_200"
