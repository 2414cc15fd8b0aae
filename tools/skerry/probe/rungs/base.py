"""What every rung is asked and what it answers."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from .. import elf, hostinfo, images
from ..cgroups import Cgroups, Group
from ..faults import ProbeError, disk_full
from ..procs import Child, Ended, Limits, Take, execute
from ..store import Store
from ..traps import from_signal

#: Bytes of available memory that no run without a limit of its own gets.
KEPT_FREE = 128 << 20
#: How often a program is in memory while an image is made of it and sent.
_COPIES = 4
#: Processes and threads of a container.
PROCESSES = 64
#: Seconds that a compiler has where samples are to be taken, or the run has no limit.
COMPILE_SECONDS = 300.0
#: Seconds between two looks at proportional set sizes when memory is what is measured.
WATCH = 0.002
#: The same where it only stands in for a control group.
WATCH_DOG = 0.01


@dataclass
class Host:
    """The session's means on this host. ``facts`` are those of `hostinfo.collect`."""

    session: str
    work: Path
    store: Store
    cgroups: Cgroups
    facts: dict[str, Any]
    #: What all runners of the session use together (`Rung.share`).
    shared: dict[str, Any] = field(default_factory=dict)

    def section(self, role: str) -> dict[str, Any] | None:
        """What a role wrote into the fact file; None when it never ran here."""
        found = self.facts["fact_file"].get(role)
        return found if isinstance(found, dict) else None


@dataclass
class Spec:
    """One run; the fields of `skerry.targets.api.RunSpec`, and the engine's library for the rung ``embedded``."""

    key: str
    program: str
    name: str = "program"
    args: list[str] = field(default_factory=list)
    env: list[list[str]] = field(default_factory=list)
    stdin: str | None = None
    dirs: list[list[str]] = field(default_factory=list)
    files: list[list[str]] = field(default_factory=list)
    timeout: float | None = None
    memory: int | None = None
    output_limit: int | None = None
    open_files: int | None = None
    disk: int | None = None
    library: str | None = None
    library_version: str = ""
    empty: bool = False
    placement: dict[str, Any] = field(default_factory=dict)
    #: It is made ready for samples.
    sampled: bool = False

    @property
    def rung(self) -> str:
        return self.key.split("/")[0]

    @property
    def engine(self) -> str:
        return self.key.split("/")[1]

    @property
    def mode(self) -> str:
        return self.key.split("/")[2]

    @property
    def limits(self) -> Limits:
        return Limits(self.timeout, self.memory, self.output_limit, self.open_files, self.disk)


def capability(
    rung: str, engine: str, version: str, mode: str, reason: str | None = None, **more: Any
) -> dict[str, Any]:
    """The fields of `skerry.targets.api.Capability`; available when there is no reason against it."""
    payload = "native" if engine == "native" else "wasm"
    base = {
        "rung": rung,
        "engine": engine,
        "version": version,
        "mode": mode,
        "payload": payload,
        "via": "",
        "default": True,
    }
    return {**base, "available": reason is None, "reason": reason, **more}


@dataclass
class Result:
    """What one run came to; becomes the header of the answer."""

    exit_code: int | None = None
    trap: str | None = None
    limit: str | None = None
    started_ns: int = 0
    cold_seconds: float = 0.0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    memory_bytes: int | None = None
    memory_source: str | None = None
    pss_bytes: int | None = None
    cgroup_peak_bytes: int | None = None
    #: Bytes at the end of standard error that are the engine's words about the trap, not the program's.
    stderr_foreign: int = 0
    message: str = ""
    #: Something that the reader of the result must know.
    note: str | None = None

    def account(self, ended_pss: int | None, maxrss: int | None, group: Group | None) -> None:
        """Fill the memory fields from the best source there is."""
        self.pss_bytes = ended_pss
        if group is not None:
            self.cgroup_peak_bytes = group.peak()
        for value, source in ((self.cgroup_peak_bytes, "cgroup"), (ended_pss, "pss"), (maxrss, "rusage")):
            if value:
                self.memory_bytes, self.memory_source = value, source
                return


def from_ended(ended: Ended, group: Group | None) -> Result:
    """The result of a child process: times, exit code or signal, memory."""
    result = Result(ended.exit_code, None, ended.limit, ended.go_ns)
    end = ended.end_ns
    first = ended.first_ns if ended.first_ns is not None and ended.first_ns < end else end
    result.cold_seconds = (first - ended.go_ns) / 1e9
    result.seconds = (end - ended.go_ns) / 1e9
    result.phases = {"first_byte": result.cold_seconds, "exit": result.seconds - result.cold_seconds}
    if ended.signal is not None and ended.limit is None:
        result.trap = from_signal(ended.signal)
    if ended.limit is not None:
        result.exit_code = None
    result.account(ended.pss, ended.maxrss, group)
    return result


class LimitMetError(ProbeError):
    """A limit of the run ended the compiler before it; ``result`` is what the run came to."""

    def __init__(self, result: Result) -> None:
        super().__init__("RUN_012", f"its compiler met the limit {result.limit}", "give it more, or another module")
        self.result = result


def spare_memory() -> int:
    """Bytes that a run without a limit of its own may use: three quarters of what the host has available, and never the
    last `KEPT_FREE`, in which the page cache keeps the commands of its services."""
    with open("/proc/meminfo") as file:
        available = next((int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")), 0)
    free = min(available, hostinfo.memory_total())
    return max(64 << 20, min(free * 3 // 4, free - KEPT_FREE))


class Slot:
    """A spec made ready on one rung: `once` runs it, as often as wanted; `close` undoes everything.

    ``stays`` is True when samples are taken: then what can be kept ready between two of them is kept.
    """

    stays = False

    def __init__(self, host: Host, spec: Spec) -> None:
        self.host, self.spec = host, spec
        self.unlimited = spec.memory is None and host.cgroups.session is not None
        self.protect_host()
        self.directory = host.work / f"slot-{os.getpid()}"
        self.directory.mkdir(exist_ok=True)
        self.dirs = self._directories()

    def protect_host(self) -> None:
        """Before each run: one that nobody gave a limit shall not take the host with it when it eats memory."""
        if self.unlimited:
            self.spec.memory = spare_memory()

    def _directories(self) -> list[tuple[str, str]]:
        """Pairs (host, guest): what the spec names, then the private directories of its files."""
        pairs: list[tuple[str, str]] = []
        for host, guest in self.spec.dirs:
            if not os.path.isdir(host):
                raise ProbeError(
                    "RUN_007",
                    f"{host} is no directory on the host",
                    "--dir HOST_DIR::GUEST_DIR names a directory of the host where the module runs",
                )
            pairs.append((os.path.realpath(host), guest))
        private: dict[str, str] = {}
        for path, digest in self.spec.files:
            parent, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
            if parent not in private:
                private[parent] = str(self.directory / f"files-{len(private)}")
                os.mkdir(private[parent], 0o755)
            self._place(digest, Path(private[parent], name))
        return pairs + [(host, guest) for guest, host in private.items()]

    def _place(self, digest: str, path: Path) -> None:
        source = self.host.store.path(digest)
        try:
            os.link(source, path)
        except OSError:  # another file system, or links are forbidden there
            try:
                shutil.copyfile(source, path)
            except OSError as error:
                raise disk_full(str(path.parent), error) from error

    def program(self) -> Path:
        """The file to run: the spec's, or the empty program of the harness's floor."""
        if not self.spec.empty:
            return self.host.store.path(self.spec.program)
        data = elf.EMPTY_WASM
        if self.spec.engine == "native":
            native = elf.empty_program(self.host.facts["arch"])
            if native is None:
                raise ProbeError(
                    "RUN_014",
                    "no empty program is known for {}".format(self.host.facts["arch"]),
                    "measure this host without the harness's floor",
                )
            data = native
        digest = self.host.store.add(data)
        path = self.host.store.path(digest)
        os.chmod(path, 0o555)
        return path

    def packed(self, tag: str, name: str, labels: dict[str, str]) -> tuple[bytes, bytes]:
        """(the program, an image of it). Both are made in memory, outside of any limit of the run.

        Raises:
            ProbeError: the host has not as much.
        """
        path = self.program()
        if _COPIES * path.stat().st_size > spare_memory():
            raise ProbeError(
                "RUN_016",
                f"the host has not enough memory to pack a program of {path.stat().st_size} bytes into an image",
                "take the rungs embedded or process there, or a host with more memory",
            )
        data = path.read_bytes()
        return data, images.archive(tag, name, data, self.host.facts["arch"], labels)

    def stdin(self) -> int:
        """A descriptor to read standard input from; the caller closes it."""
        if self.spec.stdin is None:
            # A pipe at its end, not /dev/null: that is a terminal to WasmEdge, and other rungs have a pipe.
            read, write = os.pipe()
            os.close(write)
            return read
        return os.open(self.host.store.path(self.spec.stdin), os.O_RDONLY)

    def watch(self, memory: bool, group: Group | None) -> float:
        """Seconds between two looks at proportional set sizes."""
        if memory:
            return WATCH
        if group is not None or self.stays:
            return WATCH_DOG if group is None and self.spec.limits.memory is not None else 0.0
        return WATCH_DOG

    def compiler(self, child: Child, take: Take) -> Ended:
        """See a compiler through, under the limits of the run itself: a module may be a bomb for it.

        Raises:
            LimitMetError: it met one.
        """
        spec, given = self.spec, self.spec.timeout
        seconds = COMPILE_SECONDS if spec.sampled or given is None else min(given, COMPILE_SECONDS)
        group = self.host.cgroups.new(spec.memory)
        null = os.open(os.devnull, os.O_RDONLY)
        watch = WATCH_DOG if group is None and spec.memory is not None else 0.0
        try:
            ended = execute(child, null, Limits(seconds, spec.memory), group, take, watch)
            if ended.limit is not None:
                raise LimitMetError(from_ended(ended, group))
            return ended
        finally:
            os.close(null)
            if group is not None:
                group.remove()

    def once(self, take: Take, memory: bool) -> Result:
        """Run it once; ``memory``: proportional set size is wanted, and polled for."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove what was made. Never raises for what is gone already."""
        shutil.rmtree(self.directory, ignore_errors=True)


class Rung:
    """One rung of the ladder."""

    name: str

    def capabilities(self, host: Host) -> list[dict[str, Any]]:
        """Every engine and mode that this rung knows, with the reason where this host cannot run it."""
        raise NotImplementedError

    def share(self, host: Host) -> None:
        """Make what all runners use together; called by the agent, before it forks one. Most rungs share nothing."""

    def open(self, host: Host, spec: Spec) -> Slot:
        """Make a spec ready. Raises ProbeError."""
        raise NotImplementedError

    def sweep(self, session: str, work: Path) -> None:
        """Remove what a session of that name left outside its directory; most rungs leave nothing."""
