"""One vocabulary of traps for every engine.

Names follow the WebAssembly specification's test suite. Numbers are wasmtime's (``wasmtime/trap.h``, 50); WasmEdge
renumbers its codes between releases, so its messages are read, which follow the specification's words.
"""

from __future__ import annotations

import re
import signal

UNKNOWN = "unknown_trap"

#: wasmtime_trap_code_t -> name.
WASMTIME_CODES: dict[int, str] = {
    0: "stack_overflow",
    1: "memory_out_of_bounds",
    2: "unaligned_atomic",
    3: "table_out_of_bounds",
    4: "indirect_call_to_null",
    5: "indirect_call_type_mismatch",
    6: "integer_overflow",
    7: "integer_divide_by_zero",
    8: "invalid_conversion_to_integer",
    9: "unreachable",
    10: "interrupted",
    11: "out_of_fuel",
    12: "atomic_wait_on_unshared_memory",
    13: "null_reference",
    14: "array_out_of_bounds",
    15: "allocation_too_large",
    16: "cast_failure",
    49: "uncaught_exception",
}

#: Texts, lower case, looked for in the engine's own last words; the first that fits names the trap.
TEXTS: tuple[tuple[str, str], ...] = (
    (r"invalid exit status outside", "invalid_exit_code"),  # wasmtime's answer to proc_exit(126) and above
    (r"integer divide by zero|division by zero|divide by zero", "integer_divide_by_zero"),
    (r"integer overflow", "integer_overflow"),
    (r"invalid conversion to integer", "invalid_conversion_to_integer"),
    (r"uninitialized element|indirect call to null", "indirect_call_to_null"),
    (r"indirect call type mismatch", "indirect_call_type_mismatch"),
    (r"undefined element|out of bounds table access|table out of bounds", "table_out_of_bounds"),
    (r"out of bounds memory access|memory fault|memory out of bounds", "memory_out_of_bounds"),
    (r"call stack exhausted|stack overflow|call stack overflow", "stack_overflow"),
    (r"unreachable", "unreachable"),
    (r"unaligned (memory access|atomic)|misaligned", "unaligned_atomic"),
    (r"expected shared memory|atomic wait", "atomic_wait_on_unshared_memory"),
    (r"null reference|null_reference", "null_reference"),
    (r"uncaught exception|thrown wasm exception", "uncaught_exception"),
    (r"allocation size too large", "allocation_too_large"),
)


def from_text(text: str) -> str | None:
    """The trap that an engine's message tells, or None when it tells none that is known."""
    lowered = text.lower()
    for pattern, name in TEXTS:
        if re.search(pattern, lowered):
            return name
    return None


def from_signal(number: int) -> str:
    """``signal_SIGSEGV`` and the like: how a native program traps."""
    try:
        return "signal_" + signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal_{number}"
