"""What Docker is asked for, and what a unit starts on the rung container: without a host."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
from pydantic import ValidationError

from skerry.deploy import load
from skerry.deploy.desired import desired
from skerry.deploy.model import Workload
from skerry.deploy.placement import Assignment
from skerry_host import containers, images, places, units

CRUN = {"name": "wasmedge", "version": "0.14.1", "command": "crun", "exit_codes": False,
        "annotations": {"module.wasm.image/variant": "compat"}}
DOCKER = {"name": "docker", "version": "26.1.5", "command": ""}
IMAGE = "192.0.2.7/site/broker@sha256:" + "a" * 64


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STATE", "STORE", "WORKLOADS", "UNITS"):
        monkeypatch.setattr(places, name, tmp_path / str(getattr(places, name)).lstrip("/"))
    (tmp_path / "m.wasm").write_bytes(wasm_modules.exiting(0))
    (tmp_path / "config").write_text("x")
    monkeypatch.setenv("GIVEN", "hush")
    return tmp_path


def wanted(folder: Path, **more: Any) -> dict[str, Any]:
    kind = "container" if "image" in more else "service"
    document = {"name": "a", "kind": kind, **({} if "image" in more else {"module": "m.wasm"}), **more}
    (folder / "w.yml").write_text(json.dumps(document))
    [one] = load.read(folder / "w.yml", {})
    return desired(one, Assignment("h", "container", DOCKER if "image" in more else CRUN, ""))


def test_a_module_gets_nothing_but_what_it_was_given(folder: Path) -> None:
    found = containers.body(wanted(folder, args=["x"], files=[{"source": "config", "guest": "/etc/c"}],
                                   directories=[{"host": "/srv/a", "guest": "/data", "read_only": False}]))
    own = found["HostConfig"]
    assert (found["Entrypoint"], found["Cmd"], found["Env"]) == (["m"], ["x"], ["PATH=/"])
    assert (own["NetworkMode"], own["ReadonlyRootfs"], own["CapDrop"]) == ("none", True, ["ALL"])
    assert own["SecurityOpt"] == ["no-new-privileges:true"]
    assert own["RestartPolicy"] == {"Name": "no"}, "that is systemd's"
    assert {one["Target"]: one["ReadOnly"] for one in own["Mounts"]} == {"/data": False, "/etc/c": True, "/m": True}
    assert (own["Memory"], own["MemorySwap"], own["PidsLimit"]) == (128 << 20, 128 << 20, 64)
    uid, gid = found["User"].split(":")
    assert 1879048192 <= int(uid) == int(gid) < 1 << 31


def test_networks_are_as_small_as_they_can_be(folder: Path) -> None:
    def network(**more: Any) -> str:
        return str(containers.body(wanted(folder, **more))["HostConfig"]["NetworkMode"])

    assert network() == "none"
    assert network(ports=[{"port": 80}]) == containers.INSIDE
    assert network(network=True, ports=[{"port": 80}]) == "bridge"
    found = containers.body(wanted(folder, ports=[{"port": 80}, {"port": 81}]))
    assert {"PORT_80=80", "PORT_81=81"} <= set(found["Env"])


def test_secrets_are_in_no_unit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = wanted(folder, secrets={"A": {"env": "GIVEN"}, "B": {"env": "GIVEN", "mount": "/run/secrets/b"}})
    text = "".join(units.files(found).values()) + json.dumps(found)
    assert "hush" not in text
    assert f"EnvironmentFile={units.secrets(found)}/environment" in text
    monkeypatch.setenv("A", "hush")  # as systemd hands it to what the unit starts
    asked = containers.body(found)
    assert "A=hush" in asked["Env"]
    assert str(units.secrets(found) / "B") in [one["Source"] for one in asked["HostConfig"]["Mounts"]]


def test_an_image_keeps_its_own_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "id_of", lambda reference: f"id of {reference}")
    found = containers.body(wanted(folder, image=IMAGE, user="1000", scratch=["/run/x"], limits={"memory": None}))
    assert (found["Image"], found["User"]) == (f"id of {IMAGE}", "1000:1000")
    assert not {"Entrypoint", "Cmd", "WorkingDir"} & set(found)
    assert set(found["HostConfig"]["Tmpfs"]) == {"/tmp", "/run/x"}
    assert "Memory" not in found["HostConfig"]
    assert "Runtime" not in found["HostConfig"]
    assert containers.inner({"port": 80, "target": 8080}) == 8080


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_takes_the_units_of_containers(folder: Path) -> None:
    every: list[dict[str, Any]] = [{}, {"kind": "job", "limits": {"time": 5}}, {"image": IMAGE},
                                   {"kind": "schedule", "schedule": {"cron": "5 4 * * *"}}]
    for more in every:
        for name, text in units.files(wanted(folder, **more)).items():
            (folder / name).write_text(text.replace(places.COMMAND, "/bin/true"))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(folder / name)],
                                  capture_output=True, text=True, check=False)
            assert name not in done.stderr, done.stderr


@pytest.mark.parametrize("keys", [
    {"kind": "container", "module": "m.wasm"}, {"kind": "container"}, {"kind": "service", "image": "r.example/a:1"},
    {"kind": "service"}, {"kind": "job", "module": "m.wasm", "image": "r.example/a:1"},
    {"kind": "container", "image": "r.example/a:1", "rung": "process"},
    {"kind": "service", "module": "m.wasm", "user": "1000"}, {"kind": "container", "image": "a", "user": "root"},
    {"kind": "service", "module": "m.wasm", "ports": [{"port": 80, "target": 81}]},
])
def test_what_does_not_go_together_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Workload.model_validate({"name": "a", **keys})


@pytest.mark.parametrize(("reference", "repository"), [
    ("r.example:5000/a/b:1", "r.example:5000/a/b"), ("r.example:5000/a/b", "r.example:5000/a/b"),
    ("docker.io/library/a:1@sha256:00", "docker.io/library/a"), ("a@sha256:00", "a"),
])
def test_names_of_images_are_told_by_their_repository(reference: str, repository: str) -> None:
    assert images._repository(reference) == repository
