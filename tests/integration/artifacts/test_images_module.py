"""The module images with this machine's Docker: loads what is not there, leaves what is, takes old archives away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.images.archive import write_image

from .conftest import Task

NAME = "skerry.invalid/images-module"


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def archives(tmp_path: Path) -> Iterator[list[dict[str, str]]]:
    """Archives of two images that no registry has."""
    if docker("info").returncode != 0:
        pytest.skip("no Docker on this machine")
    made = []
    for tag in ("1", "2"):
        path = tmp_path / f"{tag}.tar"
        write_image(path, f"{NAME}:{tag}", {"/x": tag.encode()}, ["/x"])
        made.append({"dest": str(path), "reference": f"{NAME}:{tag}"})
    yield made
    docker("image", "rm", f"{NAME}:1", f"{NAME}:2")


def test_docker_gets_what_it_lacks_and_nothing_else(
    archives: list[dict[str, str]], task: Task, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"

    def ensure(wanted: list[dict[str, str]], check: bool = False) -> dict[str, Any]:
        result = task("images", {"docker": wanted, "record": str(record)}, check=check)
        assert not result.get("failed"), result
        return result

    assert ensure(archives, check=True)["loaded"] == [f"{NAME}:1", f"{NAME}:2"]
    assert docker("image", "inspect", f"{NAME}:1").returncode != 0
    assert ensure(archives)["changed"] is True
    assert docker("image", "inspect", f"{NAME}:1", f"{NAME}:2").returncode == 0
    assert ensure(archives)["changed"] is False
    assert ensure(archives, check=True)["changed"] is False

    docker("image", "rm", f"{NAME}:1")
    assert ensure(archives)["loaded"] == [f"{NAME}:1"]

    second = Path(archives[1]["dest"])
    assert ensure(archives[:1])["removed"] == [str(second)]
    assert not second.exists()
    assert set(json.loads(record.read_text())["docker"]) == {archives[0]["dest"]}


def test_another_content_under_the_same_name_is_loaded(
    archives: list[dict[str, str]], task: Task, tmp_path: Path
) -> None:
    arguments = {"docker": archives[:1], "record": str(tmp_path / "record.json")}
    task("images", arguments)
    before = docker("image", "inspect", "--format", "{{.Id}}", f"{NAME}:1").stdout
    write_image(Path(archives[0]["dest"]), f"{NAME}:1", {"/x": b"newer"}, ["/x"])
    assert task("images", arguments)["loaded"] == [f"{NAME}:1"]
    assert docker("image", "inspect", "--format", "{{.Id}}", f"{NAME}:1").stdout != before


def test_a_broken_archive_is_told(archives: list[dict[str, str]], task: Task, tmp_path: Path) -> None:
    Path(archives[0]["dest"]).write_bytes(b"no archive at all")
    result = task("images", {"docker": archives[:1], "record": str(tmp_path / "record.json")})
    assert result["failed"] is True
    assert result["code"] == "IMAGES_003"
    assert archives[0]["dest"] in result["cause"]
