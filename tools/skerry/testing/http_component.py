"""A small handler of `wasi:http` for tests and benchmarks: `GET /` is answered at once, `GET /wait` after a while, both
with the same text, by which one knows which module answered."""

from __future__ import annotations

import functools

import wasmtime

from skerry.workloads.handler import wrap

#: A WASI program: prints, waits first where its last argument has five letters (/wait), ends with @CODE@.
_PROGRAM = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $wait (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\00\\04\\00\\00")
  (data (i32.const 1024) "@TEXT@")
  (func (export "_start")
    (drop (call $sizes (i32.const 16) (i32.const 20)))
    (if (i32.eq (i32.load (i32.const 20)) (i32.const 18))  ;; handler, GET, /wait, and their ends
      (then
        (i32.store (i32.const 80) (i32.const 1))
        (i64.store (i32.const 88) (i64.const @WAIT@))
        (drop (call $wait (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 24)))))
    (i32.store (i32.const 4) (i32.const @SIZE@))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.const @CODE@) (then (call $exit (i32.const @CODE@))))))"""


@functools.cache
def component(text: str, fails: bool = False, wait: float = 1.0) -> bytes:
    """A component that exports ``wasi:http/incoming-handler@0.2.0``.

    Args:
        text: the body of every answer, plain ASCII of at most 60,000 characters.
        fails: every answer has status 500.
        wait: seconds until ``/wait`` is answered.
    """
    words = {"TEXT": "".join(f"\\{byte:02x}" for byte in text.encode()), "SIZE": len(text),
             "WAIT": int(wait * 1e9), "CODE": int(fails)}
    program = _PROGRAM
    for word, value in words.items():
        program = program.replace(f"@{word}@", str(value))
    return wrap(bytes(wasmtime.wat2wasm(program)))
