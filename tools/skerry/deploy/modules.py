"""What a module is, as placement needs it: a core module, a component that is a command, or one that answers HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skerry.errors import SkerryError
from skerry.running import module as core

COMPONENT = b"\x0d\0\x01\0"
#: Import and export names stand as plain text in a component (component model, Binary.md).
_COMMAND = b"wasi:cli/run@0.2"
_HANDLER = b"wasi:http/incoming-handler@0.2"

#: http: a component that exports wasi:http/incoming-handler and no command; image: no module at all.
Form = Literal["core", "component", "http", "image"]


@dataclass(frozen=True)
class Known:
    """A module that may be deployed; ``form``: what it is."""

    path: Path
    size: int
    form: Form


def look(path: Path) -> Known:
    """Look at a module before it is sent anywhere.

    Raises:
        SkerryError: RUN_001 to RUN_006 for core modules, RUN_008 for what is too large, DEPLOY_010 for a component that
            is no command.
    """
    data = core.content(path)
    if data[:8] != core.MAGIC + COMPONENT:
        return Known(path, core.inspect(path).size, "core")
    if _COMMAND in data:
        return Known(path, len(data), "component")
    if _HANDLER in data:
        return Known(path, len(data), "http")
    raise SkerryError(
        "DEPLOY_010",
        f"{path} is a component that exports neither wasi:cli/run nor wasi:http/incoming-handler",
        "build a command of WASI 0.2 (wasm32-wasip2), or a handler of wasi:http 0.2",
    )
