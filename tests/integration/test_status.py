"""`skerry status` and `skerry doctor` as commands, on an inventory of this machine and one host that is not there."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from skerry import paths

SKERRY = str(paths.root() / "skerry")


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """This machine, and a host whose ssh port is closed."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "hosts.yml").write_text(
        "all:\n  hosts:\n    here: {ansible_connection: local}\n"
        "    gone: {ansible_host: 127.0.0.1, ansible_port: 1, ansible_user: nobody}\n"
    )
    return folder


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SKERRY, *words], capture_output=True, text=True, timeout=120, check=False)


def test_a_host_that_is_gone_is_unknown_and_the_other_is_shown(inventory: Path) -> None:
    done = run("status", "-i", str(inventory), "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert told["partial"] == ["host gone"]
    assert told["cluster"] is None
    assert told["hosts"]["here"]["memory"]["total"] > 0
    assert told["hosts"]["gone"]["error"]["code"].startswith("TARGET_")
    text = run("status", "-i", str(inventory)).stdout
    assert "hosts 1/2" in text
    assert "unknown:" in text


def test_one_good_host_is_enough_for_a_good_end_and_none_is_exit_code_4(inventory: Path) -> None:
    # This machine may itself be beyond a limit: that is not what is tested.
    loose = [f"--threshold={name}=1000000" for name in ("memory", "disk", "inodes", "clock", "conntrack")]
    assert run("status", "-i", str(inventory), "--on", "here", *loose).returncode == 0
    assert run("status", "-i", str(inventory), "--on", "gone").returncode == 4
    assert run("doctor", "-i", str(inventory), "--on", "gone").returncode == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--threshold", "size=3"], "STATUS_004"),
        (["--cluster", "north"], "STATUS_002"),
        (["--on", "nobody"], "TARGET_001"),
    ],
)
def test_bad_input_is_told_before_anything_is_done(inventory: Path, words: list[str], code: str) -> None:
    done = run("status", "-i", str(inventory), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(code)


def test_the_doctor_names_the_host_that_is_gone(inventory: Path) -> None:
    done = run("doctor", "-i", str(inventory), "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    first = told["causes"][0]
    assert (first["code"], first["where"]) == ("CLUSTER_201", "gone")
    assert first["confirm"].startswith(f"ansible gone -i {inventory}")
    assert "CLUSTER_201" in run("doctor", "-i", str(inventory)).stdout


def test_watching_goes_on_until_it_is_interrupted(inventory: Path) -> None:
    command = [SKERRY, "status", "-i", str(inventory), "--on", "here", "--watch", "--every", "0.5", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    moments = [one["taken"] for one in told]
    assert moments == sorted(moments)
    assert all(one["hosts"]["here"]["known"] for one in told)


def test_watching_on_a_terminal_draws_the_same_screen_again(inventory: Path) -> None:
    ours, theirs = pty.openpty()
    command = [SKERRY, "status", "-i", str(inventory), "--on", "here", "--watch", "--every", "0.5"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen, end = b"", time.monotonic() + 60
        while seen.count(b"hosts ") < 2 and time.monotonic() < end:
            if select.select([ours], [], [], 1.0)[0]:
                seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        while select.select([ours], [], [], 5.0)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end of a terminal is closed
                break
            if not data:
                break
            seen += data
        assert process.wait(10) == 130
    os.close(ours)
    assert b"\x1b[?1049h" in seen, "no screen of its own"
    assert b"\x1b[?1049l" in seen, "the terminal was not put back"
    assert seen.count(b"hosts ") >= 2
