"""A runner: the process that runs one spec, forked by the agent; nothing that happens in it can harm the agent.

It answers over a socket in frames: ``out`` (output as it comes), then ``done`` or ``fault``. A runner that serves
samples stays and takes ``sample`` until ``release`` or the socket's end.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from typing import Any, NoReturn

from . import frames, memory, procs
from .faults import ProbeError
from .rungs.all import ALL, find
from .rungs.base import Host, LimitMetError, Result, Slot, Spec

#: How much of standard error a sample keeps.
TAIL = 2000


class Ending(BaseException):
    """The agent wants this runner to end: whatever runs is stopped and cleaned up."""


def _end(_number: int, _frame: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Ending


def fault_of(error: Exception) -> dict[str, str]:
    """Any failure in the shape of a fault; what nobody foresaw is told as such."""
    if isinstance(error, ProbeError):
        return error.as_dict()
    if isinstance(error, OSError) and error.errno == 28:
        return {
            "code": "TARGET_008",
            "cause": f"the host's disk is full: {error}",
            "remedy": "free space there, or name another directory with the host variable skerry_run_dir",
        }
    return {
        "code": "PROBE_001",
        "cause": f"the probe failed: {type(error).__name__}: {error}",
        "remedy": "report this as a bug, with the command and the host's release",
    }


class Runner:
    """Serves one connection with the agent."""

    def __init__(self, link: socket.socket, host: Host) -> None:
        self.link, self.host = link, host
        self.decoder = frames.Decoder()

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        self.link.sendall(frames.encode(header, payload))

    def run(self, request: dict[str, Any]) -> None:
        """One run with its output streamed."""
        number = request["id"]
        spec = Spec(**request["spec"])

        def take(stream: str, data: bytes) -> None:
            self.send({"op": "out", "id": number, "stream": stream}, data)

        try:
            slot = find(spec.rung).open(self.host, spec)
        except LimitMetError as met:
            self.send({"op": "done", "id": number, "result": vars(met.result)})
            return
        try:
            result = slot.once(take, False)
        finally:
            slot.close()
        self.send({"op": "done", "id": number, "result": vars(result)})

    def capabilities(self, request: dict[str, Any]) -> None:
        """What every rung can do here."""
        found = [entry for rung in ALL for entry in rung.capabilities(self.host)]
        self.send({"op": "done", "id": request["id"], "result": {"capabilities": found}})

    def serve(self, request: dict[str, Any]) -> None:
        """Make a spec ready, then sample it until released."""
        spec = Spec(**request["spec"], sampled=True)
        slot = find(spec.rung).open(self.host, spec)
        slot.stays = True
        memory.trim()  # many slots wait beside each other on a small host
        try:
            self.send({"op": "done", "id": request["id"], "result": {}})
            while True:
                data = self.link.recv(1 << 16)
                if not data:
                    return
                for header, _ in self.decoder.feed(data):
                    if header["op"] == "release":
                        slot.close()
                        self.send({"op": "done", "id": header["id"], "result": {}})
                        return
                    self._sample(slot, header)
        finally:
            slot.close()

    def _sample(self, slot: Slot, header: dict[str, Any]) -> None:
        digest, tail, size = hashlib.sha256(), bytearray(), 0

        def take(stream: str, data: bytes) -> None:
            nonlocal size
            if stream == "stdout":
                digest.update(data)
                size += len(data)
            else:
                tail.extend(data)
                del tail[:-TAIL]

        slot.protect_host()
        try:
            result: Result = slot.once(take, bool(header["memory"]))
        except Exception as error:
            self.send({"op": "fault", "id": header["id"], "fault": fault_of(error)})
            return
        answer = {
            **vars(result),
            "stdout_digest": digest.hexdigest(),
            "stdout_bytes": size,
            "stderr_tail": tail.decode("utf-8", "replace"),
        }
        self.send({"op": "done", "id": header["id"], "result": answer})


def main(link: socket.socket, host: Host, request: dict[str, Any]) -> NoReturn:
    """The life of a runner; ends the process."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    procs.prctl(procs.PR_SET_PDEATHSIG, signal.SIGTERM)
    procs.adopt_orphans()
    runner = Runner(link, host)
    code = 0
    try:
        {"run": runner.run, "prepare": runner.serve, "capabilities": runner.capabilities}[request["op"]](request)
    except Ending:
        code = 1
    except Exception as error:
        code = 1
        runner.send({"op": "fault", "id": request["id"], "fault": fault_of(error)})
    os._exit(code)
