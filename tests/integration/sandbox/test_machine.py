"""What the sandbox does to this machine itself, and for whom it refuses to."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry import paths
from skerry.sandbox import settings

ROOT_ONLY = pytest.mark.skipif(
    os.geteuid() != 0, reason="changes a kernel setting, or becomes another user: needs root"
)
#: A setting that nothing here depends on: how often the kernel looks for old dirty pages.
HARMLESS = Path("/proc/sys/vm/dirty_writeback_centisecs")


@ROOT_ONLY
def test_a_changed_kernel_setting_is_put_back_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "NOTE", tmp_path / "settings.json")
    before = HARMLESS.read_text(encoding="ascii")
    settings.prepare(Path("/proc"))
    try:
        HARMLESS.write_text(str(int(before) + 100), encoding="ascii")
        settings.prepare(Path("/proc"))  # a second sandbox: the first note stays
        restored = settings.restore()
        assert HARMLESS.read_text(encoding="ascii") == before
    finally:
        HARMLESS.write_text(before, encoding="ascii")
    assert f"vm/dirty_writeback_centisecs: {int(before) + 100} -> {before.strip()}" in restored
    assert settings.restore() == []


@ROOT_ONLY
def test_a_disk_that_reads_far_ahead_is_limited_until_the_last_host_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "read_ahead_kb"
    disk.write_text("8192\n")
    monkeypatch.setattr(settings, "NOTE", tmp_path / "settings.json")
    monkeypatch.setattr(settings, "read_ahead", lambda folder: disk)
    assert settings.prepare(tmp_path) == [f"{disk}: 8192 -> 128"]
    assert disk.read_text() == "128\n"
    assert settings.prepare(tmp_path) == [], "the second sandbox finds it done, and the note is the first one's"
    assert f"{disk}: 128 -> 8192" in settings.restore()
    assert disk.read_text() == "8192\n"
    disk.write_text("64\n")
    assert settings.prepare(tmp_path) == [], "never raised"


def test_the_read_ahead_of_a_folder_is_that_of_its_disk() -> None:
    found = settings.read_ahead(paths.root())
    if found is None:
        pytest.skip("this checkout lies on no single disk")
    assert found.parent.name == "queue"
    assert int(found.read_text()) >= 0
    assert settings.read_ahead(Path("/proc")) is None, "no disk is under it"
    assert settings.read_ahead(Path("/nowhere/at/all")) is None


def as_nobody(code: str, socket_path: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a user without rights, with Docker's socket at ``socket_path``."""
    package = socket_path.parent / "skerry"
    if not package.exists():  # the checkout may lie where nobody may read
        shutil.copytree(paths.root() / "tools" / "skerry", package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {
        "PATH": os.environ["PATH"],
        "DOCKER_HOST": f"unix://{socket_path}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(socket_path.parent),
    }
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    return subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        user="nobody",
        group="nogroup",
        extra_groups=[],
        env=environment,
        cwd="/",
    )


ENSURE = """
from skerry.errors import SkerryError
from skerry.sandbox import engine
try:
    engine.ensure()
except SkerryError as error:
    print(error.code, int(error.exit_code), error.remedy)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path("/tmp") / f"skerry-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


@ROOT_ONLY
def test_without_an_engine_and_without_root_the_remedy_is_one_command(place: Path) -> None:
    done = as_nobody(ENSURE, place / "docker.sock")
    assert done.returncode == 0, done.stderr
    code, exit_code, *remedy = done.stdout.split()
    assert (code, exit_code) == ("SANDBOX_002", "3")
    assert "apt-get install docker.io" in " ".join(remedy)
    assert "demo --local" in " ".join(remedy)


@ROOT_ONLY
def test_an_engine_that_one_may_not_use_is_said_to_be_that(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "docker.sock"))
        (place / "docker.sock").chmod(0o600)
        server.listen(1)
        done = as_nobody(ENSURE, place / "docker.sock")
    assert done.stdout.split()[:2] == ["SANDBOX_003", "3"], done.stderr
    assert "adduser" in done.stdout
