"""Small WebAssembly modules for tests: traps and limits as text, a WASI program in C that tells what it was given."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import wasmtime

from skerry import paths

_SHELL = """(module (type (func)) (table 1 funcref) (memory (export "memory") 1)
  (func (export "_start") {body}))"""

#: name of the trap -> body of ``_start`` that runs into it.
TRAPS = {
    "unreachable": "unreachable",
    "integer_divide_by_zero": "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
    "integer_overflow": "(drop (i32.div_s (i32.const -2147483648) (i32.const -1)))",
    "invalid_conversion_to_integer": "(drop (i32.trunc_f32_s (f32.const nan)))",
    "memory_out_of_bounds": "(drop (i32.load (i32.const 10000000)))",
    "indirect_call_to_null": "(call_indirect (type 0) (i32.const 0))",
    "table_out_of_bounds": "(call_indirect (type 0) (i32.const 9))",
}

_WRITE = '(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
_EXIT = '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'

TEXTS = {
    "loops": _SHELL.format(body="(loop (br 0))"),
    "recurses": _SHELL.format(body="(call 0)"),
    "eats": """(module (memory (export "memory") 1) (func (export "_start") (local $old i32)
      (loop $more (local.set $old (memory.grow (i32.const 16)))
        (if (i32.eq (local.get $old) (i32.const -1)) (then (unreachable)))
        (memory.fill (i32.mul (local.get $old) (i32.const 65536)) (i32.const 1) (i32.const 1048576))
        (br $more))))""",
    "prints": f"""(module {_WRITE} (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\00\\04\\00\\00")
      (func (export "_start") (memory.fill (i32.const 16) (i32.const 121) (i32.const 1023))
        (i32.store8 (i32.const 1039) (i32.const 10))
        (loop $more (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $more))))""",
    # Passes the controller's look, and no engine: the body of _start leaves a value on the stack.
    "invalid": "",
}


def wat(text: str) -> bytes:
    """A module from its text."""
    return bytes(wasmtime.wat2wasm(text))


def trapping(name: str) -> bytes:
    """A module that ends with the trap ``name``."""
    return wat(_SHELL.format(body=TRAPS[name]))


def exiting(code: int) -> bytes:
    """A module that calls proc_exit from two calls down."""
    return wat(
        f'(module {_EXIT} (memory (export "memory") 1) (func $deep (call $exit (i32.const {code})))'
        ' (func (export "_start") (call $deep) (unreachable)))'
    )


def invalid() -> bytes:
    """A module whose sections are in order and whose code is not valid."""
    good = wat(_SHELL.format(body="nop"))
    # nop, end -> i32.const, end: the constant's operand is the end, and the body has none.
    return good.replace(b"\x01\x0b", b"\x41\x0b") if b"\x01\x0b" in good else good[:-2] + b"\x41\x0b"


def module(name: str) -> bytes:
    """One of `TEXTS` or `TRAPS`, or ``invalid``."""
    if name == "invalid":
        return invalid()
    return trapping(name) if name in TRAPS else wat(TEXTS[name])


WORLD_C = r"""
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
extern char **environ;
int main(int count, char **arguments) {
    static char buffer[65536];
    size_t total = 0, n;
    for (int i = 0; i < count; i++) printf("argument %s\n", arguments[i]);
    for (char **e = environ; e && *e; e++)
        if (!strncmp(*e, "T_", 2)) printf("variable %s\n", *e);
    while ((n = fread(buffer, 1, sizeof buffer, stdin)) > 0) total += n;
    printf("input %zu\n", total);
    FILE *file = fopen("/data/given.txt", "r");
    if (file) {
        n = fread(buffer, 1, sizeof buffer - 1, file);
        buffer[n] = 0;
        printf("file %s\n", buffer);
        fclose(file);
    }
    if (fopen("/data/../../../../etc/passwd", "r") && !getenv("T_NATIVE")) printf("escaped\n");
    fprintf(stderr, "a word on standard error");
    printf("no newline at the end");
    return count > 1 ? atoi(arguments[1]) : 0;
}
"""


def world(native: bool = False) -> Path:
    """The C program, built once: for WASI, or as a static native program of this machine."""
    flags = ["-target", "x86_64-linux-musl", "-static"] if native else ["-target", "wasm32-wasi"]
    digest = hashlib.sha256((WORLD_C + " ".join(flags)).encode()).hexdigest()[:16]
    folder = paths.cache() / "tests"
    out = folder / f"world-{digest}{'' if native else '.wasm'}"
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f"world-{digest}.c"
        source.write_text(WORLD_C, encoding="utf-8")
        part = out.with_suffix(".part")
        command = [sys.executable, "-m", "ziglang", "cc", *flags, "-Os", "-s", "-o", str(part), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        part.replace(out)
    return out
