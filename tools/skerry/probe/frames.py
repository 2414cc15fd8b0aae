"""Frames: how the controller and the probe, and the probe and its runners, speak.

A frame is two big-endian 32-bit lengths, a JSON header of the first length and raw bytes of the second.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

LENGTHS = struct.Struct(">II")
HEADER_LIMIT = 16 << 20
PAYLOAD_LIMIT = 64 << 20

Frame = tuple[dict[str, Any], bytes]


class FrameError(Exception):
    """The other side does not speak frames: the connection is of no use any more."""


def encode(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """The bytes of one frame."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return LENGTHS.pack(len(head), len(payload)) + head + payload


class Decoder:
    """Turns a stream of bytes into frames, whatever the pieces in which it comes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take ``data``; the frames that are whole now.

        Raises:
            FrameError: lengths beyond the limits, or a header that is no JSON object.
        """
        self._buffer += data
        while len(self._buffer) >= LENGTHS.size:
            head, body = LENGTHS.unpack_from(self._buffer)
            if head > HEADER_LIMIT or body > PAYLOAD_LIMIT:
                raise FrameError(f"a frame of {head} + {body} bytes")
            end = LENGTHS.size + head + body
            if len(self._buffer) < end:
                return
            raw = bytes(self._buffer[LENGTHS.size : LENGTHS.size + head])
            payload = bytes(self._buffer[LENGTHS.size + head : end])
            del self._buffer[:end]
            try:
                header = json.loads(raw)
            except ValueError as error:
                raise FrameError("a header that is no JSON") from error
            if not isinstance(header, dict):
                raise FrameError("a header that is no object")
            yield header, payload
