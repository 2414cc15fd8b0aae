"""Images and artifacts as they are built: form, digests, names, the layout that holds them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import wasm_modules

from skerry.errors import SkerryError
from skerry.mirror.archive import expect
from skerry.oci import transfer, wasm
from skerry.oci.build import Form, Recipe, build
from skerry.oci.kinds import Content, digest_of, parts_of, refer
from skerry.oci.layout import Layout

FORMS: tuple[Form, Form] = ("artifact", "image")
REF = refer("192.0.2.10:5000/team/app:1")
RUN = '(component (component $c) (export "wasi:cli/run@0.2.0" (component $c)))'


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "app.wasm"
    path.write_bytes(wasm_modules.exiting(3))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def config_of(layout: Layout, manifest: Content) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(layout.read(manifest.json["config"]["digest"]))
    return config


@pytest.mark.parametrize("form", FORMS)
def test_the_same_input_is_the_same_digest(tmp_path: Path, module: Path, form: Form) -> None:
    digests = set()
    for folder in ("one", "two"):
        copy = tmp_path / folder / module.name
        copy.parent.mkdir()
        copy.write_bytes(module.read_bytes())
        name = refer(f"registry.example.com/{folder}:1")
        digests.add(build(Layout(tmp_path / "l" / folder), copy, name, Recipe(form)).digest)
    assert len(digests) == 1
    module.write_bytes(wasm_modules.exiting(4))
    assert build(Layout(tmp_path / "l"), module, REF, Recipe(form)).digest not in digests


def test_digests_do_not_follow_the_builder(layout: Layout, module: Path) -> None:
    """Known ones: a change of them is a change of everybody's digests."""
    start = b"\1\4\1\x60\0\0\3\2\1\0\7\x0a\1\6_start\0\0\x0a\4\1\2\0\x0b"
    module.write_bytes(b"\0asm\1\0\0\0" + start)
    artifact, image = (build(layout, module, REF, Recipe(form)) for form in FORMS)
    assert artifact.digest == "sha256:baca7459b1161c2bda260a48c6bb3be446f7f31f146ce2651e0e05952b58e2f5"
    assert image.digest == "sha256:c3244e50c109854f7b98e446b5fa6dee128c65a75be073e6bd086dd7b1835bf9"


def test_every_descriptor_is_true(layout: Layout, module: Path) -> None:
    index = build(layout, module, REF, Recipe(env={"B": "2", "A": "1"}))
    layers = set()
    for part in index.json["manifests"]:
        manifest = layout.by_digest(part["digest"])
        assert len(manifest.raw) == part["size"]
        for blob in parts_of(manifest):
            assert len(layout.read(blob["digest"])) == blob["size"]
        config = config_of(layout, manifest)
        assert config["architecture"] == part["platform"]["architecture"]
        assert config["config"]["Env"] == ["A=1", "B=2"]
        assert config["rootfs"]["diff_ids"] == [manifest.json["layers"][0]["digest"]]
        assert manifest.json["annotations"] == {"module.wasm.image/variant": "compat"}
        layers.add(manifest.json["layers"][0]["digest"])
    assert len(layers) == 1
    with tarfile.open(fileobj=io.BytesIO(layout.read(layers.pop()))) as tar:
        (entry,) = tar.getmembers()
        inner = tar.extractfile(entry)
        assert inner is not None
        assert inner.read() == module.read_bytes()
        assert (entry.name, entry.mode, entry.uid, entry.mtime) == ("app.wasm", 0o755, 0, 0)


def test_one_platform_makes_no_index_and_the_order_of_several_is_nothing(layout: Layout, module: Path) -> None:
    alone = build(layout, module, REF, Recipe(platforms=["linux/arm/v7"]))
    assert config_of(layout, alone)["variant"] == "v7"
    there = build(layout, module, REF, Recipe(platforms=["linux/amd64", "wasi/wasm"]))
    back = build(layout, module, REF, Recipe(platforms=["wasi/wasm", "linux/amd64", "wasi/wasm"]))
    assert there.digest == back.digest != alone.digest


def test_a_module_comes_out_as_it_went_in(layout: Layout, module: Path, tmp_path: Path) -> None:
    for form in FORMS:
        build(layout, module, REF, Recipe(form, name="other.wasm"))
        assert transfer.program_of(layout, REF) == ("other.wasm", module.read_bytes())
    assert transfer.write_program(layout, REF, tmp_path) == tmp_path / "other.wasm"


def test_a_component_is_told_as_its_engine_tells_it(tmp_path: Path) -> None:
    wasmtime = pytest.importorskip("wasmtime")
    from wasmtime import component

    text = """(component
      (import "wasi:io/poll@0.2.0" (instance (export "p" (type (sub resource)))))
      (import "own:a/b@0.1.0" (instance (export "f" (func))))
      (import "plain" (func (param "x" u32)))
      (import "kind" (type (sub resource)))
      (core module $m (func (export "f"))) (core instance $i (instantiate $m))
      (func $f (canon lift (core func $i "f")))
      (instance $e (export "run" (func $f)))
      (export "wasi:cli/run@0.2.0" (instance $e)) (export "again" (func $f)))"""
    path = tmp_path / "c.wasm"
    path.write_bytes(wasm_modules.wat(text))
    program = wasm.look(path)
    engine = wasmtime.Engine()
    kind = component.Component(engine, path.read_bytes()).type
    assert list(program.imports) == sorted(kind.imports(engine))
    assert list(program.exports) == sorted(kind.exports(engine))
    wasm.require_command(path, program)


@pytest.mark.parametrize(("recipe", "content", "code"), [
    (Recipe(), b"hello", "RUN_002"),
    (Recipe(), None, "RUN_001"),
    (Recipe(), b"\0asm\1\0\0\0", "RUN_005"),
    (Recipe("artifact"), b"\0asm\1\0\0\0\1\x20", "RUN_004"),
    (Recipe("artifact"), b"\0asm\x0d\0\1\0\x0a\x20", "IMAGE_011"),
    (Recipe("artifact"), b"\0asm\x0d\0\1\0\x0a\2\1\7", "IMAGE_011"),
    (Recipe(), b"\0asm\x0d\0\1\0", "IMAGE_012"),
    (Recipe(platforms=["linux"]), "good", "IMAGE_016"),
    (Recipe(platforms=[]), "good", "IMAGE_016"),
    (Recipe("artifact", args=["x"]), "good", "IMAGE_017"),
    (Recipe(name="../x"), "good", "IMAGE_018"),
])  # fmt: skip
def test_what_cannot_be_packed_is_said(layout: Layout, module: Path, recipe: Recipe, content: Any, code: str) -> None:
    if content is None:
        module.unlink()
    elif content != "good":
        module.write_bytes(content)
    with pytest.raises(SkerryError) as caught:
        build(layout, module, REF, recipe)
    assert caught.value.code == code
    assert layout.references() == {}


@pytest.mark.parametrize("text", ["", "Upper/case", "a/b:!", "a/../b", "a b", "host:port/x", "x@sha256:12"])
def test_references_that_are_none(text: str) -> None:
    with pytest.raises(SkerryError) as caught:
        refer(text)
    assert caught.value.code == "IMAGE_010"


def test_what_no_name_leads_to_goes(layout: Layout, module: Path) -> None:
    build(layout, module, REF, Recipe("artifact"))
    kept = layout.content(REF)
    other = refer("192.0.2.10:5000/team/app:2")
    build(layout, module, other, Recipe())
    assert sorted(layout.references()) == [REF.text, other.text]
    assert layout.remove(other) > len(module.read_bytes())
    assert list(layout.references()) == [REF.text]
    expected = {kept.digest, *(part["digest"] for part in parts_of(kept))}
    assert {f"sha256:{path.name}" for path in layout.path("sha256:x").parent.iterdir()} == expected
    with pytest.raises(SkerryError) as caught:
        layout.content(other)
    assert caught.value.code == "IMAGE_013"


def test_a_damaged_blob_is_said(layout: Layout, module: Path) -> None:
    made = build(layout, module, REF, Recipe("artifact"))
    blob = layout.path(made.json["layers"][0]["digest"])
    blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(SkerryError) as caught:
        transfer.program_of(layout, REF)
    assert caught.value.code == "IMAGE_015"
    assert not layout.take(digest_of(b"right"), [b"wrong"])
    assert not layout.path(digest_of(b"right")).exists()


def test_the_archive_is_one_that_engines_and_the_mirror_take(layout: Layout, module: Path, tmp_path: Path) -> None:
    build(layout, module, REF, Recipe())
    transfer.save(layout, REF, "linux/arm", tmp_path / "a.tar")
    assert expect(tmp_path / "a.tar", REF, None) == "arm"
    build(layout, module, REF, Recipe("artifact"))
    with pytest.raises(SkerryError) as caught:
        transfer.save(layout, REF, "linux/arm", tmp_path / "b.tar")
    assert caught.value.code == "IMAGE_032"
    assert not (tmp_path / "b.tar").exists()


def test_docker_loads_the_archive(layout: Layout, module: Path, tmp_path: Path) -> None:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no Docker on this machine")
    name = refer("skerry.invalid/skerry-test/built:1")
    build(layout, module, name, Recipe())
    transfer.save(layout, name, "linux/amd64", tmp_path / "a.tar")
    command = ["docker", "load", "-i", str(tmp_path / "a.tar")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"Loaded image: {name.text}" in done.stdout
    finally:
        subprocess.run(["docker", "image", "rm", name.text], capture_output=True, check=False)
