"""Workload files: what is read, what is refused, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import wasm_modules
import yaml

from skerry.deploy import load
from skerry.deploy.model import Workload, schema
from skerry.errors import SkerryError
from skerry.testing.http_component import component

JOB = {"name": "a", "kind": "job", "module": "m.wasm"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module and a config file."""
    (tmp_path / "m.wasm").write_bytes(wasm_modules.exiting(0))
    (tmp_path / "config").write_text("a: 1\n")
    (tmp_path / "secret").write_text("hush\n")
    return tmp_path


def written(folder: Path, *documents: object) -> Path:
    path = folder / "site.yml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def refused(path: Path, code: str, **variables: str) -> SkerryError:
    with pytest.raises(SkerryError) as caught:
        load.read(path, variables)
    assert caught.value.code == code, caught.value.cause
    return caught.value


def test_everything_has_its_digest(folder: Path) -> None:
    files = [{"source": "config", "guest": "/etc/app/config"}]
    secrets = {"TOKEN": {"file": "secret"}}
    [one] = load.read(written(folder, {**JOB, "files": files, "secrets": secrets, "stdin": "config"}), {})
    assert one.owner == "site"
    assert one.blobs == {one.module.digest: folder / "m.wasm", one.stdin: folder / "config"}
    assert one.files == {"/etc/app/config": one.stdin}
    assert one.secrets == {"TOKEN": b"hush"}
    assert "hush" not in repr(one)


def test_variables_are_filled_in(folder: Path) -> None:
    document = {**JOB, "args": ["${A}-${B:-two}", "$${A}"], "placement": {"replicas": "${N}"}}
    [one] = load.read(written(folder, document), {"A": "one", "N": "3"})
    assert one.workload.args == ["one-two", "${A}"]
    assert one.workload.placement.replicas == 3
    assert "A, N" in refused(written(folder, document), "DEPLOY_004").cause


def test_numbers_are_text_where_text_is_meant(folder: Path) -> None:
    [one] = load.read(written(folder, {**JOB, "args": [8080, True], "env": {"PORT": 80}}), {})
    assert (one.workload.args, one.workload.env) == (["8080", "true"], {"PORT": "80"})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"modul": "m.wasm"}, "modul"),
        ({"name": "Not A Name"}, "name"),
        ({"kind": "daemon"}, "kind"),
        ({"limits": {"memory": "lots"}}, "limits.memory"),
        ({"limits": {"time": "soon"}}, "limits.time"),
        ({"kind": "service", "limits": {"time": 5}}, "limits.time is for jobs"),
        ({"kind": "schedule", "schedule": {"cron": "@daily", "time_zone": "Mars"}}, "no time zone"),
        ({"kind": "schedule"}, "has a schedule"),
        ({"secrets": {"A": {"file": "x", "env": "y"}}}, "either file or env"),
        ({"env": {"A": "1"}, "secrets": {"A": {"env": "y"}}}, "both in env and in secrets"),
        ({"readiness": {"tcp": 80, "line": "up"}}, "one of tcp, http and line"),
        ({"readiness": {"line": "("}}, "no regular expression"),
        ({"directories": [{"host": "data", "guest": "/data"}]}, "directories.0.host"),
        ({"env": {"1A": "x"}}, "no name of a variable"),
        ({"ports": [{"port": 80}]}, "ports are for services"),
        ({"kind": "service", "ports": [{"port": 0}]}, "ports.0.port"),
        ({"kind": "service", "ports": [{"port": 80, "protocol": "udp"}]}, "ports.0.protocol"),
        ({"kind": "service", "ports": [{"port": 80}, {"port": 80}]}, "named twice"),
        ({"kind": "service", "ports": [{"port": 80}], "env": {"PORT_80": "x"}}, "PORT_80 is set by ports"),
        ({"kind": "service", "ports": [{"port": 80}], "readiness": {"tcp": 81}}, "port 81, which is not in ports"),
        ({"kind": "service", "readiness": {"http": {"port": 80}}}, "port 80, which is not in ports"),
        ({"kind": "service", "ports": [{"port": 80}], "drain": "1h"}, "drain"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, change: dict[str, object], key: str) -> None:
    error = refused(written(folder, {**JOB, **change}), "DEPLOY_003")
    assert key in error.cause
    assert "site.yml, document 1" in error.cause


def test_other_mistakes_have_their_own_codes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    refused(folder / "none.yml", "DEPLOY_001")
    (folder / "bad.yml").write_text("a: [")
    refused(folder / "bad.yml", "DEPLOY_002")
    refused(written(folder, JOB, JOB), "DEPLOY_006")
    refused(written(folder, {**JOB, "secrets": {"A": {"env": "NOT_THERE"}}}), "DEPLOY_007")
    refused(written(folder, {**JOB, "stdin": "nothing"}), "DEPLOY_005")
    refused(written(folder, {**JOB, "module": "none.wasm"}), "RUN_001")
    (folder / "library.wasm").write_bytes(b"\0asm\x0d\0\x01\0")
    refused(written(folder, {**JOB, "module": "library.wasm"}), "DEPLOY_010")
    (folder / "handler.wasm").write_bytes(component("x"))
    refused(written(folder, {**JOB, "module": "handler.wasm"}), "DEPLOY_060")
    web = {**JOB, "kind": "service", "module": "handler.wasm", "ports": [{"port": 80}]}
    refused(written(folder, {**web, "ports": [{"port": 80}, {"port": 81}]}), "DEPLOY_060")
    refused(written(folder, {**web, "args": ["x"]}), "DEPLOY_061")
    [one] = load.read(written(folder, web), {})
    assert one.module.form == "http"


def test_the_schema_takes_what_the_model_takes(folder: Path) -> None:
    described = schema()
    jsonschema.Draft202012Validator.check_schema(described)
    good = {**JOB, "limits": {"memory": "64Mi", "time": "1h30m"}, "args": [1], "env": {"A": True}}
    jsonschema.validate(good, described)
    Workload.model_validate(good)
    for bad in ({**JOB, "modul": "x"}, {"name": "a"}, {**JOB, "limits": {"memory": []}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, described)
    assert json.loads(json.dumps(described)) == described
