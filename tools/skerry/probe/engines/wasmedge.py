"""WasmEdge's C interface through ctypes: the host's own libwasmedge (0.13 and 0.14 have the functions used here)."""

from __future__ import annotations

import ctypes
import glob
import os
import time
from ctypes import POINTER, c_bool, c_char_p, c_int, c_uint32, c_void_p
from pathlib import Path
from typing import Any

from ..memory import pss
from ..traps import UNKNOWN, from_text
from .base import EngineError, Outcome, Wasi

_WASI = 0  # WasmEdge_HostRegistration_Wasi
_NATIVE = 0  # WasmEdge_CompilerOutputFormat_Native: a shared object

#: Where distributions and WasmEdge's own installer put the library.
_PLACES = (
    "/usr/lib/*/libwasmedge.so.0",
    "/usr/lib64/libwasmedge.so.0",
    "/usr/lib/libwasmedge.so.0",
    "/usr/local/lib/libwasmedge.so.0",
    "/usr/local/lib64/libwasmedge.so.0",
)


def find_library(section: dict[str, Any] | None) -> str | None:
    """Path of libwasmedge: the proved one of the fact file's section; where no role ran, the one that is installed."""
    if section is not None:
        entry = (section.get("runtimes") or {}).get("wasmedge") or {}
        path = entry.get("library") if entry.get("proved") else None
        return path if path and os.path.exists(path) else None
    for place in _PLACES:
        for path in sorted(glob.glob(place)):
            return path
    return None


class _Result(ctypes.Structure):
    _fields_ = [("code", c_uint32)]


class _String(ctypes.Structure):
    _fields_ = [("length", c_uint32), ("buffer", c_char_p)]


_LIST = POINTER(c_char_p)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "WasmEdge_VersionGet": (c_char_p, []),
    "WasmEdge_LogOff": (None, []),
    "WasmEdge_ResultOK": (c_bool, [_Result]),
    "WasmEdge_ResultGetMessage": (c_char_p, [_Result]),
    "WasmEdge_ConfigureCreate": (c_void_p, []),
    "WasmEdge_ConfigureDelete": (None, [c_void_p]),
    "WasmEdge_ConfigureAddHostRegistration": (None, [c_void_p, c_int]),
    "WasmEdge_ConfigureCompilerSetOutputFormat": (None, [c_void_p, c_int]),
    "WasmEdge_ConfigureSetForceInterpreter": (None, [c_void_p, c_bool]),
    "WasmEdge_VMCreate": (c_void_p, [c_void_p, c_void_p]),
    "WasmEdge_VMDelete": (None, [c_void_p]),
    "WasmEdge_VMGetImportModuleContext": (c_void_p, [c_void_p, c_int]),
    "WasmEdge_ModuleInstanceInitWASI": (None, [c_void_p, _LIST, c_uint32, _LIST, c_uint32, _LIST, c_uint32]),
    "WasmEdge_ModuleInstanceWASIGetExitCode": (c_uint32, [c_void_p]),
    "WasmEdge_VMLoadWasmFromFile": (_Result, [c_void_p, c_char_p]),
    "WasmEdge_VMValidate": (_Result, [c_void_p]),
    "WasmEdge_VMInstantiate": (_Result, [c_void_p]),
    "WasmEdge_VMExecute": (_Result, [c_void_p, _String, c_void_p, c_uint32, c_void_p, c_uint32]),
    "WasmEdge_CompilerCreate": (c_void_p, [c_void_p]),
    "WasmEdge_CompilerCompile": (_Result, [c_void_p, c_char_p, c_char_p]),
    "WasmEdge_CompilerDelete": (None, [c_void_p]),
}


def _strings(values: list[str]) -> tuple[Any, int]:
    return (c_char_p * len(values))(*[value.encode("utf-8", "surrogateescape") for value in values]), len(values)


class WasmEdge:
    """The library at ``path``. Its log, which it writes to standard output, is off: results carry the messages."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self.c = library
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        library.WasmEdge_LogOff()
        self.version = library.WasmEdge_VersionGet().decode()

    def _check(self, result: _Result) -> None:
        if not self.c.WasmEdge_ResultOK(result):
            raise EngineError(self._message(result))

    def _message(self, result: _Result) -> str:
        return f"{self.c.WasmEdge_ResultGetMessage(result).decode()} (0x{result.code:x})"

    def compiles(self, wasm: Path, out: Path) -> bool:
        """Whether this build has the ahead-of-time compiler: told by compiling ``wasm``."""
        try:
            self.compile(wasm, out)
        except EngineError:
            return False
        return True

    def compile(self, wasm: Path, out: Path) -> None:
        """See `Engine.compile`."""
        config = self.c.WasmEdge_ConfigureCreate()
        self.c.WasmEdge_ConfigureCompilerSetOutputFormat(config, _NATIVE)
        compiler = self.c.WasmEdge_CompilerCreate(config)
        try:
            self._check(self.c.WasmEdge_CompilerCompile(compiler, str(wasm).encode(), str(out).encode()))
        finally:
            self.c.WasmEdge_CompilerDelete(compiler)
            self.c.WasmEdge_ConfigureDelete(config)

    def invoke(self, module: Path, mode: str, wasi: Wasi, measure: bool) -> Outcome:
        """See `Engine.invoke`."""
        outcome, c = Outcome(), self.c
        path = str(module).encode()
        outcome.go_ns = time.monotonic_ns()
        config = c.WasmEdge_ConfigureCreate()
        c.WasmEdge_ConfigureAddHostRegistration(config, _WASI)
        c.WasmEdge_ConfigureSetForceInterpreter(config, mode == "interpreter")
        machine = c.WasmEdge_VMCreate(config, None)
        try:
            self._check(c.WasmEdge_VMLoadWasmFromFile(machine, path))
            self._check(c.WasmEdge_VMValidate(machine))
            outcome.loaded_ns = time.monotonic_ns()
            world = self._world(machine, wasi)
            started = c.WasmEdge_VMInstantiate(machine)
            outcome.instantiated_ns = time.monotonic_ns()
            self._instantiated(started, outcome)
            if outcome.trap is None:
                self._call(machine, world, outcome)
        except EngineError as error:
            outcome.error = str(error)
        finally:
            outcome.end_ns = time.monotonic_ns()
            if measure:
                outcome.pss = pss(os.getpid())
            c.WasmEdge_VMDelete(machine)
            c.WasmEdge_ConfigureDelete(config)
        return outcome

    def _world(self, machine: int, wasi: Wasi) -> int:
        world = self.c.WasmEdge_VMGetImportModuleContext(machine, _WASI)
        args, arg_count = _strings(wasi.argv)
        env, env_count = _strings(["{}={}".format(*pair) for pair in wasi.env])
        dirs, dir_count = _strings([f"{guest}:{host}" for host, guest in wasi.dirs])
        self.c.WasmEdge_ModuleInstanceInitWASI(world, args, arg_count, env, env_count, dirs, dir_count)
        return int(world)

    def _instantiated(self, result: _Result, outcome: Outcome) -> None:
        """A start function may trap; anything else that fails here is a module that does not link."""
        if self.c.WasmEdge_ResultOK(result):
            return
        message = self._message(result)
        trap = from_text(message)
        if trap is None:
            raise EngineError(message)
        outcome.trap, outcome.message = trap, message

    def _call(self, machine: int, world: int, outcome: Outcome) -> None:
        result = self.c.WasmEdge_VMExecute(machine, _String(6, b"_start"), None, 0, None, 0)
        if self.c.WasmEdge_ResultOK(result):  # "terminated", which proc_exit makes of it, counts as well
            outcome.exit_code = self.c.WasmEdge_ModuleInstanceWASIGetExitCode(world)
            return
        outcome.message = self._message(result)
        if "not found" in outcome.message:
            raise EngineError("the module exports no function _start: it is no WASI command")
        outcome.trap = from_text(outcome.message) or UNKNOWN
