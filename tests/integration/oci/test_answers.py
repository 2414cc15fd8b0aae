"""What registries do beside the plain case: tokens, fronts, broken connections, false manifests, ordinary images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_registry import MANIFEST, Registry, serving

from skerry.errors import SkerryError
from skerry.oci import transfer
from skerry.oci.kinds import refer
from skerry.oci.layout import Layout
from skerry.oci.login import Access
from skerry.oci.registry import Registry as Client

FILES = {"amd64": {"x": b"amd64" * 50_000}, "arm64": {"x": b"\0asm\1\0\0\0" + b"arm64" * 50_000}}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as made:
        yield made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def test_an_image_for_several_is_pulled_whole_or_for_one(registry: Registry, layout: Layout, tmp_path: Path) -> None:
    digest = registry.image("team/app", "1", FILES)
    name = refer(f"{registry.host}/team/app:1")
    whole = transfer.pull(layout, name, Access())
    assert (whole.digest, whole.changed, whole.moved) == (digest, True, whole.size)
    assert transfer.pull(layout, name, Access()).moved == 0
    one = transfer.pull(Layout(tmp_path / "one"), name, Access(), "linux/arm64")
    assert one.digest != digest
    assert one.size < whole.size
    assert transfer.program_of(Layout(tmp_path / "one"), name) == ("x", FILES["arm64"]["x"])
    with pytest.raises(SkerryError, match="IMAGE_030"):
        transfer.pull(layout, name, Access(), "linux/riscv64")
    with pytest.raises(SkerryError, match="IMAGE_022"):  # its first platform's program is none of wasm
        transfer.program_of(layout, name)


def test_tokens_are_fetched_with_the_login(registry: Registry, layout: Layout) -> None:
    registry.image("app", "1", FILES)
    registry.login = "token"
    transfer.pull(layout, refer(f"{registry.host}/app:1"), Access(("u", "p")))
    seen = {(path.partition("?")[0], words) for _, path, _, words in registry.requests}
    assert ("/token", "Basic dTpw") in seen
    assert ("/v2/app/manifests/1", "Bearer good") in seen


def test_where_a_front_leads_hears_no_password(registry: Registry) -> None:
    registry.image("app", "1", {"amd64": {"x": b"x"}})
    registry.behind = registry.host.replace("127.0.0.1", "localhost")
    registry.login = "token"
    client = Client(refer(f"{registry.host}/app:1"), Access(("u", "p")))
    assert client.manifest("1").json["layers"]
    client.close()
    words = {words for _, _, _, words in registry.requests}
    assert "Bearer good" in words
    assert not [one for one in words if one.startswith("Basic")]


def test_a_broken_download_is_begun_anew(registry: Registry, layout: Layout) -> None:
    registry.image("app", "1", {"amd64": {"x": bytes(range(256)) * 5000}})
    layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    registry.cut[f"/v2/app/blobs/{layer}"] = 1000
    moved = transfer.pull(layout, refer(f"{registry.host}/app:1"), Access())
    assert layout.has(layer, len(registry.blobs[layer]))
    assert moved.moved == moved.size
    assert len([path for _, path, _, _ in registry.requests if path.endswith(layer)]) == 2


@pytest.mark.parametrize("raw", [
    b"no json", b"[]", b"{}", json.dumps({"mediaType": MANIFEST}).encode(),
    json.dumps({"mediaType": MANIFEST, "config": {"digest": "sha256:../../../../x", "size": 1}, "layers": []}).encode(),
    json.dumps({"mediaType": "text/x", "config": {"digest": "sha256:" + "0" * 64, "size": 1}, "layers": []}).encode(),
])  # fmt: skip
def test_false_manifests_are_refused(registry: Registry, layout: Layout, raw: bytes) -> None:
    registry.manifests["app", "1"] = (MANIFEST, raw)
    with pytest.raises(SkerryError, match="IMAGE_022"):
        transfer.pull(layout, refer(f"{registry.host}/app:1"), Access())
    assert layout.references() == {}


def test_another_content_than_the_digests_is_refused(registry: Registry, layout: Layout) -> None:
    digest = registry.image("app", "1", {"amd64": {"x": b"x"}})
    other = registry.image("app", "2", {"amd64": {"x": b"y"}})
    registry.manifests["app", digest] = registry.manifests["app", other]
    with pytest.raises(SkerryError, match="IMAGE_029"):
        transfer.pull(layout, refer(f"{registry.host}/app@{digest}"), Access())


def test_what_does_not_end_is_given_up(registry: Registry, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.image("app", "1", {"amd64": {"x": b"\0asm" + bytes(300_000)}})
    name = refer(f"{registry.host}/app:1")
    layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    whole = registry.blobs[layer]
    registry.blobs[layer] = whole + b"and more"
    with pytest.raises(SkerryError, match=f"IMAGE_029.*more than its {len(whole)} bytes"):
        transfer.pull(layout, name, Access())
    registry.blobs[layer] = whole
    transfer.pull(layout, name, Access())
    assert transfer.program_of(layout, name)[0] == "x"
    monkeypatch.setattr(transfer, "_MOST_UNPACKED", 200_000)
    with pytest.raises(SkerryError, match="IMAGE_022"):
        transfer.program_of(layout, name)
