"""Parts of the probe that need no host: the zip, control group files, logs of pods, arguments of native programs."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import skerry.probe
from skerry.probe import cgroups, crilog, ctr, elf, images
from skerry.probe.rungs.native import map_arguments
from skerry.targets.bootstrap import probe_zip

SOURCES = sorted(Path(skerry.probe.__file__).parent.rglob("*.py"))
HYBRID = """25 20 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
26 20 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
27 20 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_probe_is_python_3_9_and_stands_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        foreign = [name for name in names if name.split(".")[0] not in sys.stdlib_module_names]
        assert not foreign, f"{path.name} imports {foreign}"
        assert not isinstance(node, ast.Match)


def test_the_zip_is_the_same_every_time() -> None:
    first = probe_zip()
    probe_zip.cache_clear()
    assert hashlib.sha256(probe_zip()).digest() == hashlib.sha256(first).digest()
    assert len(first) < 200_000


def test_the_memory_controller_is_found_in_both_versions(tmp_path: Path) -> None:
    assert cgroups.find(HYBRID)[:2] == (1, Path("/sys/fs/cgroup/memory"))
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    line = f"27 20 0:24 / {tmp_path} rw - cgroup2 cgroup2 rw"
    assert cgroups.find(line)[:2] == (2, tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    version, _, reason = cgroups.find(line)
    assert version == 0 and "memory" in reason
    assert cgroups.find("")[0] == 0


def test_a_pods_log_gives_the_exact_bytes(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    taken: list[tuple[str, bytes]] = []
    log = crilog.CriLog(path, lambda stream, data: taken.append((stream, data)))
    log.read()
    path.write_bytes(b"2026-11-21T12:00:00.123456789Z stdout F a b\n2026-11-21T12:00:00.2Z stderr P half")
    log.read()
    with path.open("ab") as file:
        file.write(b"\n2026-11-21T12:00:00.3Z stdout F \n2026-11-21T12:00:00.4Z stdout P no newline\n")
    log.read()
    log.close()
    assert taken == [("stdout", b"a b\n"), ("stderr", b"half"), ("stdout", b"\n"), ("stdout", b"no newline")]


def test_a_pods_log_is_followed_across_a_rotation(tmp_path: Path) -> None:
    path, taken = tmp_path / "0.log", bytearray()
    log = crilog.CriLog(path, lambda _, data: taken.extend(data))
    path.write_bytes(b"2026-11-21T12:00:00Z stdout F one\n")
    log.read()
    path.rename(tmp_path / "0.log.20261121")
    path.write_bytes(b"2026-11-21T12:00:01Z stdout F two\n")
    log.read()
    log.close()
    assert bytes(taken) == b"one\ntwo\n"


def test_times_of_the_log() -> None:
    assert crilog.nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert crilog.nanoseconds("1970-01-01T01:00:00.000000001+01:00") == 1


def test_containerds_events_are_read() -> None:
    line = ('2026-11-21 12:30:00.123456789 +0000 UTC k8s.io /tasks/exit '
            '{"container_id":"abc","id":"abc","pid":7,"exit_status":3}')
    event = ctr.parse(line)
    assert event is not None
    assert (event.topic, event.body["exit_status"]) == ("/tasks/exit", 3)
    assert ctr.parse("time=... level=info") is None


def test_guest_paths_become_host_paths_for_native_programs() -> None:
    dirs = [("/host/a", "/data"), ("/host/b", "/data/deep")]
    given = ["/data/x", "/data", "/database", "/data/deep/y", "plain"]
    assert map_arguments(given, dirs) == ["/host/a/x", "/host/a", "/database", "/host/b/y", "plain"]


def test_the_empty_program_runs_and_ends(tmp_path: Path) -> None:
    program = elf.empty_program("x86_64")
    assert program is not None
    path = tmp_path / "empty"
    path.write_bytes(program)
    path.chmod(0o755)
    assert subprocess.run([str(path)], check=False).returncode == 0
    assert elf.empty_program("vax") is None


def test_an_image_is_the_same_every_time() -> None:
    first = images.archive("skerry.local/run-x:1", "a.wasm", b"\0asm", "x86_64", {"l": "v"})
    assert first == images.archive("skerry.local/run-x:1", "a.wasm", b"\0asm", "x86_64", {"l": "v"})
    assert b'"architecture": "amd64"' in first
