"""An engine inside one process, through its C interface: wasmtime's library is carried here, WasmEdge's is the host's.

A run is made in a fork of its own. Samples of time are taken in one resident fork, so that neither Python's start nor
the library's is in them; samples of memory each in a fork of their own, whose size before the call is subtracted.
"""

from __future__ import annotations

import gc
import json
import os
import platform
from pathlib import Path
from typing import Any, NoReturn

from .. import elf
from .. import memory as sizes
from ..engines.base import Engine, EngineError, Outcome, Wasi
from ..engines.wasmedge import WasmEdge, find_library
from ..engines.wasmtime import Wasmtime
from ..faults import ProbeError
from ..procs import Take, execute
from .base import Host, Result, Rung, Slot, Spec, capability, from_ended
from .outcomes import fill, refused
from .resident import Resident


def load(host: Host, spec: Spec) -> Engine:
    """The engine's library in this process.

    Raises:
        ProbeError: it cannot be loaded on this host.
    """
    try:
        if spec.engine == "wasmtime":
            return Wasmtime(str(host.store.path(spec.library or "")), spec.library_version)
        found = find_library(host.section("wasm_runtime"))
        return WasmEdge(found or "libwasmedge.so.0")
    except (OSError, AttributeError) as error:
        raise ProbeError(
            "RUN_013",
            f"the {spec.engine} library cannot be loaded: {error}",
            "install a C library that it fits, or leave the rung embedded out with --rung",
        ) from error


def report_of(outcome: Outcome, **more: Any) -> bytes:
    return json.dumps({**vars(outcome), **more}).encode()


class _EmbeddedSlot(Slot):
    def __init__(self, host: Host, spec: Spec) -> None:
        super().__init__(host, spec)
        self.engine = load(host, spec)
        self.wasi = Wasi([spec.name, *spec.args], [(k, v) for k, v in spec.env], self.dirs, spec.stdin is not None)
        self.module = self.program()
        self.empty = host.store.path(host.store.add(elf.EMPTY_WASM))
        if spec.mode == "aot":
            self.module = self._compile(self.module, "module.aot")
            self.empty = self._compile(self.empty, "empty.aot")
        self.resident: Resident | None = None

    def _compile(self, wasm: Path, name: str) -> Path:
        """Compile in a child: a compiler that fails, or eats the machine, does it there."""
        out = self.directory / name

        def child(report: int) -> NoReturn:
            try:
                self.engine.compile(wasm, out)
            except EngineError as error:
                os.write(report, str(error).encode())
            os._exit(0)

        words = bytearray()
        ended = self.compiler(child, lambda _, data: words.extend(data))
        if ended.report or not out.exists():
            raise refused(
                ended.report.decode("utf-8", "replace")
                or words.decode("utf-8", "replace")
                or "its compiler ended with %s" % (ended.signal or ended.exit_code)
            )
        return out

    def warm(self) -> None:
        """Run an empty module once: what the library does only the first time is not part of a sample."""
        self.engine.invoke(self.empty, self.spec.mode, Wasi(["warm"]), False)

    def once(self, take: Take, memory: bool) -> Result:
        """See `Slot.once`."""
        if self.stays and not memory:
            if self.resident is None:
                self.resident = Resident(self)
            return self.resident.sample(take)
        return self._fork(take, memory)

    def _fork(self, take: Take, memory: bool) -> Result:
        spec = self.spec

        def child(report: int) -> NoReturn:
            measure = memory or group is None
            before = sizes.pss(os.getpid()) if measure else None
            outcome = self.engine.invoke(self.module, spec.mode, self.wasi, measure)
            os.write(report, report_of(outcome, before=before))
            os._exit(0)

        group = self.host.cgroups.new(spec.memory)
        stdin = self.stdin()
        gc.collect()
        try:
            ended = execute(child, stdin, spec.limits, group, take, self.watch(memory, group))
            result = from_ended(ended, group)
        finally:
            os.close(stdin)
            if group is not None:
                group.remove()
        if ended.limit is None and ended.signal is None:
            outcome = json.loads(ended.report or b"null")
            if outcome is None:
                raise refused(f"it ended without an answer (exit code {ended.exit_code})")
            fill(result, outcome)
            if outcome["before"] is not None:
                peak = max(ended.pss or 0, outcome["pss"] or 0)
                result.pss_bytes = max(0, peak - outcome["before"])
                if group is None:
                    result.memory_bytes, result.memory_source = result.pss_bytes, "pss"
        return result

    def close(self) -> None:
        """See `Slot.close`."""
        if self.resident is not None:
            self.resident.close()
        super().close()


class Embedded(Rung):
    """Needs an engine's library: wasmtime's is carried by the controller, WasmEdge's must be on the host."""

    name = "embedded"

    def capabilities(self, host: Host) -> list[dict[str, Any]]:
        """See `Rung.capabilities`. The controller adds its own reason where it has no wasmtime for the architecture."""
        reason = None
        if platform.libc_ver()[0] != "glibc":
            reason = "the wasmtime library that is carried there needs glibc"
        found = [capability(self.name, "wasmtime", "", mode, reason, default=mode == "aot") for mode in ("aot", "jit")]
        return found + self._wasmedge(host)

    def _wasmedge(self, host: Host) -> list[dict[str, Any]]:
        path = find_library(host.section("wasm_runtime"))
        if path is None:
            return [capability(self.name, "wasmedge", "", "interpreter", "no libwasmedge on the host")]
        try:
            engine = WasmEdge(path)
        except (OSError, AttributeError) as error:
            return [capability(self.name, "wasmedge", "", "interpreter", f"{path}: {error}")]
        empty = host.store.path(host.store.add(elf.EMPTY_WASM))
        aot = (
            None
            if engine.compiles(empty, host.work / "compiles.so")
            else f"{path} was built without the ahead-of-time compiler"
        )
        return [
            capability(self.name, "wasmedge", engine.version, "interpreter"),
            capability(self.name, "wasmedge", engine.version, "aot", aot, default=False),
        ]

    def open(self, host: Host, spec: Spec) -> Slot:
        """See `Rung.open`."""
        return _EmbeddedSlot(host, spec)
