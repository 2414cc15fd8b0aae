"""What a module is, as placement needs it: a core module or a component, a command or an HTTP handler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skerry.errors import SkerryError
from skerry.running import module as core

COMPONENT = b"\x0d\0\x01\0"
#: Import and export names stand as plain text in a component (component model, Binary.md).
_HTTP = b"wasi:http/incoming-handler@0.2"
_COMMAND = b"wasi:cli/run@0.2"

Form = Literal["core", "component", "http"]


@dataclass(frozen=True)
class Known:
    """A module that may be deployed. ``form``: core command, component command, or component with wasi:http."""

    path: Path
    size: int
    form: Form


def look(path: Path) -> Known:
    """Look at a module before it is sent anywhere.

    Raises:
        SkerryError: RUN_001 to RUN_006 for core modules, DEPLOY_010 for a component that is no command and no handler.
    """
    try:
        with path.open("rb") as file:
            component = file.read(8) == core.MAGIC + COMPONENT
            rest = file.read() if component else b""
    except OSError as error:
        raise SkerryError("RUN_001", f"{path} cannot be read: {error.strerror}", "name a .wasm file") from error
    if not component:
        return Known(path, core.inspect(path).size, "core")
    if _HTTP in rest:
        return Known(path, len(rest) + 8, "http")
    if _COMMAND in rest:
        return Known(path, len(rest) + 8, "component")
    raise SkerryError(
        "DEPLOY_010",
        f"{path} is a component that exports neither wasi:cli/run nor wasi:http/incoming-handler",
        "build a command (wasm32-wasip2) or an HTTP handler of WASI 0.2",
    )
