"""What a run of the benchmark leaves on disk; `skerry report` reads nothing else.

A result directory holds ``run.json`` (the model `Run`), ``samples.jsonl`` (one `SampleRow` a line, in the order in
which they were taken), ``samples.parquet`` (the same rows) and, once it was made, ``report.html``. Units: seconds of
the host's monotonic clock, bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skerry import paths
from skerry.errors import Exit, SkerryError

FORMAT = 1
Kind = Literal["warm-up", "time", "memory"]
#: The name under which the harness's own floor, an empty program, is recorded.
EMPTY = "empty"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FaultRecord(_Model):
    """A coded failure, as `skerry.errors.SkerryError` has it."""

    code: str
    cause: str
    remedy: str


class HostRecord(_Model):
    """One host as its probe described it, or why it has no part in the run."""

    name: str
    labels: dict[str, str] = {}
    arch: str = ""
    kernel: str = ""
    os_name: str = ""
    python: str = ""
    cpus: int = 0
    cpu_model: str = ""
    memory_bytes: int = 0
    cgroup: int = 0
    cgroup_reason: str | None = None
    machine: str = Field(default="", description="digest of the physical machine's boot id")
    shares_machine_with: list[str] = []
    emulated: bool = False
    fact_file: dict[str, Any] = {}
    fault: FaultRecord | None = Field(default=None, description="why the host was lost, or never reached")
    lost_after: int | None = Field(default=None, description="samples taken on it before it was lost")


class ProgramRecord(_Model):
    """One built program."""

    target: str
    sha256: str
    size: int
    toolchain: str


class SizeRecord(_Model):
    """One input: its digest (None: no input) and the digest of the output that was expected for it."""

    input: str | None = None
    input_sha256: str | None = None
    expected_sha256: str


class WorkloadRecord(_Model):
    """One workload of the run."""

    name: str
    summary: str
    language: str
    args: list[str]
    programs: list[ProgramRecord]
    sizes: dict[str, SizeRecord]


class Combination(_Model):
    """One thing that was measured: a host, a way of running, a workload and its size.

    ``wanted`` samples were asked for; ``planned`` is what the time budget left of them, and ``decision`` says why they
    differ, or why the small input was taken.
    """

    id: str
    host: str
    rung: str
    engine: str
    version: str
    mode: str
    payload: str
    via: str = ""
    workload: str
    size: str = "full"
    wanted: int
    planned: int
    memory_planned: int = 0
    decision: str | None = None
    fault: FaultRecord | None = None

    @property
    def series(self) -> tuple[str, str, str]:
        """What a step of the ladder must have in common: engine, version, compile mode."""
        return (self.engine, self.version, self.mode)


class Missing(_Model):
    """A rung, or one way of running on it, that a host has not."""

    host: str
    rung: str
    engine: str = ""
    mode: str = ""
    reason: str


class SampleRow(_Model):
    """One sample. ``index`` is its place in the run's order; ``combination`` names its `Combination`.

    ``cold_seconds``: to the first byte of output (embedded: to the end of instantiation). ``run_seconds``: to the end.
    ``failure`` is None for a good sample; a wrong output, exit code, trap or limit is said there.
    """

    index: int
    combination: str
    host: str
    rung: str
    engine: str
    version: str
    mode: str
    payload: str
    workload: str
    size: str
    kind: Kind
    started_ns: int
    cold_seconds: float
    run_seconds: float
    pss_bytes: int | None = None
    cgroup_peak_bytes: int | None = None
    exit_code: int | None = None
    trap: str | None = None
    limit: str | None = None
    stdout_bytes: int = 0
    stdout_digest: str = ""
    failure: str | None = None
    phases: dict[str, float] = {}


class Run(_Model):
    """Everything about a run but its samples: enough for a stranger to repeat it."""

    format: int = FORMAT
    id: str
    started: str
    ended: str | None = None
    complete: bool = False
    interrupted: bool = False
    command: list[str]
    skerry_version: str
    commit: str | None = None
    controller: dict[str, str] = {}
    inventory: str | None = None
    inventory_sha256: str | None = None
    seed: int
    samples: int
    memory_samples: int
    warmups: int
    budget_seconds: float
    minutes: float | None = None
    order: str = (
        "the empty program first, then workload by workload; for each, all hosts and rungs in rounds, every "
        "combination once a round, in an order drawn anew from the seed"
    )
    hosts: list[HostRecord] = []
    workloads: list[WorkloadRecord] = []
    combinations: list[Combination] = []
    missing: list[Missing] = []
    failures: int = 0


def directory() -> Path:
    """Where results are kept."""
    return paths.state() / "results"


def write_run(place: Path, run: Run) -> None:
    """Write run.json beside itself and rename it: a reader never sees half of it."""
    beside = place / ".run.json.new"
    beside.write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")
    beside.replace(place / "run.json")


def latest() -> Path:
    """The newest result directory.

    Raises:
        SkerryError: REPORT_001 when there is none.
    """
    found = sorted(path.parent for path in directory().glob("[0-9]*/run.json"))
    if not found:
        raise SkerryError("REPORT_001", f"no results in {directory()}", "run skerry bench or skerry demo --local first")
    return found[-1]


def find(name: str | None) -> Path:
    """The result directory called ``name``: a path, an id, or the beginning of one; the newest for None.

    Raises:
        SkerryError: REPORT_001 when nothing fits, REPORT_002 when several do.
    """
    if name is None:
        return latest()
    if (Path(name) / "run.json").is_file():
        return Path(name)
    fitting = sorted(path.parent for path in directory().glob(f"{name}*/run.json"))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(path.name for path in fitting[:5])
        raise SkerryError("REPORT_002", f"several runs begin with {name!r}: {names}", "name more of it")
    known = ", ".join(path.parent.name for path in sorted(directory().glob("[0-9]*/run.json"))[-5:]) or "none"
    raise SkerryError("REPORT_001", f"no run is called {name!r}", f"newest runs: {known}")


def load(place: Path) -> tuple[Run, list[SampleRow]]:
    """Read a result directory.

    Raises:
        SkerryError: REPORT_003 when a file is damaged or of another format.
    """
    try:
        run = Run.model_validate_json((place / "run.json").read_bytes())
        lines = (place / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [SampleRow.model_validate_json(line) for line in lines]
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        said = str(error).splitlines()[0]
        raise SkerryError("REPORT_003", f"{place} cannot be read: {said}", "take another run", Exit.FAILED) from error
    if run.format != FORMAT:
        cause = f"{place} has format {run.format}, this Skerry reads {FORMAT}"
        raise SkerryError("REPORT_003", cause, "use the Skerry that made the run")
    return run, rows
