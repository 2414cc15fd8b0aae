"""A real probe on this machine: real modules, real engines, real limits."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasm_modules

from skerry import paths
from skerry.errors import SkerryError
from skerry.targets.api import Capability, RunResult, RunSpec, SampleSpec, Session, Target
from skerry.targets.inventory import this_machine
from skerry.targets.sessions import open_session

AOT = "embedded/wasmtime/aot"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    place = tmp_path_factory.mktemp("run")
    target = Target("here", {"ansible_connection": "local", "skerry_run_dir": str(place)})
    with open_session(target) as opened:
        yield opened
    assert list(place.iterdir()) == [], "the probe left something behind"


def _run(session: Session, data: bytes, key: str = AOT, **fields: object) -> RunResult:
    return session.run(RunSpec(key, session.put_bytes(data), **fields))  # type: ignore[arg-type]


def _wasm_keys(session: Session) -> list[str]:
    return [entry.key for entry in session.capabilities() if entry.available and entry.payload == "wasm"]


def _world(session: Session, key: str, **fields: object) -> RunResult:
    spec = RunSpec(
        key, session.put(wasm_modules.world()), ("5", "b c"), "world.wasm", (("T_A", "1"), ("T_B", "x=y")),
        stdin=b"z" * 100_000, files=(("/data/given.txt", session.put_bytes(b"content")),), **fields,  # type: ignore[arg-type]
    )
    return session.run(spec)


EXPECTED = (b"argument world.wasm\nargument 5\nargument b c\nvariable T_A=1\nvariable T_B=x=y\n"
            b"input 100000\nfile content\nno newline at the end")


def test_a_program_sees_its_world_and_no_more(session: Session) -> None:
    keys = _wasm_keys(session)
    assert AOT in keys
    for key in keys:
        result = _world(session, key)
        assert (result.stdout, result.stderr, result.exit_code) == (EXPECTED, b"a word on standard error", 5), key
        assert result.seconds > 0
        assert result.memory_bytes, key
        assert (result.fault, result.trap, result.limit) == (None, None, None)


def test_the_native_control_does_the_same(session: Session) -> None:
    spec = RunSpec(
        "native/native/native", session.put(wasm_modules.world(native=True)), ("5", "b c"), "world.wasm",
        (("T_A", "1"), ("T_B", "x=y"), ("T_NATIVE", "1")), stdin=b"z" * 100_000,
    )
    result = session.run(spec)
    lines = [line for line in EXPECTED.split(b"\n") if not line.startswith(b"file")]
    lines.insert(5, b"variable T_NATIVE=1")
    assert (result.stdout.split(b"\n"), result.exit_code) == (lines, 5)


@pytest.mark.parametrize("name", wasm_modules.TRAPS)
@pytest.mark.parametrize("key", [AOT, "embedded/wasmtime/jit"])
def test_a_trap_is_named(session: Session, key: str, name: str) -> None:
    result = _run(session, wasm_modules.trapping(name), key)
    assert (result.trap, result.exit_code, result.limit) == (name, None, None)


def test_endless_recursion_is_a_trap(session: Session) -> None:
    assert _run(session, wasm_modules.module("recurses")).trap == "stack_overflow"


@pytest.mark.parametrize("code", [0, 1, 7, 125])
def test_exit_codes_are_kept_from_deep_calls(session: Session, code: int) -> None:
    result = _run(session, wasm_modules.exiting(code))
    assert (result.exit_code, result.trap) == (code, None)


def test_wasmtime_refuses_exit_codes_from_126_on(session: Session) -> None:
    # A finding (docs/wasi-findings.md): the day this fails, the page is out of date.
    assert _run(session, wasm_modules.exiting(126)).trap == "invalid_exit_code"


def test_a_loop_meets_the_timeout(session: Session) -> None:
    begun = time.monotonic()
    result = _run(session, wasm_modules.module("loops"), timeout=1.0)
    assert result.limit == "timeout"
    assert 1.0 <= result.seconds < 5
    assert time.monotonic() - begun < 20


def test_eating_memory_meets_the_limit(session: Session) -> None:
    result = _run(session, wasm_modules.module("eats"), memory=64 << 20, timeout=60.0)
    assert (result.limit, result.exit_code) == ("memory", None)
    assert result.memory_bytes is not None and result.memory_bytes <= 130 << 20


def test_printing_without_end_meets_the_limit(session: Session) -> None:
    result = _run(session, wasm_modules.module("prints"), output_limit=300_000, timeout=60.0)
    assert (result.limit, len(result.stdout)) == ("output", 300_000)


def test_output_streams_while_the_program_runs(session: Session) -> None:
    pieces: list[float] = []
    spec = RunSpec(AOT, session.put_bytes(wasm_modules.module("prints")), timeout=1.5, output_limit=None)
    session.run(spec, lambda _stream, _data: pieces.append(time.monotonic()))
    assert len(pieces) > 3
    assert pieces[-1] - pieces[0] > 0.5


def test_an_invalid_module_gets_the_engines_words(session: Session) -> None:
    result = _run(session, wasm_modules.invalid())
    assert result.fault is not None
    assert result.fault.code == "RUN_011"
    assert "refuses" in result.fault.cause


def test_a_directory_that_is_not_there(session: Session) -> None:
    result = _run(session, wasm_modules.exiting(0), dirs=(("/no/such/directory", "/data"),))
    assert result.fault is not None and result.fault.code == "RUN_007"


def test_a_rung_that_is_not_there_has_a_reason(session: Session) -> None:
    lacking = [entry for entry in session.capabilities() if not entry.available]
    assert all(entry.reason for entry in lacking)
    for entry in lacking[:1]:
        with pytest.raises(SkerryError, match="RUN_015"):
            _run(session, wasm_modules.exiting(0), entry.key)


def test_samples_measure_time_memory_and_the_floor(session: Session) -> None:
    hello = RunSpec(AOT, session.put_bytes(wasm_modules.exiting(0)))
    session.prepare(SampleSpec(hello))
    times = sorted(session.sample(SampleSpec(hello)).run_seconds for _ in range(30))
    assert 0 < times[15] < 0.01
    sample = session.sample(SampleSpec(hello, memory=True))
    assert sample.pss_bytes is not None and 0 < sample.pss_bytes < 64 << 20
    assert set(sample.phases) == {"load", "instantiate", "call"}
    assert session.sample(SampleSpec(hello, empty=True)).exit_code == 0
    session.release(SampleSpec(hello))


def test_the_memory_of_a_program_of_a_millisecond_is_measured(session: Session) -> None:
    spec = RunSpec("native/native/native", session.put(wasm_modules.world(native=True)))
    samples = [session.sample(SampleSpec(spec, memory=True)) for _ in range(5)]
    assert all(sample.pss_bytes is not None and 8192 <= sample.pss_bytes < 1 << 20 for sample in samples), samples
    assert all(sample.run_seconds < 1 for sample in samples)


def test_a_sample_that_fails_leaves_the_next_one_whole(session: Session) -> None:
    loops = RunSpec(AOT, session.put_bytes(wasm_modules.module("loops")), timeout=0.5)
    assert [session.sample(SampleSpec(loops)).limit for _ in range(2)] == ["timeout", "timeout"]
    traps = RunSpec(AOT, session.put_bytes(wasm_modules.trapping("unreachable")))
    assert [session.sample(SampleSpec(traps)).trap for _ in range(3)] == ["unreachable"] * 3


def test_the_samples_output_is_hashed(session: Session) -> None:
    spec = RunSpec(AOT, session.put(wasm_modules.world()), ("0",), "w", stdin=b"abc")
    sample = session.sample(SampleSpec(spec))
    result = session.run(spec)
    assert sample.stdout_digest == hashlib.sha256(result.stdout).hexdigest()
    assert sample.stdout_bytes == len(result.stdout)


# What stays behind ----------------------------------------------------------------------------------------------------


_CONTROLLER = """
import sys, time
from skerry.targets.sessions import open_session
from skerry.targets.api import RunSpec, Target
session = open_session(Target("here", {"ansible_connection": "local", "skerry_run_dir": sys.argv[1]}))
digest = session.put_bytes(open(sys.argv[2], "rb").read())
print("running", flush=True)
session.run(RunSpec("embedded/wasmtime/aot", digest, timeout=None))
"""


def _groups() -> set[str]:
    return {path for root, below, _ in os.walk("/sys/fs/cgroup") for path in below if path.startswith("skerry-")}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_controller_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    place, module = tmp_path / "run", tmp_path / "m.wasm"
    place.mkdir()
    module.write_bytes(wasm_modules.module("loops"))
    before = _groups()
    environment = {**os.environ, "PYTHONPATH": str(paths.root() / "tools")}
    with subprocess.Popen(
        [sys.executable, "-c", _CONTROLLER, str(place), str(module)], stdout=subprocess.PIPE, env=environment
    ) as controller:
        assert controller.stdout is not None
        assert controller.stdout.readline() == b"running\n"
        time.sleep(1)
        sessions = {path.name for path in place.iterdir()}
        assert len(sessions) == 1
        controller.send_signal(number)
        controller.wait()
    deadline = time.monotonic() + 30
    while (list(place.iterdir()) or sessions & _groups()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(place.iterdir()) == []
    assert not sessions & _groups()
    assert not before & sessions


def _links(pid: int) -> str:
    return " ".join(str(link.readlink()) for link in Path("/proc", str(pid), "fd").iterdir() if link.is_symlink())


def _guard_of(session: Session) -> int:
    work = session.facts.work_dir
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            links = entry / "fd"
            try:
                if any(str(link.readlink()) == work for link in links.iterdir()):
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError("no guard holds the session's directory")


def test_what_a_killed_guard_leaves_is_swept_by_the_next_session(tmp_path: Path) -> None:
    target = Target("here", {"ansible_connection": "local", "skerry_run_dir": str(tmp_path)})
    first = open_session(target)
    os.kill(_guard_of(first), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.3)
        with open_session(target) as second:
            left = {str(path) for path in tmp_path.iterdir()} - {second.facts.work_dir}
        if not left:
            break
    first.close()
    assert not left


def test_a_host_that_falls_silent_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.targets.session.SILENCE", 8.0)
    monkeypatch.setattr("skerry.targets.session.PING", 1.0)
    target = Target("here", {"ansible_connection": "local", "skerry_run_dir": str(tmp_path)})
    opened = open_session(target)
    digest = opened.put_bytes(wasm_modules.module("loops"))
    frozen = [pid for pid in map(int, subprocess.run(
        ["pgrep", "-f", "SKERRY-[B]OOT"], capture_output=True, text=True, check=False).stdout.split())
        if opened.facts.work_dir in Path("/proc", str(pid), "maps").read_text() + _links(pid)]
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(SkerryError, match="TARGET_020"):
            opened.run(RunSpec(AOT, digest, timeout=None))
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    opened.close()
    deadline = time.monotonic() + 20
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert frozen
    assert list(tmp_path.iterdir()) == []


# Without root, and with an old Python ---------------------------------------------------------------------------------

_UNPRIVILEGED = """
import sys
from pathlib import Path
from skerry.targets.sessions import open_session
from skerry.targets.api import RunSpec, Target
variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.argv[1], "skerry_run_dir": sys.argv[2]}
with open_session(Target("here", variables)) as session:
    assert not session.facts.root
    assert session.facts.cgroup == 0 and session.facts.cgroup_reason
    for name in sys.argv[3:]:
        digest = session.put(Path(name))
        spec = RunSpec("embedded/wasmtime/aot", digest, timeout=2.0, memory=64 << 20, output_limit=100_000)
        r = session.run(spec)
        print(Path(name).stem, r.exit_code, r.trap, r.limit, bool(r.memory_bytes), r.memory_source)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the test itself drops root's rights")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="there is no Python that another user may run")
def test_without_root_there_is_a_watchdog() -> None:
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if subprocess.run([*nobody, "test", "-x", str(paths.root() / "tools")], check=False).returncode != 0:
        pytest.skip(f"another user cannot read {paths.root()} on this machine")
    with tempfile.TemporaryDirectory(prefix="skerry-test-") as folder:
        base = Path(folder)
        base.chmod(0o777)
        names = []
        for name in ("loops", "eats", "prints", "unreachable"):
            path = base / f"{name}.wasm"
            path.write_bytes(wasm_modules.module(name))
            path.chmod(0o644)
            names.append(str(path))
        packages = next(entry for entry in sys.path if entry.endswith("site-packages"))
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "SKERRY_CACHE": folder,
                       "PYTHONPATH": f"{paths.root() / 'tools'}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [*nobody, "/usr/bin/python3", "-c", _UNPRIVILEGED, "/usr/bin/python3", folder, *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False,
                              cwd="/")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "loops None None timeout True pss",
            "eats None None memory True pss",
            "prints None None output True pss",
            "unreachable None unreachable None True pss",
        ]


def test_the_oldest_python_runs_the_probe(tmp_path: Path) -> None:
    python = os.environ.get("SKERRY_PYTHON39") or shutil.which("python3.9")
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no Python 3.9 here; SKERRY_PYTHON39 names one")
    target = Target("here", {"ansible_connection": "local", "ansible_python_interpreter": python,
                             "skerry_run_dir": str(tmp_path)})
    with open_session(target) as opened:
        assert opened.facts.python.startswith("3.9.")
        assert _run(opened, wasm_modules.exiting(4)).exit_code == 4


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\n[ \"$2\" = 'import sys; sys.exit(sys.version_info < (3, 9))' ] && exit 1\n"
                   "echo 'SKERRY-OLD 3.6 '$0\nexit 9\n")
    old.chmod(0o755)
    with pytest.raises(SkerryError, match="too old") as caught:
        open_session(Target("here", {"ansible_connection": "local", "ansible_python_interpreter": str(old)}))
    assert caught.value.code == "TARGET_006"


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SkerryError) as caught:
        open_session(Target("here", {"ansible_connection": "local", "ansible_python_interpreter": "/no/python"}))
    assert caught.value.code == "TARGET_006"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_one_coded_error_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    try:
        target = Target("here", {"ansible_connection": "local", "skerry_run_dir": str(small)})
        with pytest.raises(SkerryError) as caught:
            open_session(target)
        assert caught.value.code == "TARGET_008"
        subprocess.run(["mount", "-o", "remount,size=1m", str(small)], check=True)
        with open_session(target) as opened:
            with pytest.raises(SkerryError) as late:
                opened.put_bytes(os.urandom(4 << 20))
            assert late.value.code == "TARGET_008"
            assert opened.capabilities(), "the session goes on"
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_this_machine_is_a_target_without_an_inventory() -> None:
    target = this_machine()
    assert target.local
    with open_session(target) as opened:
        capabilities: list[Capability] = opened.capabilities()
    assert [entry.rung for entry in capabilities] == sorted(
        (entry.rung for entry in capabilities), key=["native", "embedded", "process", "container", "pod"].index
    )
