"""A made-up run for tests of the report: three hosts, five rungs, two engines, with everything that may go wrong."""

from __future__ import annotations

import random
from pathlib import Path

from skerry.bench import parquet, results
from skerry.bench.results import (
    EMPTY,
    Combination,
    FaultRecord,
    HostRecord,
    Missing,
    ProgramRecord,
    Run,
    SampleRow,
    SizeRecord,
    WorkloadRecord,
)

#: (rung, engine, version, mode, via) and the milliseconds of hello that each takes.
WAYS = {
    ("native", "native", "", "native", ""): 0.42,
    ("embedded", "wasmtime", "50.0.1", "aot", ""): 0.15,
    ("embedded", "wasmedge", "0.14.1", "interpreter", ""): 1.1,
    ("process", "wasmedge", "0.14.1", "interpreter", ""): 19.5,
    ("process", "wasmtime", "48.0.8", "jit", ""): 9.8,
    ("container", "native", "", "native", "crun 1.21"): 180.0,
    ("container", "wasmedge", "0.14.1", "interpreter", "crun 1.21"): 205.0,
    ("pod", "native", "", "native", "k3s v1.35.0+k3s3"): 1400.0,
    ("pod", "wasmedge", "0.14.1", "interpreter", "k3s v1.35.0+k3s3"): 1480.0,
}
HOSTS = {"cloud-1": 1.0, "edge-1": 1.8, "edge-2": 2.1}
WORK_MS = {"hello": 0.0, "sha256": 30.0, "sensors": 55.0, EMPTY: -0.0}
INTERPRETER = 60.0


def _lacks(host: str, rung: str, engine: str) -> bool:
    return host == "edge-1" and (engine == "wasmedge" or rung in ("container", "pod"))


def _combination(host: str, way: tuple[str, str, str, str, str], workload: str, samples: int) -> Combination:
    rung, engine, version, mode, via = way
    slow = mode == "interpreter" and workload == "sha256"
    size = "small" if slow else "full"
    return Combination(
        id=f"{host}|{rung}/{engine}/{mode}|{version}|{workload}|{size}", host=host, rung=rung, engine=engine,
        version=version, mode=mode, payload="native" if engine == "native" else "wasm", via=via, workload=workload,
        size=size, wanted=samples, planned=samples, memory_planned=0 if workload == EMPTY else 3,
        decision="small input: a full one took 31 s or more on one of its rungs" if slow else None)


def _row(one: Combination, kind: str, milliseconds: float, drawn: random.Random) -> SampleRow:
    taken = milliseconds * drawn.lognormvariate(0, 0.06) * (4 if drawn.random() < 0.03 else 1) / 1000
    base = {"native": 300_000, "embedded": 900_000, "process": 14_000_000}.get(one.rung, 16_000_000)
    memory = kind == "memory"
    return SampleRow(
        index=0, combination=one.id, host=one.host, rung=one.rung, engine=one.engine, version=one.version,
        mode=one.mode, payload=one.payload, workload=one.workload, size=one.size, kind=kind,  # type: ignore[arg-type]
        started_ns=0, cold_seconds=taken * 0.8, run_seconds=taken,
        pss_bytes=int(base * drawn.uniform(0.95, 1.05)) if memory else None,
        cgroup_peak_bytes=int(base * drawn.uniform(1.6, 1.9)), exit_code=0, stdout_bytes=6, stdout_digest="ab" * 32,
        phases={"first_byte": taken * 0.8})


def rows_of(combinations: list[Combination], seed: int) -> list[SampleRow]:
    """Samples of all combinations, in rounds."""
    drawn = random.Random(seed)
    rows: list[SampleRow] = []
    ways = {way[:4]: cost for way, cost in WAYS.items()}
    for turn in range(max(one.planned for one in combinations)):
        for one in drawn.sample(combinations, len(combinations)):
            factor = HOSTS[one.host]
            cost = ways[(one.rung, one.engine, one.version, one.mode)]
            work = WORK_MS[one.workload] * (1.0 if one.engine == "native" else 1.4)
            if one.mode == "interpreter":
                work *= INTERPRETER * (1 / 64 if one.size == "small" else 1)
            kinds = ["time"] + (["memory"] if turn < one.memory_planned else []) + (["warm-up"] if turn == 0 else [])
            rows += [_row(one, kind, (cost + work) * factor, drawn) for kind in kinds]
    return [row.model_copy(update={"index": at}) for at, row in enumerate(rows)]


def make(samples: int = 20, seed: int = 7) -> tuple[Run, list[SampleRow]]:
    """A run and its samples; one sample has a wrong output, one host lacks rungs, one was never reached."""
    workloads = [
        WorkloadRecord(name=name, summary=f"the program {name}", language="c", args=[],
                       programs=[ProgramRecord(target="wasm", sha256="cd" * 32, size=3009, toolchain="zig 0.17.1")],
                       sizes={"full": SizeRecord(input="shake-bytes('x', 8388608)", input_sha256="ef" * 32,
                                                 expected_sha256="ab" * 32)})
        for name in ("hello", "sha256", "sensors")]
    combinations = [_combination(host, way, workload, samples) for host in HOSTS for way in WAYS
                    for workload in ("hello", "sha256", "sensors", EMPTY) if not _lacks(host, way[0], way[1])]
    hosts = [HostRecord(name=name, arch="x86_64", kernel="6.18.0", os_name="Debian GNU/Linux 13 (trixie)",
                        python="3.13.5", cpus=1, cpu_model="Some Processor 3000", memory_bytes=512 << 20, cgroup=1,
                        machine="0123456789abcdef", labels={"host_type": name.split("-")[0], "region": "eu"},
                        shares_machine_with=[other for other in HOSTS if other != name], emulated=name == "edge-2",
                        fact_file={"docker": {"version": "26.1.5"}}) for name in HOSTS]
    hosts.append(HostRecord(name="edge-9", fault=FaultRecord(
        code="TARGET_003", cause="edge-9 does not answer on port 22", remedy="see whether it is up")))
    reasons = (
        ("process", "Debian 12 has no package of WasmEdge"),
        ("container", "crun 1.8.1 of this host has no WebAssembly handler"), ("pod", "this host is not in a cluster"))
    missing = [Missing(host="edge-1", rung=rung, engine="wasmedge", mode="interpreter", reason=reason)
               for rung, reason in reasons]
    rows = rows_of(combinations, seed)
    bad = next(at for at, row in enumerate(rows) if row.rung == "container" and row.kind == "time")
    rows[bad] = rows[bad].model_copy(update={"failure": "wrong output: 5 bytes with digest 0011223344556677"})
    run = Run(
        id="20261121T120000Z-ab12", started="2026-11-21T12:00:00Z", ended="2026-11-21T12:04:10Z", complete=True,
        command=["./skerry", "bench", "-i", "inventories/sandbox", "--seed", "7"], skerry_version="0.1.0",
        commit="0" * 40, controller={"python": "3.13.5"}, inventory="inventories/sandbox", inventory_sha256="12" * 32,
        seed=7, samples=samples, memory_samples=3, warmups=1, budget_seconds=20.0, hosts=hosts, workloads=workloads,
        combinations=sorted(combinations, key=lambda one: one.id), missing=missing, failures=1)
    return run, rows


def save(place: Path, samples: int = 20) -> Path:
    """The run as a result directory."""
    run, rows = make(samples)
    place.mkdir(parents=True)
    results.write_run(place, run)
    (place / "samples.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
    parquet.write(place, rows)
    return place
