"""The image writer: layout, reproducibility, names; the pause image against the real compiler."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from skerry.errors import SkerryError
from skerry.images import Entry, write_image
from skerry.images.pause import REFERENCE, pause_image


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: handle.read() for m in tar.getmembers() if (handle := tar.extractfile(m)) is not None}


def load(path: Path, name: str) -> Any:
    return json.loads(members(path)[name])


def write(path: Path, **more: Any) -> str:
    return write_image(
        path, "hello:1", {"/x.wasm": b"\0asm", "etc/a/b": Entry(b"b", 0o600)}, ["/x.wasm"], {"B": "2", "A": "1"}, **more
    )


def test_every_descriptor_matches_its_blob(tmp_path: Path) -> None:
    digest = write(tmp_path / "i.tar")
    found = members(tmp_path / "i.tar")
    index = json.loads(found["index.json"])
    assert index["manifests"][0]["digest"] == digest
    manifest = json.loads(found["blobs/sha256/" + digest.removeprefix("sha256:")])
    for descriptor in [index["manifests"][0], manifest["config"], *manifest["layers"]]:
        blob = found["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
        assert hashlib.sha256(blob).hexdigest() == descriptor["digest"].removeprefix("sha256:")
        assert len(blob) == descriptor["size"]
    config = json.loads(found["blobs/sha256/" + manifest["config"]["digest"].removeprefix("sha256:")])
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert config["config"]["Env"] == ["A=1", "B=2"]
    docker = json.loads(found["manifest.json"])[0]
    assert docker["RepoTags"] == ["docker.io/library/hello:1"]
    assert docker["Config"] in found
    assert docker["Layers"][0] in found


def test_layer_has_parents_modes_and_no_owner(tmp_path: Path) -> None:
    write(tmp_path / "i.tar")
    docker = load(tmp_path / "i.tar", "manifest.json")[0]
    (tmp_path / "layer.tar").write_bytes(members(tmp_path / "i.tar")[docker["Layers"][0]])
    with tarfile.open(tmp_path / "layer.tar") as tar:
        seen = {m.name: (m.mode, m.isdir(), m.uid, m.mtime) for m in tar.getmembers()}
    assert seen == {
        "etc": (0o755, True, 0, 0),
        "etc/a": (0o755, True, 0, 0),
        "etc/a/b": (0o600, False, 0, 0),
        "x.wasm": (0o755, False, 0, 0),
    }


def test_same_input_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "1.tar") == write(tmp_path / "2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    assert write(tmp_path / "3.tar", architecture="arm64") != write(tmp_path / "1.tar")


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("hello", "docker.io/library/hello:latest"),
        ("rancher/x:1", "docker.io/rancher/x:1"),
        ("localhost/x:1", "localhost/x:1"),
        ("registry.test:5000/a/b", "registry.test:5000/a/b:latest"),
        ("skerry.dev/w/hello:abc", "skerry.dev/w/hello:abc"),
    ],
)
def test_names_become_full(tmp_path: Path, given: str, full: str) -> None:
    write_image(tmp_path / "i.tar", given, {}, ["/x"])
    assert load(tmp_path / "i.tar", "index.json")["manifests"][0]["annotations"]["io.containerd.image.name"] == full


def test_bad_name_and_missing_file_are_coded(tmp_path: Path) -> None:
    with pytest.raises(SkerryError, match="IMAGE_001"):
        write_image(tmp_path / "i.tar", "Not A Name", {}, ["/x"])
    with pytest.raises(SkerryError, match="IMAGE_002"):
        write_image(tmp_path / "i.tar", "x", {"/x": tmp_path / "absent"}, ["/x"])
    assert list(tmp_path.iterdir()) == []


def test_pause_is_a_static_binary_that_waits_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_CACHE", str(tmp_path))
    archive = pause_image("amd64")
    assert load(archive, "index.json")["manifests"][0]["annotations"]["io.containerd.image.name"] == REFERENCE
    (tmp_path / "layer.tar").write_bytes(members(archive)[load(archive, "manifest.json")[0]["Layers"][0]])
    with tarfile.open(tmp_path / "layer.tar") as tar:
        tar.extract("pause", tmp_path)
    assert (tmp_path / "pause").stat().st_size < 100_000
    process = subprocess.Popen([tmp_path / "pause"])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.terminate()
    assert process.wait(5) == 0
    assert pause_image("amd64") == archive
