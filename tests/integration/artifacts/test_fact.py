"""skerry.edge.fact, run by Ansible itself."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Task


def test_sections_are_written_replaced_and_removed(tmp_path: Path, task: Task) -> None:
    path = tmp_path / "facts.d" / "skerry.fact"
    docker = {"section": "docker", "data": {"version": "26.1.5"}, "path": str(path)}
    assert task("fact", docker, check=True)["changed"] is True
    assert not path.exists()
    assert task("fact", docker)["changed"] is True
    assert path.stat().st_mode & 0o777 == 0o644
    assert task("fact", docker)["changed"] is False
    task("fact", {"section": "k3s", "data": {"role": "agent"}, "path": str(path)})
    changed = task("fact", {"section": "docker", "data": {"version": "29"}, "path": str(path)})
    assert '-    "version": "26.1.5"' not in json.dumps(changed["diff"])  # the diff has texts, not patches
    assert "26.1.5" in changed["diff"]["before"]
    assert json.loads(path.read_text()) == {"docker": {"version": "29"}, "k3s": {"role": "agent"}}
    assert task("fact", {"state": "read", "path": str(path)})["facts"]["k3s"] == {"role": "agent"}
    task("fact", {"section": "docker", "state": "absent", "path": str(path)})
    assert json.loads(path.read_text()) == {"k3s": {"role": "agent"}}


def test_a_damaged_file_is_written_anew(tmp_path: Path, task: Task) -> None:
    path = tmp_path / "skerry.fact"
    path.write_text('{"docker": ')
    result = task("fact", {"section": "docker", "data": {"version": "1"}, "path": str(path)})
    assert result["changed"] is True
    assert any("FACT_001" in warning for warning in result["warnings"])
    assert json.loads(path.read_text()) == {"docker": {"version": "1"}}


def test_a_place_that_cannot_be_written(tmp_path: Path, task: Task) -> None:
    (tmp_path / "file").write_text("in the way")
    result = task("fact", {"section": "docker", "data": {}, "path": str(tmp_path / "file" / "skerry.fact")})
    assert result["code"] == "FACT_002"
    assert "remedy" in result["msg"]
