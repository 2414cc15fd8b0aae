"""Runs one WASI command in a process of its own, with the wasmtime of this Python: core modules and components.

Started by its path, so that it needs nothing but the library: ``python alone.py MODULE DATA_DIRECTORY ARGUMENT...``.
The directory is ``/data`` to the program, the streams are this process's own. Exit code: the program's; 134
after a trap.
"""

from __future__ import annotations

import sys
from pathlib import Path

import wasmtime
from wasmtime import component

COMPONENT = b"\0asm\x0d\0\x01\0"
TRAPPED = 134
_RUN = "wasi:cli/run@0.2"


def _core(engine: wasmtime.Engine, store: wasmtime.Store, data: bytes) -> int:
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    linker.instantiate(store, wasmtime.Module(engine, data)).exports(store)["_start"](store)
    return 0


def _component(engine: wasmtime.Engine, store: wasmtime.Store, data: bytes) -> int:
    command = component.Component(engine, data)
    linker = component.Linker(engine)
    linker.add_wasip2()
    instance = linker.instantiate(store, command)
    name = next(name for name in command.type.exports(engine) if name.startswith(_RUN))
    outer = instance.get_export_index(store, name)
    result = instance.get_func(store, instance.get_export_index(store, "run", outer))(store)
    return 0 if result.tag == "ok" else 1


def main(module: str, directory: str, arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    data = Path(module).read_bytes()
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = [Path(module).stem, *arguments]
    wasi.preopen_dir(directory, "/data")
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    store.set_wasi(wasi)
    try:
        return (_component if data.startswith(COMPONENT) else _core)(engine, store, data)
    except wasmtime.ExitTrap as end:
        return int(end.code)
    except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
        print(error, file=sys.stderr)
        return TRAPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
