"""The types through which programs are run and measured on hosts.

Units everywhere: seconds (float, of the host's own monotonic clock), bytes (int). A digest is the SHA-256 of a file's
content in hexadecimal; `Session.put` gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

Rung = Literal["native", "embedded", "process", "container", "pod"]
Payload = Literal["wasm", "native"]
Limit = Literal["timeout", "memory", "output", "open_files", "disk"]
MemorySource = Literal["cgroup", "pss", "rusage"]

#: The ladder's order, lowest first.
RUNGS: tuple[Rung, ...] = ("native", "embedded", "process", "container", "pod")

#: Called with what a program printed, as it comes: (stream, bytes); stream is "stdout" or "stderr".
Stream = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Target:
    """One host of the inventory, or this machine.

    Attributes:
        name: the inventory's name of the host (``localhost`` for this machine alone).
        variables: the host's variables as ``ansible-inventory`` gives them (templates rendered where they are plain).
        groups: names of the groups that the host is in, nearest last, without ``all``.
        labels: ``host_type``, ``region``, ``zone``, ``sandbox`` (its name), ``emulated`` ("yes"); "" where not said.
    """

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """True when the probe is a child of this process and no SSH is used."""
        return self.variables.get("ansible_connection") == "local"


@dataclass(frozen=True)
class HostFacts:
    """What the probe says about its host when a session begins.

    Attributes:
        arch: ``x86_64``, ``aarch64``, ``armv7l``, ...: of the userland, so a native program of that architecture runs.
        kernel_arch: of the kernel (``uname -m``), which may differ.
        cgroup: 1, 2, or 0 when runs cannot be given a cgroup of their own; ``cgroup_reason`` says why not.
        machine: an identity of the physical machine (its boot id): hosts that share it compete for the same cores.
        emulated: the architecture is emulated (qemu-user).
        fact_file: content of /etc/ansible/facts.d/skerry.fact, {} when absent.
    """

    hostname: str
    arch: str
    kernel_arch: str
    kernel: str
    os_name: str
    python: str
    cpus: int
    cpu_model: str
    memory_bytes: int
    root: bool
    cgroup: int
    cgroup_reason: str | None
    machine: str
    emulated: bool
    work_dir: str
    fact_file: Mapping[str, Any]


@dataclass(frozen=True)
class Capability:
    """One way of running a program on a host, or the reason why there is none.

    A step of the ladder may be shown only between capabilities of one (engine, version, mode).

    Attributes:
        engine: ``wasmtime``, ``wasmedge``; ``native`` for the control.
        version: of the engine; "" for native.
        mode: ``aot``, ``jit``, ``interpreter``; ``native`` for the control.
        via: what starts it beside the engine: ``runc 1.1.15``, ``k3s v1.35.0+k3s3 crun-wasm``, or "" for nothing.
        available: False: ``reason`` says why not, and nothing may be run with it.
        default: the mode that ``skerry run`` takes for this rung and engine.
    """

    rung: Rung
    engine: str
    version: str
    mode: str
    payload: Payload
    available: bool
    reason: str | None = None
    via: str = ""
    default: bool = True

    @property
    def key(self) -> str:
        """A stable name: ``container/wasmedge/interpreter``, ``container/native/native``."""
        return f"{self.rung}/{self.engine}/{self.mode}"


@dataclass(frozen=True)
class RunSpec:
    """One run of one program.

    Attributes:
        key: `Capability.key` of the way to run it.
        program: digest of the file: the wasm module, or the native program for the host's architecture when the
            capability's payload is ``native``.
        args: arguments after the program's own name; ``name`` is argv[0].
        env: the program's whole environment, in order.
        stdin: None (empty), bytes, or a digest given as ``Path`` -like string through ``stdin_digest``.
        dirs: pairs (directory on the host, directory in the guest); must exist on the host.
        files: guest path -> digest: files put there by the probe in a private, read-only-by-convention directory.
            Guest paths are absolute; their parent directories become preopened directories.
        timeout, memory, output_limit: limits (None: none, but where runs have a cgroup three quarters of the memory
            that the host has available; output counts both streams together).
        open_files, disk: likewise: descriptors of a process, the runtime's own included; bytes that the run may write
            to files. None where time is measured: they are looked at while the program runs.
    """

    key: str
    program: str
    args: tuple[str, ...] = ()
    name: str = "program"
    env: tuple[tuple[str, str], ...] = ()
    stdin: bytes | None = None
    stdin_digest: str | None = None
    dirs: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    timeout: float | None = 60.0
    memory: int | None = None
    output_limit: int | None = 16 << 20
    open_files: int | None = None
    disk: int | None = None


@dataclass(frozen=True)
class Fault:
    """A run that could not be made, or a host that failed: code, cause, remedy (the shape of `SkerryError`)."""

    code: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Exactly one of exit_code, trap, limit and fault tells how it ended: exit_code is None when a trap, a limit or a
    fault ended it.

    Attributes:
        trap: one vocabulary for all engines (`skerry.probe.traps`): ``unreachable``, ``memory_out_of_bounds``, ...;
            ``signal_SIGSEGV`` and the like for native programs.
        seconds: from "go" to the end, of the run alone (no upload, no preparation).
        memory_bytes: peak of the run by its cgroup; else proportional set size; ``memory_source`` says which.
        note: something that the reader must know, such as a runtime that drops exit codes.
    """

    host: str
    rung: Rung
    runtime: str
    version: str
    mode: str
    exit_code: int | None
    trap: str | None
    limit: Limit | None
    stdout: bytes
    stderr: bytes
    seconds: float
    memory_bytes: int | None
    memory_source: MemorySource | None = None
    fault: Fault | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class SampleSpec:
    """One kind of measurement; prepared once in a session, then sampled many times.

    Attributes:
        run: what is run. Its output is hashed on the host and not sent.
        memory: False: time alone (nothing polls while the program runs). True: proportional set size is
            measured as well; the times of such a sample are not comparable and are given as they are.
        empty: the harness's floor for this rung: an empty program of the probe's own instead of ``run.program``.
    """

    run: RunSpec
    memory: bool = False
    empty: bool = False


@dataclass(frozen=True)
class Sample:
    """One measurement, taken on the host.

    Attributes:
        cold_seconds: from "go" to the first byte on standard output, or to the end when nothing was printed
            (``embedded``: also when it ended within a millisecond; nobody looks at its output before that).
        run_seconds: from "go" to the end.
        phases: parts of it, names by rung: embedded ``load`` (deserialize or compile), ``instantiate``, ``call``;
            process ``first_byte``, ``exit``; container ``create``, ``start``, ``first_byte``, ``exit``; pod likewise.
        pss_bytes: peak proportional set size; None unless the spec asks for memory.
        cgroup_peak_bytes: the cgroup's own peak; None without a cgroup.
        stdout_digest: SHA-256 of the whole standard output; ``stdout_bytes`` its length.
    """

    host: str
    key: str
    started_ns: int
    cold_seconds: float
    run_seconds: float
    exit_code: int | None
    trap: str | None
    limit: Limit | None
    stdout_digest: str
    stdout_bytes: int
    stderr_tail: str
    pss_bytes: int | None
    cgroup_peak_bytes: int | None
    phases: Mapping[str, float] = field(default_factory=dict)
    fault: Fault | None = None


class Session(Protocol):
    """A probe on one host, resident until `close`. Methods block; several threads may call them at once.

    Every method raises `skerry.errors.SkerryError` (``TARGET_...``) when the connection is lost.
    """

    @property
    def target(self) -> Target: ...

    @property
    def facts(self) -> HostFacts: ...

    def put(self, path: Path) -> str:
        """Send a file unless the host has it already; its digest."""
        ...

    def put_bytes(self, data: bytes) -> str:
        """Send bytes as a file; their digest."""
        ...

    def capabilities(self) -> list[Capability]:
        """Every rung and engine with its reason where it is not available, in the ladder's order."""
        ...

    def run(self, spec: RunSpec, stream: Stream | None = None) -> RunResult:
        """Run once; ``stream`` gets the output as it comes. A program's failure is a result, not an exception."""
        ...

    def prepare(self, spec: SampleSpec) -> None:
        """Do everything that is not measured: files, compilation, images. Raises SkerryError when impossible."""
        ...

    def sample(self, spec: SampleSpec) -> Sample:
        """Take one sample; prepares first where `prepare` was not called with an equal spec."""
        ...

    def release(self, spec: SampleSpec) -> None:
        """Undo `prepare`."""
        ...

    def close(self) -> None:
        """End the probe; nothing of it is left on the host."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
