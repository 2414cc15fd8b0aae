"""A session: the controller's end of one probe. Its methods block; any number of threads may call them at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from skerry.errors import Exit, SkerryError
from skerry.probe import frames
from skerry.targets import clusters, engines, packing
from skerry.targets.api import (
    RUNGS,
    Capability,
    Fault,
    HostFacts,
    RunResult,
    RunSpec,
    Sample,
    SampleSpec,
    Stream,
    Target,
)
from skerry.targets.connect import Started, start

#: Seconds between two pings, and of silence after which the host counts as lost.
PING = 5.0
SILENCE = 30.0
#: Seconds that a run and its compiler may take beyond their own limits before the session gives it up.
GRACE = 240.0


@dataclass
class _Waiting:
    """One request that is not answered yet."""

    stream: Stream | None = None
    done: threading.Event = field(default_factory=threading.Event)
    result: dict[str, Any] | None = None
    fault: dict[str, str] | None = None
    output: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})


class ProbeSession:
    """See `skerry.targets.api.Session`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._number = 0
        self._waiting: dict[int, _Waiting] = {}
        self._slots: dict[SampleSpec, int] = {}
        self._known: set[str] = set()
        self._state = threading.Lock()
        self._writing = threading.Lock()
        self._putting = threading.Lock()
        self._lost: str | None = None
        self._heard = time.monotonic()
        self._capabilities: list[Capability] | None = None
        self._session = ""
        self._cluster: clusters.Cluster | None = None
        self._place: dict[str, Any] | None = None
        self._placing = threading.Lock()
        started = start(target)
        self._process, self._errors = started.process, started.errors
        self._hello = threading.Event()
        self._facts: HostFacts | None = None
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(started,), daemon=True)
        self._reader.start()
        self._pinger = threading.Thread(target=self._ping, daemon=True)
        self._pinger.start()
        if not self._hello.wait(SILENCE) or self._facts is None:
            self.close()
            raise self._gone()

    @property
    def target(self) -> Target:
        """The host."""
        return self._target

    @property
    def facts(self) -> HostFacts:
        """What the probe said when the session began."""
        if self._facts is None:
            raise self._gone()
        return self._facts

    # -- the connection

    def _read(self, started: Started) -> None:
        decoder = frames.Decoder()
        reason = "the connection was closed"
        try:
            for data in self._pieces(started):
                self._heard = time.monotonic()
                for header, payload in decoder.feed(data):
                    self._take(header, payload)
        except (frames.FrameError, OSError, ValueError) as error:
            reason = f"the connection broke: {error}"
        self._lose(reason)

    def _pieces(self, started: Started) -> Iterator[bytes]:
        if self._process.stdout is None:
            raise AssertionError("a pipe was asked for")
        fd = self._process.stdout.fileno()
        yield started.rest
        while data := os.read(fd, 1 << 18):
            yield data

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        operation = header["op"]
        if operation == "hello":
            known = HostFacts.__dataclass_fields__
            self._facts = HostFacts(**{name: value for name, value in header["facts"].items() if name in known})
            self._session = header["session"]
            self._hello.set()
            return
        if operation == "pong":
            return
        with self._state:
            waiting = self._waiting.get(header["id"])
        if waiting is None:  # cancelled meanwhile
            return
        if operation == "out":
            waiting.output[header["stream"]] += payload
            if waiting.stream is not None:
                waiting.stream(header["stream"], payload)
            return
        waiting.result, waiting.fault = header.get("result"), header.get("fault")
        waiting.done.set()

    def _ping(self) -> None:
        while not self._closing.wait(PING):
            if time.monotonic() - self._heard > SILENCE:
                self._lose(f"nothing was heard for {SILENCE:.0f} s")
                self._abandon()
                return
            try:
                self._write({"op": "ping"})
            except SkerryError:
                return

    def _abandon(self) -> None:
        """Give a silent host up. On this machine the process is the guard itself, which is asked: it cleans up."""
        if self._target.local:
            self._process.terminate()
        else:
            self._process.kill()

    def _lose(self, reason: str) -> None:
        with self._state:
            self._lost = self._lost or reason
            waiting = list(self._waiting.values())
        self._hello.set()
        for one in waiting:
            one.done.set()

    def _gone(self) -> SkerryError:
        words = next((line for line in reversed(self._errors) if line.strip()), "")
        cause = self._lost or "the probe did not say what it is"
        return SkerryError(
            "TARGET_020",
            f"host {self._target.name}: lost: {cause}{': ' + words if words else ''}",
            "check the host and its link, then run the same command again; the host cleans up by itself",
            Exit.UNREACHABLE,
        )

    def _write(self, header: dict[str, Any], payload: bytes = b"") -> None:
        data = frames.encode(header, payload)
        try:
            with self._writing:
                if self._process.stdin is None:
                    raise AssertionError("a pipe was asked for")
                self._process.stdin.write(data)
                self._process.stdin.flush()
        except (OSError, ValueError) as error:  # ValueError: closed by `close` in another thread
            self._lose(f"the connection broke: {error}")
            raise self._gone() from error

    def _begin(self, stream: Stream | None = None) -> tuple[int, _Waiting]:
        waiting = _Waiting(stream)
        with self._state:
            if self._lost is not None:
                raise self._gone()
            self._number += 1
            self._waiting[self._number] = waiting
            return self._number, waiting

    def _end(self, number: int, waiting: _Waiting, timeout: float | None) -> dict[str, Any]:
        """Wait for the answer. Raises SkerryError for a fault, or when the host is lost."""
        answered = waiting.done.wait(timeout)
        with self._state:
            del self._waiting[number]
        if waiting.fault is not None:
            fault = waiting.fault
            raise SkerryError(
                fault["code"], f"host {self._target.name}: {fault['cause']}", fault["remedy"], Exit.FAILED
            )
        if waiting.result is not None:
            return waiting.result
        if not answered:
            self._write({"op": "cancel", "id": number})
            raise SkerryError(
                "TARGET_021",
                f"host {self._target.name}: no answer within {timeout:.0f} s",
                "look at the load of the host",
                Exit.FAILED,
            )
        raise self._gone()

    def _ask(self, header: dict[str, Any], timeout: float | None = 600.0) -> dict[str, Any]:
        number, waiting = self._begin()
        self._write({**header, "id": number})
        return self._end(number, waiting, timeout)

    # -- files

    def put(self, path: Path) -> str:
        """See `Session.put`."""
        digest = packing.digest_of(path)
        self._send_file(digest, packing.compressed_file(path, digest))
        return digest

    def put_bytes(self, data: bytes) -> str:
        """See `Session.put_bytes`."""
        digest = hashlib.sha256(data).hexdigest()
        self._send_file(digest, packing.compressed(data))
        return digest

    def _send_file(self, digest: str, pieces: Iterator[bytes]) -> None:
        with self._putting:  # one at a time: the host keeps one incoming file
            if digest in self._known:
                return
            number, waiting = self._begin()
            for piece in pieces:
                self._write({"op": "file", "digest": digest, "id": number}, piece)
            self._write({"op": "file", "digest": digest, "id": number, "last": True})
            self._end(number, waiting, 600.0)
            self._known.add(digest)

    # -- running

    def capabilities(self) -> list[Capability]:
        """See `Session.capabilities`."""
        if self._capabilities is None:
            answer = self._ask({"op": "capabilities"}, 180.0)
            found = [self._completed(entry) for entry in answer["capabilities"]]
            self._capabilities = sorted(found, key=lambda entry: RUNGS.index(entry.rung))
        return self._capabilities

    def _completed(self, fields: dict[str, Any]) -> Capability:
        """What the host cannot know: whether the controller has the engine's library, or the cluster's kubeconfig."""
        name = fields.pop("cluster", "")
        entry = Capability(**fields)
        reason, version = entry.reason, entry.version
        if entry.rung == "embedded" and entry.engine == "wasmtime":
            library = engines.wasmtime(self.facts.arch)
            version, reason = library.version, reason or library.reason
        if entry.rung == "pod" and reason is None:
            found = clusters.cluster(name)
            if isinstance(found, str):
                reason = found
            else:
                self._cluster = found
        return replace(entry, version=version, reason=reason, available=reason is None)

    def _placement(self) -> dict[str, Any]:
        """The session's place in the cluster; made when the first pod is wanted."""
        with self._placing:
            if self._place is None:
                if self._cluster is None:
                    raise AssertionError("a pod was planned on a host without a cluster")
                self._place = self._cluster.place(self._session)
            return self._place

    def _capability(self, key: str) -> Capability:
        for entry in self.capabilities():
            if entry.key == key:
                if entry.available:
                    return entry
                raise SkerryError(
                    "RUN_015",
                    f"host {self._target.name} cannot run {key}: {entry.reason}",
                    "choose another rung with --rung",
                    Exit.FAILED,
                )
        raise SkerryError(
            "RUN_015", f"host {self._target.name} has no {key}", "choose another rung with --rung", Exit.FAILED
        )

    def _spec(self, spec: RunSpec, empty: bool = False) -> dict[str, Any]:
        """The probe's form of a spec; sends what it needs besides the program."""
        stdin = spec.stdin_digest
        if spec.stdin is not None:
            stdin = self.put_bytes(spec.stdin)
        fields: dict[str, Any] = {
            "key": spec.key,
            "program": spec.program,
            "name": spec.name,
            "args": list(spec.args),
            "env": list(spec.env),
            "stdin": stdin,
            "dirs": list(spec.dirs),
            "files": list(spec.files),
            "timeout": spec.timeout,
            "memory": spec.memory,
            "output_limit": spec.output_limit,
            "open_files": spec.open_files,
            "disk": spec.disk,
            "empty": empty,
        }
        if spec.key.startswith("pod/"):
            fields["placement"] = self._placement()
        if spec.key.startswith("embedded/wasmtime/"):
            library = engines.wasmtime(self.facts.arch)
            if library.path is not None:
                fields |= {"library": self.put(library.path), "library_version": library.version}
        return fields

    def run(self, spec: RunSpec, stream: Stream | None = None) -> RunResult:
        """See `Session.run`."""
        entry = self._capability(spec.key)
        fields = self._spec(spec)
        number, waiting = self._begin(stream)
        self._write({"op": "run", "id": number, "spec": fields})
        fault, answer = None, {}
        try:
            answer = self._end(number, waiting, None if spec.timeout is None else 2 * spec.timeout + GRACE)
        except SkerryError as error:
            if error.code.startswith("TARGET_02"):
                raise
            fault = Fault(error.code, error.cause, error.remedy)
        stdout, stderr = bytes(waiting.output["stdout"]), bytes(waiting.output["stderr"])
        if foreign := answer.get("stderr_foreign"):
            stderr = stderr[:-foreign]
        return RunResult(
            self._target.name,
            entry.rung,
            entry.engine,
            entry.version,
            entry.mode,
            answer.get("exit_code"),
            answer.get("trap"),
            answer.get("limit"),
            stdout,
            stderr,
            answer.get("seconds", 0.0),
            answer.get("memory_bytes"),
            answer.get("memory_source"),
            fault,
            answer.get("phases", {}),
            answer.get("note"),
        )

    # -- sampling

    def prepare(self, spec: SampleSpec) -> None:
        """See `Session.prepare`."""
        self._slot(spec)

    def _slot(self, spec: SampleSpec) -> int:
        plain = SampleSpec(spec.run, False, spec.empty)  # time and memory are sampled from one slot
        if plain in self._slots:
            return self._slots[plain]
        self._capability(spec.run.key)
        fields = self._spec(spec.run, spec.empty)
        number, waiting = self._begin()
        self._write({"op": "prepare", "id": number, "slot": number, "spec": fields})
        self._end(number, waiting, 600.0)
        self._slots[plain] = number
        return number

    def sample(self, spec: SampleSpec) -> Sample:
        """See `Session.sample`."""
        slot = self._slot(spec)
        timeout = None if spec.run.timeout is None else spec.run.timeout + GRACE
        fault, answer = None, {}
        try:
            answer = self._ask({"op": "sample", "slot": slot, "memory": spec.memory}, timeout)
        except SkerryError as error:
            if error.code.startswith("TARGET_02"):
                raise
            fault = Fault(error.code, error.cause, error.remedy)
        return Sample(
            self._target.name,
            spec.run.key,
            answer.get("started_ns", 0),
            answer.get("cold_seconds", 0.0),
            answer.get("seconds", 0.0),
            answer.get("exit_code"),
            answer.get("trap"),
            answer.get("limit"),
            answer.get("stdout_digest", ""),
            answer.get("stdout_bytes", 0),
            answer.get("stderr_tail", ""),
            answer.get("pss_bytes"),
            answer.get("cgroup_peak_bytes"),
            answer.get("phases", {}),
            fault,
        )

    def release(self, spec: SampleSpec) -> None:
        """See `Session.release`."""
        slot = self._slots.pop(SampleSpec(spec.run, False, spec.empty), None)
        if slot is not None:
            self._ask({"op": "release", "slot": slot}, 120.0)

    # -- the end

    def close(self) -> None:
        """See `Session.close`. Returns when the host has cleaned up, or does not answer any more."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._lost is None:
            with contextlib.suppress(SkerryError):  # lost meanwhile: the host cleans up by itself
                self._write({"op": "bye"})
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # what could not be written is of no use any more
                self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._abandon()
            with contextlib.suppress(subprocess.TimeoutExpired):  # frozen: it cleans up when it goes on
                self._process.wait(5)
        if self._place is not None and self._cluster is not None:
            self._cluster.remove(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
