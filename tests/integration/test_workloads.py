"""The three programs, built for real and run: as native programs and under wasmtime, against what they must print."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from skerry import paths
from skerry.errors import SkerryError
from skerry.workloads import build, inputs, manifest, toolchain

WORKLOADS = manifest.load_all()
SIZES = [(workload, size) for workload in WORKLOADS for size in workload.sizes]
NAMES = [f"{workload.name}-{size}" for workload, size in SIZES]


def reference_sensors(data: bytes, width: int, lateness: int) -> bytes:
    """The program `sensors` said again in Python, from docs/workloads.md and not from the Go source."""
    windows: dict[int, dict[str, list[float]]] = {}
    newest: int | None = None
    accepted = late = malformed = 0
    out: list[str] = []

    def close(watermark: float) -> None:
        for start in sorted(start for start in windows if start + width <= watermark):
            for name, values in sorted(windows.pop(start).items()):
                mean = sum_in_order(values) / len(values)
                out.append(f'{{"start":{start},"end":{start + width},"sensor":"{name}","count":{len(values)},'
                           f'"min":{min(values):.4f},"mean":{mean:.4f},"max":{max(values):.4f}}}')

    for line in data.splitlines():
        try:
            reading = json.loads(line)
            stamp, sensor, value = reading["ts"], reading["sensor"], float(reading["value"])
        except (ValueError, KeyError):
            malformed += 1
            continue
        start = stamp // width * width
        if newest is not None and start + width <= newest - lateness:
            late += 1
            continue
        accepted += 1
        windows.setdefault(start, {}).setdefault(sensor, []).append(value)
        if newest is None or stamp > newest:
            newest = stamp
            close(newest - lateness)
    close(float("inf"))
    out.append(f'{{"readings":{accepted},"late":{late},"malformed":{malformed},"aggregates":{len(out)}}}')
    return ("\n".join(out) + "\n").encode()


def sum_in_order(values: list[float]) -> float:
    """A plain sum: Python's own compensates from 3.12 on, Go's does not."""
    total = 0.0
    for value in values:
        total += value
    return total


def native(workload: manifest.Workload, size: str, directory: Path) -> bytes:
    built = build.build_one(workload, build.own_architecture())
    wanted = workload.sizes[size]  # type: ignore[index]
    stdin = inputs.materialise(wanted.stdin).read_bytes() if wanted.stdin else b""
    if wanted.file:
        shutil.copyfile(inputs.materialise(wanted.file), directory / wanted.file.name)
    command = [str(built.path), *workload.arguments(str(directory))]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return done.stdout


WASMTIME = """
import sys, wasmtime
module, stdin, stdout, directory, *args = sys.argv[1:]
engine = wasmtime.Engine()
store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
linker.define_wasi()
wasi = wasmtime.WasiConfig()
wasi.argv = ["program", *args]
wasi.stdin_file, wasi.stdout_file = stdin, stdout
wasi.inherit_stderr()
wasi.preopen_dir(directory, "/data")
store.set_wasi(wasi)
try:
    linker.instantiate(store, wasmtime.Module.from_file(engine, module)).exports(store)["_start"](store)
except wasmtime.ExitTrap as end:
    sys.exit(end.code)
"""


def under_wasmtime(module: Path, arguments: list[str], stdin: bytes, directory: Path) -> tuple[int, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        given, printed = Path(scratch, "in"), Path(scratch, "out")
        given.write_bytes(stdin)
        command = [sys.executable, "-c", WASMTIME, str(module), str(given), str(printed), str(directory), *arguments]
        done = subprocess.run(command, check=False)
        return done.returncode, printed.read_bytes()


@pytest.mark.parametrize(("workload", "size"), SIZES, ids=NAMES)
def test_native_prints_what_the_manifest_says(workload: manifest.Workload, size: str, tmp_path: Path) -> None:
    expected = workload.sizes[size].expected_sha256  # type: ignore[index]
    assert hashlib.sha256(native(workload, size, tmp_path)).hexdigest() == expected


@pytest.mark.parametrize(("workload", "size"), SIZES, ids=NAMES)
def test_wasm_prints_what_the_manifest_says(workload: manifest.Workload, size: str, tmp_path: Path) -> None:
    wanted = workload.sizes[size]  # type: ignore[index]
    stdin = inputs.materialise(wanted.stdin).read_bytes() if wanted.stdin else b""
    if wanted.file:
        shutil.copyfile(inputs.materialise(wanted.file), tmp_path / wanted.file.name)
    module = build.build_one(workload, "wasm").path
    code, printed = under_wasmtime(module, workload.arguments("/data"), stdin, tmp_path)
    assert code == 0
    assert hashlib.sha256(printed).hexdigest() == wanted.expected_sha256


@pytest.mark.parametrize("size", ["full", "small"])
def test_sensors_manifest_agrees_with_python(size: str) -> None:
    workload = manifest.load_all(["sensors"])[0]
    wanted = workload.sizes[size]  # type: ignore[index]
    assert wanted.stdin is not None
    text = reference_sensors(inputs.materialise(wanted.stdin).read_bytes(), 10000, 2000)
    assert hashlib.sha256(text).hexdigest() == wanted.stdout_sha256


@pytest.mark.parametrize("size", ["full", "small"])
def test_sha256_manifest_agrees_with_hashlib(size: str) -> None:
    workload = manifest.load_all(["sha256"])[0]
    wanted = workload.sizes[size]  # type: ignore[index]
    assert wanted.file is not None
    digest = hashlib.sha256(inputs.materialise(wanted.file).read_bytes()).hexdigest()
    assert wanted.stdout == f"{digest}  {wanted.file.name}\n"


def run_sensors(lines: str, *arguments: str) -> tuple[int, list[str], str]:
    built = build.build_one(manifest.load_all(["sensors"])[0], build.own_architecture())
    done = subprocess.run([built.path, *arguments], input=lines, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_sensors_late_reading_is_counted_and_dropped() -> None:
    readings = [(0, 1.0), (12_000, 5.0), (9_999, 3.0), (9_998, 3.0)]
    text = "".join(f'{{"ts": {stamp}, "sensor": "a", "value": {value}}}\n' for stamp, value in readings)
    # 12,000 less the lateness of 2,000 is the end of the first window: both that follow are late.
    code, lines, _ = run_sensors(text)
    assert code == 0
    assert lines == [
        '{"start":0,"end":10000,"sensor":"a","count":1,"min":1.0000,"mean":1.0000,"max":1.0000}',
        '{"start":10000,"end":20000,"sensor":"a","count":1,"min":5.0000,"mean":5.0000,"max":5.0000}',
        '{"readings":2,"late":2,"malformed":0,"aggregates":2}',
    ]
    # One millisecond more of lateness keeps the window open: all four count.
    assert run_sensors(text, "-lateness", "2001")[1][0].startswith('{"start":0,"end":10000,"sensor":"a","count":3')


def test_sensors_before_the_epoch_and_bad_lines() -> None:
    text = '{"ts": -1, "sensor": "z", "value": 2}\n\nnot json\n{"ts": 1.5, "sensor": "z", "value": 1}\n{"ts": 3}\n'
    code, lines, _ = run_sensors(text)
    assert code == 0
    assert lines[0].startswith('{"start":-10000,"end":0,"sensor":"z","count":1,')
    assert lines[-1] == '{"readings":1,"late":0,"malformed":3,"aggregates":1}'


def test_sensors_wrong_arguments_end_with_2() -> None:
    code, lines, said = run_sensors("", "-window", "0")
    assert (code, lines) == (2, [])
    assert said.startswith("usage: sensors")


def test_sha256_missing_file_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    built = build.build_one(manifest.load_all(["sha256"])[0], build.own_architecture())
    there = tmp_path / "empty"
    there.touch()
    done = subprocess.run([built.path, tmp_path / "gone", there], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == f"{hashlib.sha256(b'').hexdigest()}  empty\n"
    assert "gone: FileNotFound" in done.stderr


def own_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of the test's own, but for libc as zig built it (half a minute, and not what is tested)."""
    shared = paths.cache() / "workloads" / "compilers" / "zig"
    shared.mkdir(parents=True, exist_ok=True)
    (place / "workloads" / "compilers").mkdir(parents=True)
    (place / "workloads" / "compilers" / "zig").symlink_to(shared)
    monkeypatch.setenv("SKERRY_CACHE", str(place))


def test_builds_are_reproducible_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same source gives the same bytes from another directory with a cache of its own."""
    workload = manifest.load_all(["sha256"])[0]
    first = build.build_one(workload, "wasm")
    own_cache(tmp_path / "elsewhere", monkeypatch)
    second = build.build_one(workload, "wasm")
    assert not second.cached
    assert second.path != first.path
    assert (second.sha256, second.key) == (first.sha256, first.key)
    assert build.build_one(workload, "wasm").cached


def test_a_damaged_cache_entry_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache(tmp_path / "cache", monkeypatch)
    workload = manifest.load_all(["sha256"])[0]
    first = build.build_one(workload, "wasm")
    first.path.write_bytes(first.path.read_bytes()[:-1])
    again = build.build_one(workload, "wasm")
    assert not again.cached
    assert again.sha256 == first.sha256


def test_what_does_not_compile_is_a_coded_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache(tmp_path / "cache", monkeypatch)
    (tmp_path / "bad.zig").write_text("pub fn main() void { nonsense }")
    workload = manifest.Workload.model_validate(
        {"name": "bad", "summary": "", "language": "zig", "sources": ["bad.zig"], "sizes": {"full": {"stdout": ""}},
         "directory": tmp_path})
    with pytest.raises(SkerryError) as caught:
        build.build_one(workload, "wasm")
    assert caught.value.code == "WORKLOAD_004"
    assert "bad.zig" in caught.value.cause
    assert list((tmp_path / "cache" / "workloads" / "builds" / "bad" / "wasm").iterdir()) == []


@pytest.mark.parametrize("name", ["sha256", "sensors"])
@pytest.mark.parametrize(("target", "machine"), [("amd64", 62), ("arm64", 183), ("arm", 40)])  # e_machine of ELF
def test_every_architecture_builds_a_static_program_of_its_kind(name: str, target: str, machine: int) -> None:
    head = build.build_one(manifest.load_all([name])[0], target).path.read_bytes()
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:20], "little") == machine
    assert b"/ld-musl" not in head and b"/lib/ld-" not in head[:4096]


def test_no_compiler_is_a_prerequisite_error(monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain.find.cache_clear()
    monkeypatch.setattr(toolchain, "_wheel", lambda *_: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SkerryError) as caught:
        toolchain.find("go")
    toolchain.find.cache_clear()
    assert caught.value.code == "WORKLOAD_003"
