"""wasmtime's C interface through ctypes (libwasmtime.so of the Python wheel, version 50 and its neighbours).

Only what a WASI command needs. The engine and a linker with WASI are made once; everything else is made for each
call and is what the cold start consists of.
"""

from __future__ import annotations

import ctypes
import os
import time
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint8, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from ..memory import pss
from ..traps import UNKNOWN, WASMTIME_CODES, from_text
from .base import EngineError, Outcome, Wasi


class _Vec(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("data", c_void_p)]


class _Instance(ctypes.Structure):
    _fields_ = [("store_id", c_uint64), ("index", c_size_t)]


class _Func(ctypes.Structure):
    _fields_ = [("store_id", c_uint64), ("private", c_void_p)]


class _ExternOf(ctypes.Union):
    _fields_ = [("func", _Func), ("room", c_uint64 * 4)]


class _Extern(ctypes.Structure):
    _fields_ = [("kind", c_uint8), ("of", _ExternOf)]


#: name -> (result, arguments)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "wasm_engine_new": (c_void_p, []),
    "wasm_byte_vec_delete": (None, [POINTER(_Vec)]),
    "wasm_trap_delete": (None, [c_void_p]),
    "wasm_trap_message": (None, [c_void_p, POINTER(_Vec)]),
    "wasmtime_trap_code": (c_bool, [c_void_p, POINTER(c_uint8)]),
    "wasmtime_error_message": (None, [c_void_p, POINTER(_Vec)]),
    "wasmtime_error_delete": (None, [c_void_p]),
    "wasmtime_error_exit_status": (c_bool, [c_void_p, POINTER(c_int)]),
    "wasmtime_module_new": (c_void_p, [c_void_p, c_char_p, c_size_t, POINTER(c_void_p)]),
    "wasmtime_module_delete": (None, [c_void_p]),
    "wasmtime_module_serialize": (c_void_p, [c_void_p, POINTER(_Vec)]),
    "wasmtime_module_deserialize_file": (c_void_p, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "wasmtime_store_new": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "wasmtime_store_context": (c_void_p, [c_void_p]),
    "wasmtime_store_delete": (None, [c_void_p]),
    "wasmtime_context_set_wasi": (c_void_p, [c_void_p, c_void_p]),
    "wasmtime_linker_new": (c_void_p, [c_void_p]),
    "wasmtime_linker_define_wasi": (c_void_p, [c_void_p]),
    "wasmtime_linker_instantiate": (c_void_p, [c_void_p, c_void_p, c_void_p, POINTER(_Instance), POINTER(c_void_p)]),
    "wasmtime_instance_export_get": (c_bool, [c_void_p, POINTER(_Instance), c_char_p, c_size_t, POINTER(_Extern)]),
    "wasmtime_func_call": (
        c_void_p,
        [c_void_p, POINTER(_Func), c_void_p, c_size_t, c_void_p, c_size_t, POINTER(c_void_p)],
    ),
    "wasi_config_new": (c_void_p, []),
    "wasi_config_set_argv": (c_bool, [c_void_p, c_size_t, POINTER(c_char_p)]),
    "wasi_config_set_env": (c_bool, [c_void_p, c_size_t, POINTER(c_char_p), POINTER(c_char_p)]),
    "wasi_config_inherit_stdin": (None, [c_void_p]),
    "wasi_config_set_stdin_bytes": (None, [c_void_p, POINTER(_Vec)]),
    "wasi_config_set_stdin_file": (c_bool, [c_void_p, c_char_p]),
    "wasi_config_inherit_stdout": (None, [c_void_p]),
    "wasi_config_inherit_stderr": (None, [c_void_p]),
    "wasi_config_preopen_dir": (c_bool, [c_void_p, c_char_p, c_char_p, c_bool]),
}


def _strings(values: list[str]) -> Any:
    return (c_char_p * len(values))(*[value.encode("utf-8", "surrogateescape") for value in values])


class Wasmtime:
    """The library at ``path``, with one engine and one linker."""

    def __init__(self, path: str, version: str) -> None:
        self.version = version
        library = ctypes.CDLL(path)
        self.c = library
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self.engine = library.wasm_engine_new()
        self.linker = library.wasmtime_linker_new(self.engine)
        self._check(library.wasmtime_linker_define_wasi(self.linker))

    def _take(self, vector: _Vec) -> str:
        text = ctypes.string_at(vector.data, vector.size).decode("utf-8", "replace") if vector.size else ""
        self.c.wasm_byte_vec_delete(byref(vector))
        return text.rstrip("\0")

    def _message(self, error: int) -> str:
        vector = _Vec()
        self.c.wasmtime_error_message(error, byref(vector))
        self.c.wasmtime_error_delete(error)
        return self._take(vector)

    def _check(self, error: int | None) -> None:
        if error:
            raise EngineError(self._message(error))

    def compile(self, wasm: Path, out: Path) -> None:
        """See `Engine.compile`."""
        data = wasm.read_bytes()
        module = c_void_p()
        self._check(self.c.wasmtime_module_new(self.engine, data, len(data), byref(module)))
        vector = _Vec()
        try:
            self._check(self.c.wasmtime_module_serialize(module, byref(vector)))
        finally:
            self.c.wasmtime_module_delete(module)
        out.write_bytes(ctypes.string_at(vector.data, vector.size))
        self.c.wasm_byte_vec_delete(byref(vector))

    def _load(self, path: Path, mode: str, module: c_void_p) -> None:
        if mode == "aot":
            self._check(self.c.wasmtime_module_deserialize_file(self.engine, str(path).encode(), byref(module)))
            return
        data = path.read_bytes()
        self._check(self.c.wasmtime_module_new(self.engine, data, len(data), byref(module)))

    def _config(self, wasi: Wasi) -> int:
        c = self.c
        config = c.wasi_config_new()
        c.wasi_config_set_argv(config, len(wasi.argv), _strings(wasi.argv))
        if wasi.env:
            names, values = [k for k, _ in wasi.env], [v for _, v in wasi.env]
            c.wasi_config_set_env(config, len(names), _strings(names), _strings(values))
        # Inherited, standard input is read by one thread for the whole process, which stays at its end for good: a
        # second run in the same process would get nothing. As a file it belongs to this run, and has a reader of its
        # own; where there is nothing to read, that reader's start would be a sixth of a cold start.
        if not wasi.stdin:
            c.wasi_config_set_stdin_bytes(config, byref(_Vec(0, None)))
        elif not c.wasi_config_set_stdin_file(config, b"/proc/self/fd/0"):
            c.wasi_config_inherit_stdin(config)
        c.wasi_config_inherit_stderr(config)
        c.wasi_config_inherit_stdout(config)
        for host, guest in wasi.dirs:
            if not c.wasi_config_preopen_dir(config, host.encode(), guest.encode(), True):
                raise EngineError(f"directory {host} cannot be opened")
        return int(config)

    def invoke(self, module: Path, mode: str, wasi: Wasi, measure: bool) -> Outcome:
        """See `Engine.invoke`."""
        outcome = Outcome()
        loaded, store = c_void_p(), None
        outcome.go_ns = time.monotonic_ns()
        try:
            self._load(module, mode, loaded)
            outcome.loaded_ns = time.monotonic_ns()
            store = self.c.wasmtime_store_new(self.engine, None, None)
            context = self.c.wasmtime_store_context(store)
            self._check(self.c.wasmtime_context_set_wasi(context, self._config(wasi)))
            self._start(context, loaded, outcome)
        except EngineError as error:
            outcome.error = str(error)
        finally:
            outcome.end_ns = outcome.end_ns or time.monotonic_ns()
            if measure:
                outcome.pss = pss(os.getpid())
            if store:
                self.c.wasmtime_store_delete(store)
            if loaded:
                self.c.wasmtime_module_delete(loaded)
        return outcome

    def _start(self, context: int, module: c_void_p, outcome: Outcome) -> None:
        instance, trap, found = _Instance(), c_void_p(), _Extern()
        error = self.c.wasmtime_linker_instantiate(self.linker, context, module, byref(instance), byref(trap))
        outcome.instantiated_ns = time.monotonic_ns()
        if not error and not trap:
            there = self.c.wasmtime_instance_export_get(context, byref(instance), b"_start", 6, byref(found))
            if not there or found.kind != 0:
                raise EngineError("the module exports no function _start: it is no WASI command")
            error = self.c.wasmtime_func_call(context, byref(found.of.func), None, 0, None, 0, byref(trap))
            outcome.end_ns = time.monotonic_ns()
            self._ended(error, trap, outcome)
        elif trap:
            self._ended(error, trap, outcome)
        else:
            self._check(error)

    def _ended(self, error: int | None, trap: c_void_p, outcome: Outcome) -> None:
        if trap:
            code = c_uint8()
            vector = _Vec()
            known = self.c.wasmtime_trap_code(trap, byref(code))
            self.c.wasm_trap_message(trap, byref(vector))
            outcome.message = self._take(vector)
            outcome.trap = WASMTIME_CODES.get(code.value, UNKNOWN) if known else from_text(outcome.message) or UNKNOWN
            self.c.wasm_trap_delete(trap)
            return
        outcome.exit_code = 0
        if error:
            status = c_int()
            if self.c.wasmtime_error_exit_status(error, byref(status)):
                outcome.exit_code = status.value
                self.c.wasmtime_error_delete(error)
                return
            outcome.exit_code = None
            outcome.message = self._message(error)
            outcome.trap = from_text(outcome.message) or UNKNOWN
