"""What ends a run on hosts where neither systemd nor the kernel does, and directories that lead elsewhere."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from skerry import paths
from skerry.deploy import show
from skerry_host import counting, directories, places, processes
from skerry_host.faults import HostError

MIB = 1 << 20
HOST_SIDE = paths.root() / "roles" / "workload" / "files"
WAIT = "import time; time.sleep(30)"


def watched(code: str, folder: Path | None = None, **limits: Any) -> subprocess.CompletedProcess[bytes]:
    """A Python program under the watcher, as the units start it."""
    asked = {"output": None, "open_files": None, "disk": None, "file_size": None, **limits,
             "directories": [str(folder)] if folder else []}
    command = [sys.executable, "-m", "skerry_host", "exec", json.dumps(asked), sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, timeout=25, check=False, cwd=HOST_SIDE,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))


def test_descriptors(tmp_path: Path) -> None:
    code = f"import os\ntry:\n while True: os.dup(0)\nexcept OSError: pass\n{WAIT}"
    done = watched(code, open_files=200)
    assert done.returncode == -counting.SIGNALS["open_files"]
    assert b"limits.open_files" in done.stderr


@pytest.mark.parametrize("output", [None, 1000])
def test_bytes_in_directories(tmp_path: Path, output: int | None) -> None:
    code = (f"import os\nos.close(1); os.close(2)\nfor at in range(100):\n"
            f" open(f'{tmp_path}/{{at}}', 'wb').write(bytes(1 << 20))\n{WAIT}")
    done = watched(code, tmp_path, disk=5 * MIB, output=output)
    assert done.returncode == -counting.SIGNALS["disk"]
    again = watched("print('begun')", tmp_path, disk=5 * MIB, output=output)
    assert again.returncode == -counting.SIGNALS["disk"]
    assert b"begun" not in again.stdout


def test_empty_files_take_room_too(tmp_path: Path) -> None:
    done = watched(f"for at in range(2000): open(f'{tmp_path}/{{at}}', 'w')\n{WAIT}", tmp_path, disk=5 * MIB)
    assert done.returncode == -counting.SIGNALS["disk"]


def test_a_file_that_became_too_large(tmp_path: Path) -> None:
    (tmp_path / "others").write_bytes(bytes(MIB))  # was there before: nobody's fault
    done = watched("print('begun')", tmp_path, file_size=MIB)
    assert (done.returncode, done.stdout) == (0, b"begun\n")
    done = watched(f"open('{tmp_path}/own', 'wb').write(bytes(1 << 20))\n{WAIT}", tmp_path, file_size=MIB)
    assert done.returncode == -counting.SIGNALS["file_size"]


def test_output_and_ordinary_ends() -> None:
    done = watched("import sys\nwhile True: sys.stdout.write('x' * 1000)", output=5000)
    assert (done.returncode, len(done.stdout)) == (-counting.SIGNALS["output"], 5000)
    assert watched("print(1); raise SystemExit(7)", output=5000).returncode == 7
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (counting.SIGNALS["disk"], 128 + signal.SIGPROF)):
        done = watched(f"import os, signal; os.kill(os.getpid(), {int(number)})", output=5000)
        assert done.returncode == code, "a run cannot say of itself that it met a limit"


def test_what_directories_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(bytes(100_000))
    os.link(tmp_path / "deep" / "er" / "file", tmp_path / "same")
    (tmp_path / "elsewhere").symlink_to("/usr")
    total, large = counting.held([str(tmp_path)], 1 << 40, 50_000)
    assert 100_000 < total < 100_000 + 8 * counting.ENTRY
    assert large == 1
    assert counting.held([str(tmp_path)], 10_000, 1 << 40)[0] > 10_000
    hidden = tmp_path
    for _ in range(30):  # deeper than a path can be long: it cannot be looked into, so it counts as full
        monkeypatch.chdir(hidden)
        hidden = Path("x" * 200)
        hidden.mkdir()
    assert counting.held([str(tmp_path)], 1 << 30, 1 << 40)[0] > 1 << 30


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "WORKLOADS", tmp_path / "workloads")
    (tmp_path / "workloads" / "a").mkdir(parents=True)
    return tmp_path


def desired(*hosts: Path) -> dict[str, Any]:
    return {"name": "a", "directories": [{"host": str(one), "guest": "/x", "read_only": False} for one in hosts]}


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands directories over")


@needs_root
def test_directories_are_made_and_handed_over(note: Path) -> None:
    there = note / "there"
    there.mkdir()
    (note / "link").symlink_to(there)
    before = os.umask(0o077)  # as in the units
    directories.own(desired(note / "link" / "new" / "er", there), lambda: 65123)
    os.umask(before)
    assert (there / "new" / "er").stat().st_uid == 65123
    assert (there / "new").stat().st_mode & 0o777 == 0o755, "its user comes through"
    assert there.stat().st_uid == 0, "what was there belongs to whom it belonged"
    held = there / "new" / "er" / "folder"
    held.mkdir()
    for name in ("left", "linked"):
        (held / name).touch()
    for one in (held, held / "left"):
        os.chown(one, 65123, 65123)
    directories.own(desired(note / "link" / "new" / "er", there), lambda: 65124)
    assert {one.stat().st_uid for one in (held.parent, held, held / "left")} == {65124}, "with what it had written"
    assert (held / "linked").stat().st_uid == 0, "but for what is somebody else's"


@needs_root
@pytest.mark.parametrize("target", ["/", "../outside", "inner2"])
def test_links_of_modules_are_not_followed(note: Path, target: str) -> None:
    outer, outside = note / "outer", note / "outside"
    outside.mkdir()
    directories.own(desired(outer, outer / "inner"), lambda: 65123)
    (outer / "inner").rmdir()
    (outer / "inner2").mkdir()
    (outer / "inner").symlink_to(target)
    os.lchown(outer / "inner", 65123, 65123)
    for place in (outer / "inner", outer / "inner" / "below"):
        with pytest.raises(HostError, match="HOST_040"):
            directories.own(desired(outer, place), lambda: 65123)
    assert outside.stat().st_uid == 0
    assert list(outside.iterdir()) == []
    (outer / "inner").unlink()
    (outer / "inner").write_text("a file")
    with pytest.raises(HostError, match="HOST_041"):
        directories.own(desired(outer, outer / "inner"), lambda: 65123)


@pytest.mark.parametrize(("answers", "status"), [
    ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204), ((b"HTTP/1.0 5", b"03 x\r\n"), 503), ((b"no HTTP\n",), 500),
    ((b"x" * 2000,), 500), ((b"",), 500),
])
def test_readiness_over_http(answers: tuple[bytes, ...], status: int) -> None:
    with served(answers) as place:
        assert processes.status_of(place, "/") == status


def test_a_service_that_answers_drop_by_drop_holds_nobody_up() -> None:
    with served((b"H",) * 100) as place:
        begun = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            processes.status_of(place, "/", 0.5)
        assert time.monotonic() - begun < 1.5


@contextmanager
def served(answers: tuple[bytes, ...]) -> Iterator[tuple[str, int]]:
    """Answers one connection in pieces, 100 ms apart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            link, _ = listener.accept()
            with link, suppress(OSError):
                link.recv(1000)
                for piece in answers:
                    link.sendall(piece)
                    time.sleep(0.1)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()
        thread.join(15)


def test_what_a_module_says_does_nothing_to_a_terminal() -> None:
    assert show.visible("a\tb\x1b]52;c;x\x07\x9b2J\rü") == "a\tb\\x1b]52;c;x\\x07\\x9b2J\\x0dü"


def test_a_command_that_cannot_be_started_is_told() -> None:
    asked = json.dumps({"output": 1000, "open_files": None, "disk": None, "file_size": None, "directories": []})
    command = [sys.executable, "-m", "skerry_host", "exec", asked, "/no/such/runtime"]
    done = subprocess.run(command, capture_output=True, timeout=25, check=False, cwd=HOST_SIDE)
    assert done.returncode == 1
    assert done.stderr == b"skerry: /no/such/runtime cannot be started: No such file or directory\n"
