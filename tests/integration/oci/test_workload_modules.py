"""Modules and images that a workload file names by an OCI reference, against Debian's docker-registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
from debian_registry import PASSWORD, USER, Running, running

from skerry.deploy import images, load
from skerry.deploy.desired import desired
from skerry.deploy.placement import Assignment
from skerry.errors import SkerryError
from skerry.oci.build import Recipe, build
from skerry.oci.kinds import refer
from skerry.oci.layout import Layout
from skerry.oci.login import Access
from skerry.oci.transfer import push


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it, and no login but the one that a test sets."""
    for name in ("SKERRY_REGISTRY_USER", "SKERRY_REGISTRY_PASSWORD", "SKERRY_REGISTRY_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SKERRY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def trusted(cache: Path, registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_REGISTRY_CA", str(registry.authority))
    monkeypatch.setenv("SKERRY_REGISTRY_USER", USER)
    monkeypatch.setenv("SKERRY_REGISTRY_PASSWORD", PASSWORD)


def pushed(folder: Path, registry: Running, form: Any, code: int) -> str:
    """A module that ends with ``code`` at the registry, as ``site/ends:1``; the digest of its image or artifact."""
    path = folder / "ends.wasm"
    path.write_bytes(wasm_modules.exiting(code))
    layout, reference = Layout(folder / "elsewhere"), refer(f"{registry.host}/site/{form}:1")
    made = build(layout, path, reference, Recipe(form))
    push(layout, reference, reference, Access((USER, PASSWORD), registry.authority))
    return made.digest


def submitted(folder: Path, **keys: Any) -> load.Submitted:
    (folder / "w.yml").write_text(json.dumps({"name": "a", "kind": "job", **keys}))
    [one] = load.read(folder / "w.yml", {})
    return one


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("form", ["image", "artifact"])
def test_a_module_comes_from_a_registry_once(tmp_path: Path, registry: Running, form: str) -> None:
    digest = pushed(tmp_path, registry, form, 7)
    name = f"{registry.host}/site/{form}"
    one = submitted(tmp_path, module=f"oci://{name}:1")
    assert one.module.path is not None
    assert one.module.path.read_bytes() == wasm_modules.exiting(7)
    assert (one.module.name, one.module.form) == ("ends", "core")
    assert submitted(tmp_path, module=f"oci://{name}@{digest}").module.digest == one.module.digest
    assert submitted(tmp_path, module=digest).module.digest == one.module.digest, "by the digest of what was pulled"
    pushed(tmp_path, registry, form, 8)
    assert submitted(tmp_path, module=f"oci://{name}:1").module.digest != one.module.digest, "a tag is looked up anew"


@pytest.mark.usefixtures("cache")
def test_what_is_here_by_its_digest_needs_no_registry(tmp_path: Path, registry: Running) -> None:
    with pytest.MonkeyPatch.context() as known:
        known.setenv("SKERRY_REGISTRY_CA", str(registry.authority))
        known.setenv("SKERRY_REGISTRY_USER", USER)
        known.setenv("SKERRY_REGISTRY_PASSWORD", PASSWORD)
        digest = pushed(tmp_path, registry, "image", 3)
        first = submitted(tmp_path, module=f"oci://{registry.host}/site/image@{digest}")
    asked = f"oci://{registry.host}/site/image"
    assert submitted(tmp_path, module=f"{asked}@{digest}").module == first.module
    with pytest.raises(SkerryError) as refused:  # asked without TLS now, as nobody vouches for it
        submitted(tmp_path, module=f"{asked}:1")
    assert refused.value.code == "IMAGE_028"


@pytest.mark.usefixtures("trusted")
def test_a_registry_that_is_away_leaves_what_it_said_before(tmp_path: Path, tmp_path_factory: Any,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("other")
    with running(folder) as registry:
        monkeypatch.setenv("SKERRY_REGISTRY_CA", str(registry.authority))
        digest = pushed(tmp_path, registry, "image", 5)
        name = f"{registry.host}/site/image:1"
        first = submitted(tmp_path, module=f"oci://{name}")
        assert images.resolve(name).digest == digest
    assert submitted(tmp_path, module=f"oci://{name}").module == first.module
    assert images.resolve(name).digest == digest
    assert images.resolve(name.replace("image:1", "other:1")).digest == "", "hosts are left to find it"
    with pytest.raises(SkerryError) as away:
        submitted(tmp_path, module=f"oci://{name.replace('image:1', 'other:1')}")
    assert away.value.code == "IMAGE_026"


@pytest.mark.usefixtures("trusted")
def test_an_image_is_deployed_by_its_digest(tmp_path: Path, registry: Running) -> None:
    digest = pushed(tmp_path, registry, "image", 4)
    name = f"{registry.host}/site/image"
    one = submitted(tmp_path, kind="container", image=f"{name}:1")
    assert (one.module.form, one.module.name) == ("image", f"{name}:1@{digest}")
    assert one.blobs == {}, "Docker gets it, not the store"
    found = desired(one, Assignment("h", "container", {"name": "docker", "version": "26", "command": ""}, ""))
    assert (found["kind"], found["module"]["digest"], found["restart"]) == ("service", digest[7:], "always")
    with pytest.raises(SkerryError) as absent:
        submitted(tmp_path, kind="container", image=f"{name}:2")
    assert absent.value.code == "DEPLOY_070"
