"""Hostile modules under the probe of this machine: each meets the limit that is meant for it, nothing else is hurt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hostile_modules
import pytest
import wasm_modules

from skerry.targets.api import RunResult, RunSpec, Session, Target
from skerry.targets.sessions import open_session

MIB = 1 << 20


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    place = tmp_path_factory.mktemp("run")
    with open_session(Target("here", {"ansible_connection": "local", "skerry_run_dir": str(place)})) as opened:
        yield opened
    assert list(place.iterdir()) == [], "the probe left something behind"


@pytest.fixture(scope="module")
def keys(session: Session) -> list[str]:
    """Ways of running wasm here; Docker's and pods' are for hosts (tests/e2e/test_hostile.py)."""
    here = [entry.key for entry in session.capabilities() if entry.available and entry.payload == "wasm"]
    found = [key for key in here if key.startswith(("embedded", "process"))]
    assert "embedded/wasmtime/aot" in found
    return found


def attack(session: Session, key: str, what: str, folder: Path, **limits: float) -> RunResult:
    """One of the C program's attacks on a directory."""
    folder.mkdir(exist_ok=True)
    spec = RunSpec(key, session.put(hostile_modules.attacker()), (what,), "attacker", dirs=((str(folder), "/data"),),
                   **{"timeout": 30.0, **limits})  # type: ignore[arg-type]
    return session.run(spec)


def told(result: RunResult) -> tuple[str | None, int | None, str | None, object]:
    return result.limit, result.exit_code, result.trap, result.fault


def size_of(folder: Path) -> int:
    return sum(entry.stat().st_blocks * 512 for entry in folder.iterdir())


@pytest.mark.parametrize(("what", "limits", "limit"), [
    ("opens", {"open_files": 200}, "open_files"),
    ("writes", {"disk": 32 * MIB}, "disk"),
    ("fills", {"disk": 32 * MIB}, "disk"),
])
def test_a_limit_ends_it_and_is_told(session: Session, keys: list[str], tmp_path: Path, what: str,
                                     limits: dict[str, float], limit: str) -> None:
    for at, key in enumerate(keys):
        result = attack(session, key, what, tmp_path / str(at), **limits)
        assert told(result) == (limit, None, None, None), key
        assert result.seconds < 10, key
        # Between two looks it may go beyond by what a disk takes in that time.
        assert size_of(tmp_path / str(at)) < 32 * MIB + 512 * MIB, key


def test_nothing_outside_of_a_directory_is_reached(session: Session, keys: list[str], tmp_path: Path) -> None:
    for at, key in enumerate(keys):
        outside, folder = tmp_path / str(at), tmp_path / str(at) / "given"
        (folder / "inner").mkdir(parents=True)
        (outside / "canary").write_text("untouched")
        (folder / "outside").symlink_to(outside)
        (folder / "canary-link").symlink_to("../canary")
        result = attack(session, key, "escapes", folder)
        assert told(result) == (None, 0, None, None), key
        assert result.stdout.splitlines()[-1] == b"looked everywhere"
        ways = [line for line in result.stdout.decode().splitlines() if line.split()[0] in ("READ", "WROTE", "SAW")]
        assert not ways, f"{key}: {ways}"
        assert {entry.name for entry in outside.iterdir()} == {"canary", "given"}, key
        assert (outside / "canary").read_text() == "untouched"


def test_no_engine_starts_threads_for_a_module(session: Session, keys: list[str]) -> None:
    for key in keys:
        result = session.run(RunSpec(key, session.put_bytes(hostile_modules.forks()), timeout=20.0))
        assert result.fault is not None and result.fault.code == "RUN_011", key
        assert "thread-spawn" in result.fault.cause or key.startswith("embedded/wasmedge"), result.fault


@pytest.mark.parametrize("bomb", hostile_modules.BOMBS)
def test_a_bomb_for_the_compiler_meets_the_runs_own_limits(session: Session, keys: list[str], bomb: str) -> None:
    digest = session.put_bytes(hostile_modules.BOMBS[bomb]())
    for key in keys:
        result = session.run(RunSpec(key, digest, timeout=20.0, memory=160 * MIB))
        # An interpreter compiles nothing: a bomb is an idle program to it, unless it is larger than its memory.
        harmless = key.endswith("interpreter") and result.exit_code == 0
        assert harmless or told(result) == ("memory", None, None, None), (key, told(result))
        assert result.seconds < 25, key


def test_time_ends_a_compiler_too(session: Session) -> None:
    digest = session.put_bytes(hostile_modules.huge_function())
    for mode in ("aot", "jit"):
        result = session.run(RunSpec(f"embedded/wasmtime/{mode}", digest, timeout=0.5))
        assert told(result) == ("timeout", None, None, None), mode
        assert result.seconds < 3


def test_the_probe_goes_on(session: Session) -> None:
    """After all of that the session answers, and a good module runs as ever."""
    result = session.run(RunSpec("embedded/wasmtime/aot", session.put_bytes(wasm_modules.exiting(5))))
    assert result.exit_code == 5
