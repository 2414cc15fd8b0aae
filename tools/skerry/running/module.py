"""A look at a WebAssembly module before it is sent anywhere: is it one, is it whole, is it a WASI command.

Binary format: WebAssembly core specification 2.0, section 5 (magic, version, sections as id, size, content).
Validation of the code itself is the engines' business.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from skerry.errors import SkerryError

MAGIC = b"\0asm"
CORE = b"\x01\0\0\0"
_WASI = ("wasi_snapshot_preview1", "wasi_unstable")
#: The largest module that is taken, in bytes, and how many imports or exports it may have: it is read here, at once and
#: in Python, before the limits of any host hold it. Engines take modules of 1 GB and a million names.
MOST_BYTES, MOST_NAMES = 256 << 20, 100_000
_EXPORT_KINDS = {0: "function", 1: "table", 2: "memory", 3: "global", 4: "tag"}


@dataclass(frozen=True)
class Module:
    """What a module asks for and offers.

    Attributes:
        imports: (module, name) in order.
        exports: name -> kind (``function``, ``memory``, ...).
    """

    path: Path
    size: int
    imports: tuple[tuple[str, str], ...] = ()
    exports: dict[str, str] = field(default_factory=dict)


class CutError(Exception):
    """The bytes end, or say something impossible."""


class Reader:
    """Reads what binaries consist of, from ``start`` up to ``end``; every method raises `CutError`."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data, self.at, self.end = data, start, end

    def byte(self) -> int:
        """A byte."""
        if self.at >= self.end:
            raise CutError(f"it ends at byte {self.at}")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """An unsigned LEB128 of at most 32 bits."""
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
            shift += 7
            if shift > 28:
                raise CutError(f"a number at byte {self.at} is too long")
        if value >= 1 << 32:
            raise CutError(f"a number at byte {self.at} is too large")
        return value

    def take(self, size: int) -> bytes:
        """Some bytes."""
        self.skip(size)
        return self.data[self.at - size : self.at]

    def skip(self, size: int) -> None:
        """Read over what another reader reads."""
        if self.at + size > self.end:
            raise CutError(f"{size} bytes are announced at byte {self.at}, {self.end - self.at} are there")
        self.at += size

    def name(self) -> str:
        """A name."""
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError as error:
            raise CutError(f"a name before byte {self.at} is no UTF-8") from error

    def names(self) -> int:
        """How many imports or exports follow."""
        found = self.number()
        if found > MOST_NAMES:
            raise CutError(f"{found} imports or exports are announced at byte {self.at}, {MOST_NAMES} are taken")
        return found

    def sections(self) -> Iterator[tuple[int, Self]]:
        """The sections up to the end: kind, and a reader of the content."""
        while self.at < self.end:
            kind, size = self.byte(), self.number()
            start = self.at
            self.skip(size)
            yield kind, type(self)(self.data, start, self.at)

    def limits(self) -> None:
        """Limits of a table or memory; read over."""
        flags = self.byte()
        self.number()
        if flags & 1:
            self.number()


def _imports(reader: Reader) -> tuple[tuple[str, str], ...]:
    found = []
    for _ in range(reader.names()):
        found.append((reader.name(), reader.name()))
        kind = reader.byte()
        if kind == 0:
            reader.number()
        elif kind == 1:
            reader.byte()
            reader.limits()
        elif kind == 2:
            reader.limits()
        elif kind == 3:
            reader.take(2)
        elif kind == 4:
            reader.byte()
            reader.number()
        else:
            raise CutError(f"an import of unknown kind {kind}")
    return tuple(found)


def _exports(reader: Reader) -> dict[str, str]:
    found = {}
    for _ in range(reader.names()):
        name = reader.name()
        found[name] = _EXPORT_KINDS.get(reader.byte(), "unknown")
        reader.number()
    return found


def _sections(data: bytes) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    imports: tuple[tuple[str, str], ...] = ()
    exports: dict[str, str] = {}
    seen = set[int]()
    for kind, inner in Reader(data, 8, len(data)).sections():
        if kind in seen and kind:
            raise CutError(f"a second section of kind {kind} at byte {inner.at}")
        seen.add(kind)
        if kind == 2:
            imports = _imports(inner)
        elif kind == 7:
            exports = _exports(inner)
        elif kind > 13:
            raise CutError(f"a section of unknown kind {kind} at byte {inner.at}")
    return imports, exports


def content(path: Path) -> bytes:
    """The bytes of a module's file.

    Raises:
        SkerryError: RUN_001 no such file, or none that has an end; RUN_008 larger than `MOST_BYTES`.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device may never end
            raise SkerryError("RUN_001", f"{path} is no regular file", "name a .wasm file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SkerryError("RUN_001", f"{path} cannot be read: {error.strerror}", "name a .wasm file") from error
    if len(data) > MOST_BYTES:
        raise SkerryError("RUN_008", f"{path} is larger than {MOST_BYTES >> 20} MiB", "no module of that size is taken")
    return data


def inspect(path: Path) -> Module:
    """Read a module and see that it is a WASI preview 1 command.

    Raises:
        SkerryError: RUN_001 no such file, RUN_002 no wasm, RUN_003 a component or an unknown version, RUN_004 damaged,
            RUN_005 no command (no function ``_start``), RUN_006 imports that WASI preview 1 does not have, RUN_008 too
            large.
    """
    data = content(path)
    if data[:4] != MAGIC:
        what = (
            "a WebAssembly text file: wat2wasm makes a module of it" if data.lstrip()[:1] == b"(" else "no WebAssembly"
        )
        raise SkerryError(
            "RUN_002", f"{path} is {what}", "name a .wasm file, for example one of skerry workloads build"
        )
    if data[4:8] != CORE:
        component = data[4:8] == b"\x0d\0\x01\0"
        what = "a component (WASI preview 2)" if component else f"of unknown version {data[4:8].hex()}"
        raise SkerryError(
            "RUN_003",
            f"{path} is {what}, not a core module",
            "build it for wasm32-wasip1 (WASI preview 1), for example with zig cc -target wasm32-wasi",
        )
    try:
        imports, exports = _sections(data)
    except CutError as error:
        raise SkerryError("RUN_004", f"{path} is damaged: {error}", "build or copy it again") from error
    foreign = next(((module, name) for module, name in imports if module not in _WASI), None)
    if foreign is not None:
        raise SkerryError(
            "RUN_006",
            f"{path} imports {foreign[1]!r} from {foreign[0]!r}, which WASI preview 1 does not have",
            "build it for WASI (wasm32-wasip1), not for a browser or an embedding of its own",
        )
    if exports.get("_start") != "function":
        raise SkerryError(
            "RUN_005",
            f"{path} exports no function _start: it is a library, no command",
            "build a program with a main function",
        )
    return Module(path, len(data), imports, exports)
