"""The record of what ran where: only tests that pass write, and unknown names are refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from skerry import paths
from skerry.testing.support import Record, family_of

CASE = """
def test_passes(support):
    support("docker", "EL 9", "amd64", "rendered", "packages")

def test_fails(support):
    support("docker", "EL 10", "amd64", "rendered")
    assert False
"""


def test_only_a_passing_test_leaves_a_record(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from support_record import pytest_runtest_makereport, support\n")
    (tmp_path / "test_case.py").write_text(CASE)
    root = paths.root()
    environment = {"PYTHONPATH": f"{root}/tools:{root}/tests", "SKERRY_SUPPORT_DIR": str(tmp_path / "out")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    (written,) = (tmp_path / "out").glob("*.jsonl")
    (line,) = written.read_text().splitlines()
    assert json.loads(line) == {
        "component": "docker", "family": "EL 9", "arch": "amd64", "outcome": "rendered",
        "evidence": "test_case.py::test_passes", "detail": "packages",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("distribution", "release", "family"),
    [("debian", "12", "Debian 12"), ("Rocky", "9.4", "EL 9"), ("ubuntu", "24.04", "Ubuntu 24.04"),
     ("opensuse-leap", "15.6", "openSUSE Leap 15.6"), ("raspbian", "12", "Raspberry Pi OS 12")],
)  # fmt: skip
def test_families_come_from_os_release(distribution: str, release: str, family: str) -> None:
    assert family_of(distribution, release) == family


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="docker engine"):
        Record("docker engine", "EL 9", "amd64", "rendered", "x")
    with pytest.raises(ValueError, match="no family for fedora 44"):
        family_of("fedora", "44")
