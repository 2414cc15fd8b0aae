"""Runs a container through a containerd shim directly, without containerd: enough to prove that the shim works.

A shim (runtime v2) is started with `start`, prints a socket's address, and then takes ttrpc requests of the service
containerd.task.v2.Task. Formats: containerd's core/runtime/v2/README.md and task.proto, ttrpc's PROTOCOL.md.
Python 3.8, standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import threading

TASK = "containerd.task.v2.Task"
_HEADER = struct.Struct(">IIBB")
_REQUEST, _RESPONSE = 1, 2
_LIMIT = 4 << 20


class ShimError(Exception):
    """What a shim complained of."""


# -- protocol buffers: the three kinds of fields that the requests need ----------------------------------------------


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(fields):
    """A message from {number: str, bytes, int or bool}."""
    out = b""
    for number, value in fields.items():
        if isinstance(value, (bool, int)):
            out += _varint(number << 3) + _varint(int(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def decode(data):
    """{number: int or bytes} of a message (the last of repeated fields)."""
    fields, at = {}, 0

    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    while at < len(data):
        tag, at = varint(at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            fields[number], at = varint(at)
        elif kind == 2:
            size, at = varint(at)
            fields[number], at = data[at:at + size], at + size
        else:
            at += 8 if kind == 1 else 4
    return fields


# -- ttrpc ----------------------------------------------------------------------------------------------------------


def _exactly(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ShimError("the shim closed the connection")
        data += part
    return data


def _frame(connection):
    """(stream, type, payload) of the next frame."""
    size, stream, kind, _ = _HEADER.unpack(_exactly(connection, _HEADER.size))
    if size > _LIMIT:
        raise ShimError(f"the shim sent a frame of {size} bytes")
    return stream, kind, _exactly(connection, size)


class Client:
    """A connection to a shim."""

    def __init__(self, address, timeout):
        self._stream = 1
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(timeout)
        path = address[len("unix://"):] if address.startswith("unix://") else address
        self._connection.connect(path)

    def close(self):
        """Close the connection."""
        self._connection.close()

    def call(self, method, fields):
        """Fields of the answer to a request.

        Raises:
            ShimError: the shim refused.
        """
        payload = encode({1: TASK, 2: method, 3: encode(fields)})
        self._connection.sendall(_HEADER.pack(len(payload), self._stream, _REQUEST, 0) + payload)
        while True:
            stream, kind, data = _frame(self._connection)
            if stream == self._stream and kind == _RESPONSE:
                break
        self._stream += 2
        answer = decode(data)
        status = decode(answer.get(1, b""))
        if status.get(1):
            raise ShimError(f"{method}: {status.get(2, b'').decode('utf-8', 'replace')}")
        return decode(answer.get(2, b""))


class EventSink:
    """Stands where containerd would take a shim's events: answers every request with an empty message."""

    def __init__(self, path):
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(path)
        self._server.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Stop listening."""
        self._server.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError, ShimError):
            while True:
                stream, kind, _ = _frame(connection)
                if kind == _REQUEST:
                    connection.sendall(_HEADER.pack(0, stream, _RESPONSE, 0))


# -- one container --------------------------------------------------------------------------------------------------


class _Reader:
    """Collects what is written into a FIFO."""

    def __init__(self, path):
        os.mkfifo(path, 0o600)
        self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def text(self):
        """What has arrived."""
        chunks = []
        with contextlib.suppress(BlockingIOError):
            while len(chunks) < 64:
                chunk = os.read(self._handle, 65536)
                if not chunk:
                    break
                chunks.append(chunk)
        os.close(self._handle)
        return b"".join(chunks).decode("utf-8", "replace")


def _start(command, bundle, environment, timeout):
    done = subprocess.run(
        [*command, "start"], cwd=bundle, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout, check=False,
    )
    said = done.stdout.strip()
    if done.returncode != 0 or not said:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ShimError(f"it did not start: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return json.loads(said)["address"] if said.startswith("{") else said


def run_container(shim, bundle, name, timeout, options=b""):
    """Run a bundle's container to its end: (exit code, standard output, standard error).

    Args:
        shim: the shim's path.
        bundle: folder with config.json and rootfs; sockets and pipes are made beside these.
        name: the container's id.
        timeout: seconds that an answer may take.
        options: a serialised google.protobuf.Any with the shim's own options, or nothing.

    Raises:
        ShimError, OSError, subprocess.TimeoutExpired: the shim does not work.
    """
    events = os.path.join(bundle, "events.sock")
    sink = EventSink(events)
    log = _Reader(os.path.join(bundle, "log"))  # a shim writes its own log into this pipe, and dies without it
    out, err = _Reader(os.path.join(bundle, "out")), _Reader(os.path.join(bundle, "err"))
    common = [shim, "-namespace", "skerry", "-id", name, "-address", events, "-publish-binary", "/bin/true"]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TTRPC_ADDRESS": events,
                   "GRPC_ADDRESS": events, "NAMESPACE": "skerry", "CONTAINERD_NAMESPACE": "skerry"}
    client = None
    try:
        client = Client(_start(common, bundle, environment, timeout), timeout)
        request = {1: name, 2: bundle, 6: os.path.join(bundle, "out"), 7: os.path.join(bundle, "err")}
        client.call("Create", {**request, 10: options} if options else request)
        client.call("Start", {1: name})
        code = client.call("Wait", {1: name}).get(1, 0)
        client.call("Delete", {1: name})
        return code, out.text(), err.text()
    except (ShimError, OSError) as error:
        words = re.findall(r'level=(?:error|fatal).*?msg="([^"]*)', log.text())
        raise ShimError(" / ".join([str(error), *words[-2:]])) from error
    finally:
        if client is not None:
            with contextlib.suppress(OSError, ShimError):
                client.call("Shutdown", {1: name, 2: True})
            client.close()
        # Removes what a shim that died has left; of one that ended well there is nothing left.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([*common, "-bundle", bundle, "delete"], cwd=bundle, env=environment, timeout=timeout,
                           stdin=subprocess.DEVNULL, capture_output=True, check=False)
        sink.close()
