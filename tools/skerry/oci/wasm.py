"""What a WebAssembly binary is, as its image or artifact tells it: module or component, its imports and exports.

Binary formats: WebAssembly core specification 2.0, section 5; component model, Binary.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skerry.errors import SkerryError
from skerry.running import module as core

COMPONENT = b"\x0d\0\x01\0"
#: Interfaces (name before the version) of which a component exports one when a host can start it.
RUNNABLE = ("wasi:cli/run", "wasi:http/incoming-handler")
_IMPORTS, _EXPORTS, _LAST = 10, 11, 12


@dataclass(frozen=True)
class Program:
    """A module (``os`` wasip1) or a component (wasip2). Names of imports and exports: of components alone, sorted."""

    content: bytes
    form: Literal["core", "component"]
    imports: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()

    @property
    def os(self) -> str:
        """As the wasm OCI artifact layout calls it."""
        return "wasip2" if self.form == "component" else "wasip1"


class _Reader(core.Reader):
    def external_name(self) -> str:
        """A name of an import or export, without its encoding's first byte."""
        if self.byte() > 1:
            raise core.CutError(f"a name of an unknown kind at byte {self.at - 1}")
        return self.name()

    def description(self) -> None:
        """externdesc: what an import or export is; read over."""
        kind = self.byte()
        if kind == 0 and self.byte() != 0x11:
            raise core.CutError(f"an item of an unknown kind at byte {self.at - 1}")
        if kind > 5:
            raise core.CutError(f"an item of the unknown kind {kind} at byte {self.at - 1}")
        if kind in (2, 3) and self.byte() == 1 and kind == 3:
            return  # a type of its own has no number
        self.number()


def _names(reader: _Reader, exports: bool) -> list[str]:
    found: list[str] = []
    for _ in range(reader.names()):
        found.append(reader.external_name())
        if exports:
            if reader.byte() == 0:
                reader.byte()  # the sort of a core item has a second byte
            reader.number()
            if reader.byte() == 0:
                continue
        reader.description()
    return found


def _sections(data: bytes) -> tuple[list[str], list[str]]:
    imports: list[str] = []
    exports: list[str] = []
    for kind, inner in _Reader(data, 8, len(data)).sections():
        if kind > _LAST:
            raise core.CutError(f"a section of unknown kind {kind} before byte {inner.at}")
        if kind in (_IMPORTS, _EXPORTS):
            (imports if kind == _IMPORTS else exports).extend(_names(inner, kind == _EXPORTS))
        if len(imports) + len(exports) > core.MOST_NAMES:
            raise core.CutError(f"it has more than {core.MOST_NAMES} imports and exports")
    return imports, exports


def look(path: Path) -> Program:
    """Read a module or a component.

    Raises:
        SkerryError: RUN_001, RUN_002 (no such file, no wasm), RUN_003 (an unknown version), RUN_004 (a damaged module),
            RUN_008 (too large);
            IMAGE_011 (a damaged component).
    """
    data = core.content(path)
    if data[:8] != core.MAGIC + COMPONENT:
        try:
            core.inspect(path)
        except SkerryError as error:
            if error.code not in ("RUN_005", "RUN_006"):  # a library is an artifact as well
                raise
        return Program(data, "core")
    try:
        imports, exports = _sections(data)
    except core.CutError as error:
        raise SkerryError("IMAGE_011", f"{path} is a damaged component: {error}", "build or copy it again") from error
    return Program(data, "component", tuple(sorted(imports)), tuple(sorted(exports)))


def require_command(path: Path, program: Program) -> None:
    """See that a container can be started from it.

    Raises:
        SkerryError: RUN_005, RUN_006 for core modules; IMAGE_012 for components that export nothing to start.
    """
    if program.form == "core":
        core.inspect(path)
    elif not any(name.partition("@")[0] in RUNNABLE for name in program.exports):
        raise SkerryError("IMAGE_012", f"{path} is a component that exports neither {' nor '.join(RUNNABLE)}",
                          "an image needs a program: build a command, or pack the library with --form artifact")
