"""A container under Docker: the module through an OCI runtime that runs wasm, the native control through the same one
(through runc where there is none), so that the two differ in one thing."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from .. import memory as sizes
from ..cgroups import KILLED, Group, full
from ..docker_api import LABEL, Docker, DockerError, connect
from ..faults import ProbeError
from ..procs import CHUNK, Take
from ..traps import UNKNOWN, from_signal, from_text
from ..usage import Usage
from .base import PROCESSES, Host, Result, Rung, Slot, Spec, capability
from .outcomes import refused
from .process import REFUSALS
from .words import Tail, Words

#: The annotation that makes crun take its wasm handler.
ANNOTATION = {"module.wasm.image/variant": "compat"}
#: Seen with crun 1.21: WasmEdge's result is dropped after proc_exit.
EXIT_CODE_NOTE = "crun's WasmEdge handler reports 0 whatever code the module exits with (docs/wasi-findings.md)"
#: Exit codes of processes that a signal ended, as OCI runtimes give them (128 + number).
_SIGNALS = {128 + number: number for number in (4, 6, 7, 8, 11)}
#: Exit code of a process that wrote a file beyond its limit.
_TOO_LARGE = 128 + signal.SIGXFSZ
_USED = "docker-used"
_KILL_SECONDS = 30


def crun_engine(host: Host, docker: Docker) -> tuple[str | None, str, str, str | None]:
    """(engine, its version, crun's version, reason): which wasm engine crun has under this Docker."""
    runtimes = (docker.request("GET", "/info", "say what it is") or {}).get("Runtimes") or {}
    if "crun" not in runtimes:
        return None, "", "", "Docker has no runtime crun (role docker, docker_wasm_runtime)"
    section = host.section("wasm_runtime")
    if section is not None:
        entry = (section.get("runtimes") or {}).get("crun") or {}
        if not entry.get("proved"):
            return None, "", "", "crun did not pass its wasm probe: {}".format(entry.get("error", "it was not probed"))
        return entry.get("engine"), str(entry.get("engine_version") or ""), str(entry.get("version") or ""), None
    path = runtimes["crun"].get("path") or "crun"
    found = shutil.which(path)
    if found is None:
        return None, "", "", f"{path} is not there"
    said = subprocess.run(
        [found, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
    ).stdout.decode("utf-8", "replace")
    version = re.search(r"version (\S+)", said)
    engine = re.search(r"\+WASM:(\w+)", said)
    if engine is None:
        return None, "", "", "crun %s of this host was built without wasm" % (version.group(1) if version else "")
    return engine.group(1), _library_version(engine.group(1)), version.group(1) if version else "", None


def control_runtime(host: Host, docker: Docker) -> tuple[str, str]:
    """(Docker's name of the runtime that starts the native control, its version)."""
    _, _, crun, lacking = crun_engine(host, docker)
    if lacking is None:
        return "crun", crun
    said = docker.request("GET", "/version", "say its version") or {}
    parts = {part.get("Name"): part.get("Version") for part in said.get("Components", [])}
    return "runc", str(parts.get("runc", ""))


def drops_exit_codes(host: Host) -> bool:
    """Whether crun's wasm handler loses them here: as the role's probe saw it; as crun 1.21 does where no role ran."""
    entry = ((host.section("wasm_runtime") or {}).get("runtimes") or {}).get("crun") or {}
    return not entry.get("exit_code_kept", False)


def _library_version(engine: str) -> str:
    if engine != "wasmedge":
        return ""
    from ..engines.wasmedge import WasmEdge, find_library

    path = find_library(None)
    try:
        return WasmEdge(path).version if path else ""
    except (OSError, AttributeError):
        return ""


class Attached:
    """The multiplexed connection to a container: standard input in, both outputs apart."""

    def __init__(self, link: socket.socket, rest: bytes, stdin: int) -> None:
        self.link, self.buffer, self.stdin = link, bytearray(rest), stdin
        self.pending = b""
        self.sending = True
        link.setblocking(False)

    def send(self) -> None:
        """Pass on some more of standard input; its end is passed on too."""
        try:
            while True:
                if not self.pending:
                    self.pending = os.read(self.stdin, CHUNK)
                if not self.pending:
                    self.sending = False
                    self.link.shutdown(socket.SHUT_WR)
                    return
                self.pending = self.pending[self.link.send(self.pending) :]
        except BlockingIOError:
            return
        except OSError:  # the program has ended without reading it all
            self.sending = False

    def read(self) -> list[tuple[str, bytes]] | None:
        """What has come: (stream, bytes); None at the end."""
        try:
            data = self.link.recv(CHUNK)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            return None
        self.buffer += data
        found = []
        while len(self.buffer) >= 8:
            size = int.from_bytes(self.buffer[4:8], "big")
            if len(self.buffer) < 8 + size:
                break
            found.append(("stderr" if self.buffer[0] == 2 else "stdout", bytes(self.buffer[8 : 8 + size])))
            del self.buffer[: 8 + size]
        return found


class _Run:
    """One container from its creation to its end."""

    def __init__(self, slot: _ContainerSlot, take: Take, memory: bool, group: Group | None) -> None:
        self.slot, self.take, self.memory, self.group = slot, take, memory, group
        self.result = Result()
        self.first_ns: int | None = None
        self.seen = 0
        self.pss = 0
        self.usage = Usage(slot.spec.open_files, slot.spec.disk)
        self.pid = 0
        self.container = ""
        self.links: list[socket.socket] = []
        self.killed_ns = 0
        self.status: int | None = None

    def go(self) -> Result:
        docker, result = self.slot.docker, self.result
        body = self.slot.body(self.group)
        stdin = self.slot.stdin()
        try:
            result.started_ns = time.monotonic_ns()
            self.container = docker.request("POST", "/containers/create", "create the container", body)["Id"]
            created = time.monotonic_ns()
            link, rest = docker.open(f"/containers/{self.container}/attach?stream=1&stdin=1&stdout=1&stderr=1", True)
            waiter, _ = docker.open(f"/containers/{self.container}/wait?condition=next-exit", False)
            self.links = [link, waiter]
            docker.request("POST", f"/containers/{self.container}/start", "start the container")
            started = time.monotonic_ns()
            if self.usage.watched and self.group is None:
                self.pid = self._state()["Pid"]
            self._pump(Attached(link, rest, stdin), waiter)
            end = time.monotonic_ns()
            self._account(created, started, end)
        finally:
            os.close(stdin)
            for one in self.links:
                one.close()
            if self.container:
                docker.remove(self.container)
        return result

    def _pump(self, attached: Attached, waiter: socket.socket) -> None:
        limits = self.slot.spec.limits
        deadline = None if limits.timeout is None else self.result.started_ns / 1e9 + limits.timeout
        answer, open_ends = b"", {attached.link.fileno(), waiter.fileno()}
        while open_ends:
            poll = select.poll()
            for fd in open_ends:
                writing = fd == attached.link.fileno() and attached.sending
                poll.register(fd, select.POLLIN | (select.POLLOUT if writing else 0))
            events = poll.poll(self._pause(deadline))
            for fd, what in events:
                if fd == waiter.fileno():
                    data = waiter.recv(CHUNK)
                    answer += data
                    found = re.search(rb'"StatusCode":(\d+)', answer)
                    if found or not data:
                        self.status = int(found.group(1)) if found else None
                        open_ends.discard(fd)
                    continue
                if what & select.POLLOUT and attached.sending:
                    attached.send()
                if what & (select.POLLIN | select.POLLHUP) and not self._hear(attached):
                    open_ends.discard(fd)
            self._look(deadline, limits.output)

    def _pause(self, deadline: float | None) -> float | None:
        waits = [] if deadline is None or self.result.limit else [max(0.0, deadline - time.monotonic())]
        if self.killed_ns:
            waits.append(1.0)
        if self.memory:
            waits.append(0.002)
        if self.usage.watched:
            waits.append(self.usage.tick)
        return min(waits) * 1000 + 0.5 if waits else None

    def _hear(self, attached: Attached) -> bool:
        pieces = attached.read()
        if pieces is None:
            return False
        for stream, data in pieces:
            if stream == "stdout" and self.first_ns is None:
                self.first_ns = time.monotonic_ns()
            limit = self.slot.spec.output_limit
            room = len(data) if limit is None else max(0, limit - self.seen)
            self.seen += len(data)
            if data[:room]:
                self.take(stream, data[:room])
        return True

    def _look(self, deadline: float | None, output: int | None) -> None:
        if self.memory and self.group is not None:
            self.pss = max(self.pss, sizes.total(self.group.pids()))
        if self.killed_ns and time.monotonic_ns() - self.killed_ns > _KILL_SECONDS * 1e9:
            raise DockerError("kill the container", 0, f"it lives {_KILL_SECONDS} s after its kill")
        if self.result.limit is not None or self.status is not None:
            return
        if output is not None and self.seen > output:
            self.result.limit = "output"
        elif deadline is not None and time.monotonic() >= deadline:
            self.result.limit = "timeout"
        elif self.usage.watched:
            self.result.limit = self.usage.met(self.group.pids() if self.group is not None else [self.pid])
        if self.result.limit is not None:
            self._kill()

    def _kill(self) -> None:
        """Ask for the kill without waiting: Docker answers only when all output has been taken, which is done here."""
        self.killed_ns = time.monotonic_ns()
        self.links.append(self.slot.docker.open(f"/containers/{self.container}/kill", False)[0])

    def _account(self, created: int, started: int, end: int) -> None:
        result = self.result
        go, first = result.started_ns, min(self.first_ns or end, end)
        result.cold_seconds, result.seconds = (first - go) / 1e9, (end - go) / 1e9
        result.phases = {
            "create": (created - go) / 1e9,
            "start": (started - created) / 1e9,
            "first_byte": max(0, first - started) / 1e9,
            "exit": (end - max(first, started)) / 1e9,
        }
        state = self._state()
        if result.limit is None and (state.get("OOMKilled") or self._filled_its_memory()):
            result.limit = "memory"
        if result.limit is None and self.slot.spec.disk is not None and self.status == _TOO_LARGE:
            result.limit = "disk"
        if result.limit is None:
            result.exit_code = state["ExitCode"] if self.status is None else self.status
        result.account(self.pss or None, None, self.group)

    def _state(self) -> dict[str, Any]:
        path = f"/containers/{self.container}/json"
        state: dict[str, Any] = self.slot.docker.request("GET", path, "describe the container")["State"]
        return state

    def _filled_its_memory(self) -> bool:
        """Whether the kernel ended it at its limit. Docker misses the notice at times, and the count of kills is gone
        with the container's own group; the peak stays with the group above it."""
        limit, group = self.slot.spec.memory, self.group
        if group is None or limit is None:
            return False
        return group.oom_kills() > 0 or (self.status == KILLED and full(group.peak(), limit))


class _ContainerSlot(Slot):
    def __init__(self, host: Host, spec: Spec) -> None:
        super().__init__(host, spec)
        docker, reason = connect()
        if docker is None:
            raise ProbeError("RUN_021", reason or "no Docker", "run the role docker on this host")
        self.docker = docker
        self.runtime = control_runtime(host, docker)[0] if spec.engine == "native" else "crun"
        (host.work / _USED).touch()
        self.cgroupfs = (docker.request("GET", "/info", "say what it is") or {}).get("CgroupDriver") == "cgroupfs"
        self.name = re.sub(r"[^A-Za-z0-9_.-]", "_", spec.name) or "program"
        self.tag = f"skerry.local/run-{host.session}:{os.getpid()}"
        data, image = self.packed(self.tag, self.name, {LABEL: host.session})
        self.may_exit = b"\x09proc_exit" in data and drops_exit_codes(host)
        docker.request("POST", "/images/load?quiet=1", "load the image", raw=image)

    def _environment(self) -> list[str]:
        """The spec's variables. Docker sets PATH where it is not given: ``/`` lets the program be found by its bare
        name, which is then its argv[0] as on every other rung."""
        given = [f"{k}={v}" for k, v in self.spec.env]
        return given if any(k == "PATH" for k, _ in self.spec.env) else ["PATH=/", *given]

    def body(self, group: Group | None) -> dict[str, Any]:
        """What Docker is asked to create."""
        spec, env = self.spec, self._environment()
        config: dict[str, Any] = {
            "NetworkMode": "none",
            "LogConfig": {"Type": "none"},
            "Binds": ["{}:{}".format(*pair) for pair in self.dirs],
            "Runtime": self.runtime,
            "PidsLimit": PROCESSES,
        }
        if spec.engine != "native":
            config["Annotations"] = ANNOTATION
        if group is not None:
            config["CgroupParent"] = group.relative
        if spec.memory is not None:
            config.update(Memory=spec.memory, MemorySwap=spec.memory)
        ceilings = {"nofile": spec.open_files, "fsize": spec.disk}
        config["Ulimits"] = [{"Name": k, "Soft": v, "Hard": v} for k, v in ceilings.items() if v is not None]
        return {
            "Image": self.tag,
            "Entrypoint": [self.name if "PATH=/" in env else "/" + self.name],
            "Cmd": spec.args,
            "Env": env,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "OpenStdin": True,
            "StdinOnce": True,
            "Labels": {LABEL: self.host.session},
            "HostConfig": config,
        }

    def once(self, take: Take, memory: bool) -> Result:
        """See `Slot.once`."""
        wasm = self.spec.engine != "native"
        words = Words(take) if wasm else None
        tail = Tail(words or take)
        group = self.host.cgroups.new() if self.cgroupfs else None
        try:
            result = _Run(self, tail, memory, group).go()
        finally:
            if group is not None:
                group.remove(everywhere=True)
        said = words.finish(bool(result.exit_code)) if words else ""
        judge(result, wasm, said, tail.text)
        if wasm and self.may_exit and result.exit_code == 0:
            result.note = EXIT_CODE_NOTE
        return result

    def close(self) -> None:
        """See `Slot.close`."""
        self.docker.remove_image(self.tag)
        super().close()


def judge(result: Result, wasm: bool, said: str, tail: str) -> None:
    """Tell a trap and a refusal from an exit.

    Raises:
        ProbeError: the engine refused the module.
    """
    if result.limit is not None:
        return
    if not result.exit_code:
        return
    if not wasm:
        if result.exit_code in _SIGNALS:
            result.trap, result.exit_code = from_signal(_SIGNALS[result.exit_code]), None
        return
    start = tail.rfind("[libcrun:")
    if start < 0:
        return
    result.stderr_foreign = len(tail[start:].encode())
    if "execution failed" in said:
        result.message, result.exit_code = said, None
        result.trap = from_text(said.splitlines()[0]) or UNKNOWN
    elif REFUSALS.search(said) or said:
        raise refused(said)


class Container(Rung):
    """Needs the roles docker and wasm_runtime."""

    name = "container"

    def capabilities(self, host: Host) -> list[dict[str, Any]]:
        """See `Rung.capabilities`."""
        docker, reason = connect()
        if docker is None:
            return [
                capability(self.name, "native", "", "native", reason),
                capability(self.name, "wasmedge", "", "interpreter", reason),
            ]
        try:
            engine, version, crun, lacking = crun_engine(host, docker)
            control = control_runtime(host, docker)
        except ProbeError as fault:
            return [
                capability(self.name, "native", "", "native", fault.cause),
                capability(self.name, "wasmedge", "", "interpreter", fault.cause),
            ]
        native = capability(self.name, "native", "", "native", via=" ".join(control).strip())
        wasm = capability(
            self.name, engine or "wasmedge", version, "interpreter", lacking, via=("crun " + crun).strip()
        )
        return [native, wasm]

    def open(self, host: Host, spec: Spec) -> Slot:
        """See `Rung.open`."""
        return _ContainerSlot(host, spec)

    def sweep(self, session: str, work: Path) -> None:
        """See `Rung.sweep`."""
        if not (work / _USED).exists():
            return
        docker, _ = connect()
        if docker is not None:
            docker.sweep(session)
