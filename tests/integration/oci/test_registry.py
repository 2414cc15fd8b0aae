"""`skerry image` against Debian's docker-registry, with TLS by an authority of the site's own, and a login."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
from debian_registry import PASSWORD, USER, Running, running
from oci_client import Registry as Client

from skerry import paths

COMPONENT = """(component (import "wasi:io/poll@0.2.0" (instance)) (component $c)
  (export "own:lib/it@1.0.0" (component $c)))"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "exits.wasm"
    path.write_bytes(wasm_modules.exiting(7))
    return path


class Skerry:
    """The real command, with nothing of this machine's own logins."""

    def __init__(self, home: Path, registry: Running) -> None:
        self.home, self.registry = home, registry
        home.mkdir()
        self.env = {"SKERRY_CACHE": str(home / "cache"), "HOME": str(home), "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(paths.root() / "tools"), "SKERRY_REGISTRY_CA": str(registry.authority)}

    def __call__(self, *words: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        command = [sys.executable, "-m", "skerry", "image", *words]
        done = subprocess.run(command, env={**self.env, **(env or {})}, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def data(self, *words: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self(*words, "--json", env=env))
        return told

    @property
    def login(self) -> dict[str, str]:
        return {"SKERRY_REGISTRY_USER": USER, "SKERRY_REGISTRY_PASSWORD": PASSWORD}


@pytest.fixture
def skerry(tmp_path: Path, registry: Running) -> Skerry:
    return Skerry(tmp_path / "home", registry)


def test_an_image_travels_once_and_comes_back_the_same(
    skerry: Skerry, registry: Running, module: Path, tmp_path: Path
) -> None:
    ref = f"{registry.host}/team/exits:1"
    built = skerry.data("build", str(module), "-t", ref, "--arg", "now")
    first = skerry.data("push", ref, env=skerry.login)
    assert (first["digest"], first["changed"], first["moved"]) == (built["digest"], True, first["size"])
    again = skerry.data("push", ref, env=skerry.login)
    assert (again["moved"], again["changed"]) == (0, False)
    other = Skerry(tmp_path / "other", registry)
    got = other.data("pull", f"oci://{ref}", "--module", str(tmp_path / "got.wasm"), env=skerry.login)
    assert got["digest"] == built["digest"]
    assert (tmp_path / "got.wasm").read_bytes() == module.read_bytes()
    told = skerry.data("inspect", ref, env=skerry.login)
    assert told["form"] == "image"
    assert [one["platform"] for one in told["platforms"]] == ["linux/amd64", "linux/arm/v7", "linux/arm64"]
    assert (told["entrypoint"], told["args"]) == (["/exits.wasm"], ["now"])
    assert told == other.data("inspect", ref, "--local")


def test_another_tag_of_the_same_image_sends_no_layer(skerry: Skerry, registry: Running, module: Path) -> None:
    ref = f"{registry.host}/team/tags:1"
    skerry("build", str(module), "-t", ref)
    skerry("push", ref, env=skerry.login)
    moved = skerry.data("push", ref, "--to", f"{registry.host}/team/tags:2", env=skerry.login)
    assert (moved["moved"], moved["changed"]) == (0, True)


def test_an_artifact_is_what_other_clients_expect(skerry: Skerry, registry: Running, module: Path) -> None:
    ref = f"{registry.host}/team/artifact:1"
    digest = skerry.data("build", str(module), "-t", ref, "--form", "artifact")["digest"]
    skerry("push", ref, env=skerry.login)
    client = Client(registry.host, registry.authority.read_text(), (USER, PASSWORD))
    manifest, layers = client.pull("team/artifact", digest)
    assert layers == [module.read_bytes()]
    assert manifest["config"]["mediaType"] == "application/vnd.wasm.config.v0+json"
    assert manifest["layers"][0]["mediaType"] == "application/wasm"
    config = json.loads(client.ask("GET", f"/v2/team/artifact/blobs/{manifest['config']['digest']}").body)
    assert (config["architecture"], config["os"]) == ("wasm", "wasip1")
    assert config["layerDigests"] == [manifest["layers"][0]["digest"]]


def test_what_others_pushed_can_be_pulled(skerry: Skerry, registry: Running, module: Path, tmp_path: Path) -> None:
    client = Client(registry.host, registry.authority.read_text(), (USER, PASSWORD))
    digest = client.push_wasm("foreign/wasm", "1", module.read_bytes())
    got = skerry.data("pull", f"{registry.host}/foreign/wasm@{digest}", "--module", str(tmp_path), env=skerry.login)
    assert got["digest"] == digest
    assert (tmp_path / "module.wasm").read_bytes() == module.read_bytes()


def test_a_component_tells_its_world(skerry: Skerry, registry: Running, tmp_path: Path) -> None:
    path = tmp_path / "lib.wasm"
    path.write_bytes(wasm_modules.wat(COMPONENT))
    ref = f"{registry.host}/team/lib:1"
    assert "IMAGE_012" in skerry("build", str(path), "-t", ref, code=2)
    skerry("build", str(path), "-t", ref, "--form", "artifact")
    skerry("push", ref, env=skerry.login)
    told = skerry.data("inspect", ref, env=skerry.login)
    assert (told["os"], told["imports"], told["exports"]) == ("wasip2", ["wasi:io/poll@0.2.0"], ["own:lib/it@1.0.0"])


def test_logins_come_from_a_file_and_from_docker(skerry: Skerry, registry: Running, module: Path) -> None:
    ref = f"{registry.host}/team/login:1"
    skerry("build", str(module), "-t", ref)
    assert "IMAGE_024" in skerry("push", ref, code=1)
    wrong = {**skerry.login, "SKERRY_REGISTRY_PASSWORD": "guessed"}
    assert "IMAGE_024" in skerry("push", ref, code=1, env=wrong)
    skerry("push", ref, "--user", USER, "--password-file", str(registry.password))
    (skerry.home / ".docker").mkdir()
    auths = {"auths": {registry.host: {"auth": "c2l0ZTpub3QtNC1ldmVyeW9uZQ=="}}}
    (skerry.home / ".docker" / "config.json").write_text(json.dumps(auths))
    assert skerry.data("inspect", ref)["form"] == "image"
    helper = skerry.home / "docker-credential-own"
    helper.write_text(f'#!/bin/sh\nread host\n[ "$host" = {registry.host} ] || exit 1\n'
                      f'echo \'{{"Username": "{USER}", "Secret": "{PASSWORD}"}}\'\n')
    helper.chmod(0o755)
    (skerry.home / ".docker" / "config.json").write_text(json.dumps({"credsStore": "own"}))
    assert skerry.data("inspect", ref, env={"PATH": f"{skerry.home}:{os.environ['PATH']}"})["form"] == "image"


def test_a_stranger_is_not_trusted_and_absence_is_said(skerry: Skerry, registry: Running) -> None:
    ref = f"{registry.host.replace('127.0.0.1', 'localhost')}/team/none:1"
    assert "IMAGE_027" in skerry("inspect", ref, code=1, env=skerry.login)
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    if not Path(bundle).exists():
        pytest.skip("no authorities on this machine to be wrong with")
    said = skerry("inspect", ref, "--ca", bundle, code=4, env=skerry.login)
    assert "IMAGE_025" in said
    assert "certificate verify failed" in said
    assert "IMAGE_026" in skerry("inspect", "127.0.0.1:9/team/none:1", code=4, env=skerry.login)


def test_a_damaged_layer_is_not_kept(skerry: Skerry, registry: Running, module: Path, tmp_path: Path) -> None:
    ref = f"{registry.host}/team/damaged:1"
    module.write_bytes(wasm_modules.exiting(99))
    skerry("build", str(module), "-t", ref, "--form", "artifact")
    skerry("push", ref, env=skerry.login)
    (layer,) = [one["digest"] for one in skerry.data("inspect", ref, env=skerry.login)["layers"]]
    hexes = layer.removeprefix("sha256:")
    stored = registry.folder / f"data/docker/registry/v2/blobs/sha256/{hexes[:2]}/{hexes}/data"
    stored.write_bytes(stored.read_bytes()[:-1] + b"\xff")
    other = Skerry(tmp_path / "other", registry)
    assert "IMAGE_029" in other("pull", ref, code=1, env=skerry.login)
    assert other("list") == ""
    assert not list((tmp_path / "other").rglob(hexes))
