"""The log that the container runtime writes for a pod's container: output, with streams and times, on the node itself.

Lines are ``TIME STREAM TAG TEXT``, TIME in RFC 3339 with nanoseconds, TAG ``F`` for a line's end and ``P`` for a piece
(Kubernetes, "CRI container logs").
"""

from __future__ import annotations

import calendar
import os
import time
from pathlib import Path

from .procs import CHUNK, Take


def nanoseconds(stamp: str) -> int:
    """RFC 3339 with up to nine digits of a second, in nanoseconds since 1970."""
    date, _, rest = stamp.partition("T")
    clock, zone = rest, 0
    for sign in "+-":
        if sign in rest:
            clock, _, offset = rest.partition(sign)
            hours, _, minutes = offset.partition(":")
            zone = (int(hours) * 3600 + int(minutes or 0) * 60) * (1 if sign == "+" else -1)
    whole, _, fraction = clock.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(date + whole, "%Y-%m-%d%H:%M:%S")) - zone
    return seconds * 1_000_000_000 + int((fraction + "000000000")[:9])


def to_monotonic(realtime_ns: int) -> int:
    """A time of the node's calendar clock on its monotonic clock."""
    return realtime_ns - time.time_ns() + time.monotonic_ns()


class CriLog:
    """Reads one container's log as it grows, also across a rotation by the kubelet."""

    def __init__(self, path: Path, take: Take) -> None:
        self.path, self.take = path, take
        self.fd: int | None = None
        self.rest = b""
        self.first_ns: int | None = None
        self.size = 0

    def read(self) -> None:
        """Take everything that is there now."""
        while True:
            if self.fd is None:
                try:
                    self.fd = os.open(self.path, os.O_RDONLY)
                except FileNotFoundError:
                    return
            while data := os.read(self.fd, CHUNK):
                self._feed(data)
            try:
                rotated = os.stat(self.path).st_ino != os.fstat(self.fd).st_ino
            except FileNotFoundError:
                return
            if not rotated:
                return
            self.close()

    def _feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            stamp, stream, tag, text = ([*line.split(b" ", 3), b""])[:4]
            name = stream.decode()
            if name == "stdout" and self.first_ns is None:
                self.first_ns = to_monotonic(nanoseconds(stamp.decode()))
            if tag == b"F":
                text += b"\n"
            self.size += len(text)
            self.take(name, text)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
