"""What the controller keeps of submissions: enough to bring them about again, and no secret."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
import yaml

from skerry import paths
from skerry.deploy import load, timer, wanted
from skerry.deploy.desired import desired
from skerry.deploy.load import Submitted
from skerry.deploy.placement import Assignment
from skerry.deploy.reconcile import declare
from skerry.errors import SkerryError
from skerry.targets.api import Target

PLACE = Assignment("h", "process", {"name": "wasmtime", "version": "48", "command": "/usr/bin/wasmtime"}, "")
INVENTORY = ["lab.yml"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own."""
    place = tmp_path / "state"
    monkeypatch.setattr(paths, "state", lambda: place)
    return place


def submitted(folder: Path, **more: Any) -> Submitted:
    (folder / "m.wasm").write_bytes(wasm_modules.exiting(more.pop("code", 0)))
    (folder / "config").write_text("x")
    (folder / "token").write_text("hush\n")
    document = {"name": "a", "kind": "service", "module": "m.wasm", "secrets": {"T": {"file": "token"}},
                "files": [{"source": "config", "guest": "/c"}], **more}
    (folder / "w.yml").write_text(yaml.safe_dump(document))
    [one] = load.read(folder / "w.yml", {})
    return one


def keep(one: Submitted) -> None:
    with wanted.changing(INVENTORY) as known:
        known.take(one)


def kept() -> Submitted:
    return wanted.restore("w", wanted.read(INVENTORY).submitted["w"]["a"][0])


def test_what_is_kept_makes_the_same_revision_without_the_file(tmp_path: Path, state: Path) -> None:
    one = submitted(tmp_path)
    expected = desired(one, PLACE)
    keep(one)
    (tmp_path / "m.wasm").unlink()
    (tmp_path / "config").unlink()
    again = kept()
    assert desired(again, PLACE) == expected
    assert again.missing == []
    assert {key: load.digest(path) for key, path in again.blobs.items()} == {key: key for key in one.blobs}
    files = [path for path in state.rglob("*") if path.is_file() and path.suffix not in (".lock", ".work")]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert not any(b"hush" in path.read_bytes() for path in files)


def test_a_secret_that_is_another_now_is_not_taken(tmp_path: Path) -> None:
    keep(submitted(tmp_path))
    revision = desired(kept(), PLACE)["revision"]
    (tmp_path / "token").write_text("other")
    assert (kept().missing, kept().secrets) == (["T"], {})
    assert desired(kept(), PLACE)["revision"] == revision, "a host that has it is left alone"
    (tmp_path / "token").unlink()
    assert kept().missing == ["T"]


def test_files_go_when_the_last_submission_that_needs_them_went(tmp_path: Path, state: Path) -> None:
    keep(submitted(tmp_path))
    files = state / "deployments" / "files"
    first = {path.name for path in files.iterdir()}
    for code in range(1, wanted.KEPT):
        keep(submitted(tmp_path, code=code))
    assert first <= {path.name for path in files.iterdir()}
    keep(submitted(tmp_path, code=40))
    assert len(first - {path.name for path in files.iterdir()}) == 1, "its module; the config file is still needed"
    with wanted.changing(INVENTORY) as known:
        known.drop("w", "a", ["h2"])
    assert not list(files.iterdir())
    assert wanted.read(INVENTORY).leaving == {"w": {"a": ["h2"]}}


def test_a_rolled_back_workload_is_known_by_what_hosts_say(tmp_path: Path) -> None:
    old = desired(submitted(tmp_path, env={"V": "1"}), PLACE)
    keep(submitted(tmp_path, env={"V": "1"}))
    keep(submitted(tmp_path, env={"V": "2"}))
    documents = wanted.read(INVENTORY).submitted["w"]["a"]
    found = wanted.in_force("w", documents, [old])
    assert found is not None
    assert found.workload.env == {"V": "1"}
    assert wanted.in_force("w", documents, [{**old, "revision": "0" * 64}]) is None


def test_dead_hosts_are_remembered_until_they_are_alive() -> None:
    targets = [Target("h1"), Target("h2")]
    declare(targets, INVENTORY, ["h1"], [])
    since = wanted.read(INVENTORY).dead
    declare(targets, INVENTORY, ["h1"], [])
    assert wanted.read(INVENTORY).dead == since
    declare([Target("h2")], INVENTORY, [], ["h1"])  # it may have left the inventory
    assert wanted.read(INVENTORY).dead == {}
    for dead, alive, code in ((["h9"], [], "DEPLOY_101"), ([], ["h9"], "DEPLOY_101"), (["h1"], ["h1"], "DEPLOY_102")):
        with pytest.raises(SkerryError, match=code):
            declare(targets, INVENTORY, dead, alive)


def test_a_file_of_a_later_skerry_is_not_touched(state: Path) -> None:
    keep_here = wanted.path(INVENTORY)
    keep_here.parent.mkdir(parents=True)
    keep_here.write_text(json.dumps({"format": 2, "everything": "else"}))
    with pytest.raises(SkerryError, match="DEPLOY_100"):
        wanted.read(INVENTORY)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_reads_the_units_of_the_timer(tmp_path: Path) -> None:
    (tmp_path / "a b$%").mkdir()
    texts = timer.units([str(tmp_path / "a b$%"), "lab.yml"], "90s", "root")
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", *(str(tmp_path / name) for name in texts)],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    [service] = [text for name, text in texts.items() if name.endswith(".service")]
    assert f'"-i" "{tmp_path}/a b$$%%" "-i"' in service


def test_no_timer_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timer, "RUNNING", tmp_path / "nothing")
    with pytest.raises(SkerryError, match="DEPLOY_105"):
        timer.install(INVENTORY, "5min")
    with pytest.raises(SkerryError, match="DEPLOY_105"):
        timer.remove(INVENTORY)
