"""Kafka's wire format: the few types and the record batch that the role's checks need.

Runs on hosts with Python 3.8, standard library only. Source of the formats: Kafka's protocol guide; all messages here
are of versions before "flexible" ones, which every broker still speaks.
"""

from __future__ import annotations

import struct
import time

POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


def _table():
    table = []
    for number in range(256):
        value = number
        for _bit in range(8):
            value = (value >> 1) ^ POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data):
    """CRC-32C of bytes."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


class Writer:
    """Bytes of a request; every method returns the writer."""

    def __init__(self):
        self.data = bytearray()

    def _pack(self, form, value):
        self.data += struct.pack(form, value)
        return self

    def int8(self, value):
        """One byte."""
        return self._pack(">b", value)

    def int16(self, value):
        """Two bytes."""
        return self._pack(">h", value)

    def int32(self, value):
        """Four bytes."""
        return self._pack(">i", value)

    def int64(self, value):
        """Eight bytes."""
        return self._pack(">q", value)

    def boolean(self, value):
        """One byte, 0 or 1."""
        return self.int8(1 if value else 0)

    def string(self, value):
        """Text or None."""
        if value is None:
            return self.int16(-1)
        encoded = value.encode("utf-8")
        self.int16(len(encoded))
        self.data += encoded
        return self

    def blob(self, value):
        """Bytes or None."""
        if value is None:
            return self.int32(-1)
        self.int32(len(value))
        self.data += value
        return self

    def array(self, items, write):
        """A list; ``write(writer, item)`` writes one. None is the null list."""
        if items is None:
            return self.int32(-1)
        self.int32(len(items))
        for item in items:
            write(self, item)
        return self


class Reader:
    """Bytes of an answer, read from the front. Raises ValueError where they end too early."""

    def __init__(self, data):
        self.data = data
        self.position = 0

    def take(self, count):
        """The next ``count`` bytes."""
        piece = self.data[self.position : self.position + count]
        if len(piece) != count:
            raise ValueError(f"an answer of {len(self.data)} bytes ends too early")
        self.position += count
        return piece

    def _unpack(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def int8(self):
        """One byte."""
        return self._unpack(">b")

    def int16(self):
        """Two bytes."""
        return self._unpack(">h")

    def int32(self):
        """Four bytes."""
        return self._unpack(">i")

    def int64(self):
        """Eight bytes."""
        return self._unpack(">q")

    def string(self):
        """Text or None."""
        size = self.int16()
        return None if size < 0 else self.take(size).decode("utf-8", "replace")

    def blob(self):
        """Bytes or None."""
        size = self.int32()
        return None if size < 0 else self.take(size)

    def array(self, read):
        """A list; ``read(reader)`` reads one."""
        return [read(self) for _number in range(max(0, self.int32()))]

    def varint(self):
        """A zigzag number of variable length."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7


def varint(value):
    """A zigzag number of variable length, as bytes."""
    value = (value << 1) ^ (value >> 63)
    data = bytearray()
    while value & ~0x7F:
        data.append((value & 0x7F) | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def record_batch(value):
    """A batch (format 2) of one record with ``value`` (bytes), no key, no headers, uncompressed."""
    now = int(time.time() * 1000)
    inner = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    body = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + varint(len(inner)) + inner
    checked = struct.pack(">ibI", -1, 2, crc32c(body)) + body
    return struct.pack(">qi", 0, len(checked)) + checked


def record_values(data):
    """[(offset, value)] of batches of format 2; one that is cut off at the end (fetches may do that) is left out.

    Raises ValueError for another format, for compressed batches and for a checksum that does not fit.
    """
    found = []
    while len(data) >= 61:
        base, length = struct.unpack(">qi", data[:12])
        if len(data) < 12 + length:
            break
        batch, data = data[12 : 12 + length], data[12 + length :]
        _epoch, magic, checksum = struct.unpack(">ibI", batch[:9])
        body = batch[9:]
        if magic != 2 or crc32c(body) != checksum:
            raise ValueError("a batch of another format, or damaged on its way")
        if struct.unpack(">h", body[:2])[0] & 0x07:
            raise ValueError("a compressed batch")
        records = Reader(body[40:])
        for _number in range(struct.unpack(">i", body[36:40])[0]):
            found.append((base, _record(records)))
            base += 1
    return found


def _record(reader):
    reader.varint()  # length
    reader.take(1)  # attributes
    reader.varint()  # time since the batch's
    reader.varint()  # offset since the batch's
    for _part in ("key", "value"):
        size = reader.varint()
        value = None if size < 0 else reader.take(size)
    for _header in range(reader.varint()):
        reader.take(reader.varint())
        reader.take(max(0, reader.varint()))
    return value
