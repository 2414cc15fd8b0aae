"""Keeps a runtime's own words out of a program's output.

WasmEdge writes its log to standard output, behind whatever the module printed. What looks like its log is held back
until the end; then the last unbroken run of log lines is the runtime's if it ended with an error, the module's if not.
"""

from __future__ import annotations

import re

from ..procs import Take

_LOG = re.compile(rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] \[(?:error|warning|info|critical)\] ")
#: Bytes of standard error that are kept.
_TAIL = 8192
_SHAPE = b"[0000-00-00 00:00:00.000] ["


def _may_begin(tail: bytes) -> bool:
    """Whether ``tail`` is the beginning of a log line's head."""
    shape = bytes(48 if 48 <= byte <= 57 else byte for byte in tail)
    return _SHAPE.startswith(shape) if len(tail) <= len(_SHAPE) else shape.startswith(_SHAPE)


class Tail:
    """A `Take` that passes everything on and keeps the end of standard error, where a runtime says why it gave up."""

    def __init__(self, take: Take) -> None:
        self.take = take
        self._kept = bytearray()

    def __call__(self, stream: str, data: bytes) -> None:
        if stream == "stderr":
            self._kept.extend(data)
            del self._kept[:-_TAIL]
        self.take(stream, data)

    @property
    def text(self) -> str:
        """What is kept, as text."""
        return self._kept.decode("utf-8", "replace")


class Words:
    """A `Take` that passes everything on but what may be the runtime's words on standard output."""

    def __init__(self, take: Take) -> None:
        self.take = take
        self.held = b""

    def __call__(self, stream: str, data: bytes) -> None:
        if stream != "stdout":
            self.take(stream, data)
            return
        data = self.held + data
        found = _LOG.search(data)
        cut = found.start() if found else self._partial(data)
        if cut:
            self.take("stdout", data[:cut])
        self.held = data[cut:]

    @staticmethod
    def _partial(data: bytes) -> int:
        """Where a log line may just have begun at the end of ``data``; its length when nowhere."""
        start = data.rfind(b"[", max(0, len(data) - len(_SHAPE) - 12))
        earlier = data.rfind(b"[", max(0, len(data) - len(_SHAPE) - 12), max(0, start))
        for place in (earlier, start):
            if place >= 0 and _may_begin(data[place:]):
                return place
        return len(data)

    def finish(self, failed: bool) -> str:
        """What was held: the runtime's words, given back, when it ``failed``; passed on otherwise."""
        held, self.held = self.held, b""
        if not failed:
            if held:
                self.take("stdout", held)
            return ""
        lines = held.split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        first = len(lines)
        while first and _LOG.match(lines[first - 1]):
            first -= 1
        module = b"\n".join(lines[:first]) + (b"\n" if first and first < len(lines) else b"")
        if first == len(lines):
            module = held
        if module:
            self.take("stdout", module)
        return b"\n".join(lines[first:]).decode("utf-8", "replace")
