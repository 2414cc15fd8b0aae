"""``skerry demo --local`` as a person runs it, and the same benchmark lost, stopped and repeated on this machine."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from skerry import paths
from skerry.bench import results
from skerry.workloads import build, manifest

TOOLS = paths.root() / "tools"


def skerry(state: Path, *words: str) -> list[str]:
    """The command with its results in a directory of the test's own: a root with the project's parts linked into it."""
    for name in ("workloads", "requirements.lock", "playbooks", "ansible.cfg"):
        link = state / name
        if not link.exists():
            link.symlink_to(paths.root() / name)
    return [sys.executable, "-m", "skerry", *words]


def environment(state: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "SKERRY_ROOT": str(state), "PYTHONPATH": str(TOOLS), "NO_COLOR": "1", **more}


@pytest.mark.timeout(600)  # the programs are built first where nothing is cached
def test_the_local_demo_measures_this_machine_and_reports(tmp_path: Path) -> None:
    done = subprocess.run(skerry(tmp_path, "demo", "--local", "--samples", "6", "--seed", "11", "--json"),
                          env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    run, rows = results.load(Path(said["directory"]))
    assert run.complete and run.failures == 0 and run.seed == 11
    measured = {(one["rung"], one["workload"]) for one in said["ladder"] if one["run_seconds"]}
    for workload in ("hello", "sha256", "sensors", "empty"):
        assert ("native", workload) in measured
        assert ("embedded", workload) in measured
    lacking = {entry["rung"] for entry in said["missing"]}
    rungs = {rung for rung, _ in measured}
    assert rungs | lacking == {"native", "embedded", "process", "container", "pod"}
    page = (Path(said["directory"]) / "report.html").read_text()
    assert run.id in page
    expected = {(workload.name, name): size.expected_sha256 for workload in run.workloads
                for name, size in workload.sizes.items()}
    outputs = {(row.workload, row.size): row.stdout_digest for row in rows if row.workload != "empty"}
    assert outputs == {key: expected[key] for key in outputs}

    again = subprocess.run(skerry(tmp_path, "report", run.id[:8]), env=environment(tmp_path, COLUMNS="80"),
                           capture_output=True, text=True, check=True)
    assert "hello on localhost" in again.stdout
    assert max(len(line) for line in again.stdout.splitlines() if "│" in line or "×" in line) <= 80


def _reaches(account: pwd.struct_passwd, path: Path) -> bool:
    """Whether that account may read and enter a place (asked as that account)."""
    done = subprocess.run(["/usr/bin/test", "-r", str(path), "-a", "-x", str(path)], user=account.pw_uid,
                          group=account.pw_gid, extra_groups=[], check=False)
    return done.returncode == 0


@pytest.mark.timeout(240)
def test_a_person_without_rights_can_run_it() -> None:
    """As `nobody`, without any right, in a home of its own; builds are taken along."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; the test above has shown it for this one")
    account = pwd.getpwnam("nobody")
    packages = Path(np.__file__).parents[1]
    own = Path(sys.executable).resolve()
    python = own if _reaches(account, own) else Path(f"/usr/bin/python3.{sys.version_info[1]}")
    for place in (python, packages, TOOLS):
        if not _reaches(account, place):
            pytest.skip(f"{account.pw_name} cannot read {place} on this machine")
    home = Path(tempfile.mkdtemp(prefix="skerry-nobody-", dir="/tmp"))
    try:
        command = [str(python), *skerry(home, "demo", "--local", "--samples", "5", "--json")[1:]]
        build.build(manifest.load_all(), ["wasm", build.own_architecture()])
        shutil.copytree(paths.cache() / "workloads" / "builds", home / ".cache" / "skerry" / "workloads" / "builds")
        for place in (home, *home.rglob("*")):
            os.chown(place, account.pw_uid, account.pw_gid, follow_symlinks=False)
        variables = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SKERRY_ROOT": str(home), "LANG": "C.UTF-8",
                     "PYTHONPATH": f"{TOOLS}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=variables, cwd=home, user=account.pw_uid, group=account.pw_gid,
                              extra_groups=[], capture_output=True, text=True, check=False, timeout=220)
        assert done.returncode == 0, done.stderr[-2000:]
        said = json.loads(done.stdout)
        assert {one["rung"] for one in said["ladder"] if one["run_seconds"]} >= {"native", "embedded"}
        reasons = {entry["rung"]: entry["reason"] for entry in said["missing"]}
        assert "Docker" in reasons["container"]
        assert said["hosts"][0]["labels"] == ["no cgroup accounting"]
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.timeout(120)
def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    process = subprocess.Popen(skerry(tmp_path, "demo", "--local", "--samples", "400"), env=environment(tmp_path),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial: list[Path] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        partial = list((tmp_path / ".skerry" / "results").glob(".*.partial/samples.jsonl"))
        if partial and partial[0].read_text().count('"kind":"time"') >= 10:
            break
        time.sleep(0.1)
    assert partial, "no samples within 90 s"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    places = list((tmp_path / ".skerry" / "results").iterdir())
    assert len(places) == 1 and not places[0].name.startswith(".")
    run, rows = results.load(places[0])
    assert run.interrupted and not run.complete
    assert len([row for row in rows if row.kind == "time"]) >= 10
    assert "was interrupted" in (places[0] / "report.html").read_text()


@pytest.mark.timeout(120)
def test_a_wrong_output_is_a_recorded_failure(tmp_path: Path) -> None:
    shutil.copytree(paths.root() / "workloads", tmp_path / "workloads")
    manifest = tmp_path / "workloads" / "hello" / "workload.yaml"
    manifest.write_text(manifest.read_text().replace('stdout: "hello\\n"', 'stdout: "hallo\\n"'))
    done = subprocess.run(skerry(tmp_path, "demo", "--local", "--samples", "3", "--json"), env=environment(tmp_path),
                          capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 1
    run, rows = results.load(Path(json.loads(done.stdout)["directory"]))
    wrong = [row for row in rows if row.workload == "hello"]
    assert wrong and all((row.failure or "").startswith("wrong output: 6 bytes") for row in wrong)
    assert all(row.failure is None for row in rows if row.workload != "hello")
    assert run.failures == len(wrong)
