"""Pushing, pulling, and telling what a name leads to."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from skerry.errors import Exit, SkerryError
from skerry.mirror.reference import Reference
from skerry.oci.kinds import SMALL, WASM_CONFIG, WASM_LAYER, Content, not_ours, parts_of, platform_text
from skerry.oci.layout import Layout, archive
from skerry.oci.login import Access
from skerry.oci.registry import Registry
from skerry.running.module import MAGIC, MOST_BYTES

#: Bytes of an unpacked layer up to which a module is looked for in it: a packed one may unpack without end.
_MOST_UNPACKED = 2 * MOST_BYTES
#: Called for each blob: (digest, bytes, whether it had to be sent or fetched).
Watch = Callable[[str, int, bool], None]


@dataclass(frozen=True)
class Moved:
    """What a push or a pull came to: ``moved`` of ``size`` bytes travelled; ``changed``: the name leads elsewhere."""

    reference: Reference
    digest: str
    size: int
    moved: int
    changed: bool


@contextmanager
def _registry(reference: Reference, access: Access) -> Iterator[Registry]:
    registry = Registry(reference, access)
    try:
        yield registry
    finally:
        registry.close()


def _ignored(_digest: str, _size: int, _travelled: bool) -> None:
    return None


def push(layout: Layout, source: Reference, target: Reference, access: Access, watch: Watch = _ignored) -> Moved:
    """Send what ``source`` is in the layout to a registry, as ``target``; only what is not there yet travels.

    Raises:
        SkerryError: IMAGE_010 (a target by digest), IMAGE_013 to IMAGE_015 (the layout), IMAGE_024 to IMAGE_029.
    """
    if target.digest:
        raise SkerryError("IMAGE_010", f"{target.text} names a digest, which follows from the content",
                          "push to a tag")
    top = layout.content(source)
    manifests = _manifests(layout, top) if top.is_index else [top]
    with _registry(target, access) as registry:
        if registry.digest(target.tag) == top.digest:
            return Moved(target, top.digest, _total(manifests), 0, False)
        moved = 0
        for part in {part["digest"]: part for manifest in manifests for part in parts_of(manifest)}.values():
            digest, size = str(part["digest"]), int(part["size"])
            present = registry.has(digest)
            if not present:
                _upload(layout, registry, digest)
                moved += size
            watch(digest, size, not present)
        for manifest in manifests if top.is_index else []:
            registry.put_manifest(manifest.digest, manifest)
        registry.put_manifest(target.tag, top)
    return Moved(target, top.digest, _total(manifests), moved, True)


def _upload(layout: Layout, registry: Registry, digest: str) -> None:
    with ExitStack() as opened:

        def body() -> BinaryIO:
            stream = opened.enter_context(layout.opened(digest))
            # An empty file would be taken for a body of unknown length.
            return stream if layout.path(digest).stat().st_size else io.BytesIO()

        registry.put_blob(digest, body)


def _manifests(layout: Layout, index: Content) -> list[Content]:
    found = []
    for part in index.json["manifests"]:
        if not layout.path(part["digest"]).is_file():
            text = platform_text(part.get("platform") or {}) or part["digest"]
            raise SkerryError("IMAGE_015", f"{layout.folder} holds no {text} of the index {index.digest}",
                              "pull it without --platform, then push again", Exit.FAILED)
        found.append(layout.by_digest(part["digest"]))
    return found


def _total(manifests: list[Content]) -> int:
    parts = {part["digest"]: int(part["size"]) for manifest in manifests for part in parts_of(manifest)}
    return sum(parts.values())


def pull(layout: Layout, reference: Reference, access: Access, platform: str = "", watch: Watch = _ignored) -> Moved:
    """Fetch an image or artifact into the layout; with ``platform`` (os/architecture[/variant]) that one alone.

    Raises:
        SkerryError: IMAGE_014 (the layout), IMAGE_022 (no image), IMAGE_024 to IMAGE_029, IMAGE_030 (not made for that
            platform).
    """
    with _registry(reference, access) as registry, layout.filling():
        top = registry.manifest(reference.digest or reference.tag)
        if top.is_index and platform:
            top = registry.manifest(_of_platform(top, platform, reference.text))
        manifests = [registry.manifest(part["digest"]) for part in top.json["manifests"]] if top.is_index else [top]
        moved = 0
        for part in {part["digest"]: part for manifest in manifests for part in parts_of(manifest)}.values():
            digest, size = str(part["digest"]), int(part["size"])
            present = layout.has(digest, size)
            if not present:
                registry.blob(digest, size, lambda chunks, digest=digest: layout.take(digest, chunks))  # type: ignore[misc]
                moved += size
            watch(digest, size, not present)
        for manifest in (*manifests, top):
            layout.put(manifest.raw)
        before = layout.references().get(reference.text, {}).get("digest")
        layout.name(reference, top)
    return Moved(reference, top.digest, _total(manifests), moved, before != top.digest)


def _of_platform(index: Content, platform: str, where: str) -> str:
    """Digest of the manifest for a platform; linux/arm also means the variant v7, the only ARM hosts of 32 bits."""
    there = {platform_text(part.get("platform") or {}): str(part["digest"]) for part in index.json["manifests"]}
    for wanted in (platform, f"{platform}/v7", f"{platform}/v8", platform.removesuffix("/v8")):
        if wanted in there:
            return there[wanted]
    raise SkerryError("IMAGE_030", f"{where} is not made for {platform}, only for {', '.join(sorted(there))}",
                      "name one of these, or build it with --platform", Exit.FAILED)


def program_of(layout: Layout, reference: Reference) -> tuple[str, bytes]:
    """(file name, content) of the module in an image or artifact of the layout.

    Raises:
        SkerryError: IMAGE_013, IMAGE_015 (the layout), IMAGE_022 (there is no module in it).
    """
    top = layout.content(reference)
    # Of several platforms any will do: they share the module.
    manifest = _manifests(layout, top)[0] if top.is_index else top
    found = [part for part in manifest.json["layers"] if part["mediaType"] == WASM_LAYER]
    if len(found) == 1:
        if int(found[0]["size"]) > MOST_BYTES:
            raise not_ours(reference.text, f"holds a module of more than {MOST_BYTES >> 20} MiB")
        name = (found[0].get("annotations") or {}).get("org.opencontainers.image.title", "")
        return _plain(str(name)) or "module.wasm", _wasm(layout.read(found[0]["digest"]), reference.text)
    if found:
        raise not_ours(reference.text, f"holds {len(found)} modules")
    config = json.loads(layout.read(manifest.json["config"]["digest"])).get("config") or {}
    entry = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])][:1]
    for layer in reversed(manifest.json["layers"]):
        content = _member(layout, layer["digest"], entry[0].lstrip("/") if entry else "")
        if content is not None:
            return _plain(entry[0]), _wasm(content, reference.text)
    raise not_ours(reference.text, "has no file where its entry point is")


def write_program(layout: Layout, reference: Reference, place: Path) -> Path:
    """Write the module of an image or artifact to ``place``, or under its own name into it where that is a directory.

    Raises:
        SkerryError: IMAGE_013, IMAGE_015, IMAGE_022 (see `program_of`), IMAGE_031 (it cannot be written).
    """
    name, content = program_of(layout, reference)
    place = place / name if place.is_dir() else place
    with written(place) as stream:
        stream.write(content)
    return place


def save(layout: Layout, reference: Reference, platform: str, place: Path) -> None:
    """Write the image for a platform as an archive for engines.

    Raises:
        SkerryError: IMAGE_013, IMAGE_015, IMAGE_030 (not for that platform), IMAGE_031 (it cannot be written),
            IMAGE_032 (an artifact, which engines do not take).
    """
    manifest = engine_image(layout, reference, platform)
    with written(place) as stream:
        archive(layout, reference, manifest, stream)


def engine_image(layout: Layout, reference: Reference, platform: str) -> Content:
    """The one manifest that an engine on that platform takes. Raises IMAGE_013, IMAGE_015, IMAGE_030, IMAGE_032."""
    top = layout.content(reference)
    manifest = layout.by_digest(_of_platform(top, platform, reference.text)) if top.is_index else top
    if manifest.json["config"]["mediaType"] == WASM_CONFIG:
        raise SkerryError("IMAGE_032", f"{reference.text} is an artifact, which Docker and containerd do not run",
                          f"skerry image build MODULE -t {reference.text} --form image")
    return manifest


@contextmanager
def written(place: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when the block has ended well. Raises IMAGE_031."""
    new = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with new.open("wb") as stream:
            yield stream
        new.replace(place)
    except OSError as error:
        raise SkerryError("IMAGE_031", f"{place} cannot be written: {error.strerror or error}",
                          "check its folder, rights and free space (df -h)", Exit.PREREQUISITE) from error
    finally:
        new.unlink(missing_ok=True)


def _plain(name: str) -> str:
    """The last part of a path, "" where it could lead elsewhere."""
    last = name.rpartition("/")[2]
    return "" if last in (".", "..") or "\0" in last else last


def _wasm(content: bytes, where: str) -> bytes:
    if content[:4] != MAGIC:
        raise not_ours(where, "starts a program that is no WebAssembly")
    return content


def _member(layout: Layout, digest: str, name: str) -> bytes | None:
    with layout.opened(digest) as stream:
        try:
            with tarfile.open(fileobj=stream) as tar:
                for entry in tar:
                    if entry.offset_data + entry.size > _MOST_UNPACKED:
                        raise not_ours(digest, f"is a layer of more than {_MOST_UNPACKED >> 20} MiB")
                    if entry.isfile() and entry.name.removeprefix("./").lstrip("/") == name:
                        inner = tar.extractfile(entry)
                        return inner.read() if inner else None
        except tarfile.TarError as error:
            raise not_ours(digest, f"is a layer that cannot be read: {error}") from error
    return None


def describe(reference: Reference, top: Content, manifest_of: Callable[[str], Content],
             blob_of: Callable[[str], bytes]) -> dict[str, Any]:
    """What a name leads to: {reference, digest, form, media_type, size, annotations, platforms, ...}.

    ``form`` is image, artifact (wasm's own) or other. Artifacts have ``os`` and, of components, ``imports`` and
    ``exports``; images ``entrypoint``, ``args`` and ``env`` (names alone). ``size``: bytes of all blobs, each once.

    Args:
        manifest_of: gives a manifest by its digest.
        blob_of: gives a configuration by its digest.
    """
    manifests = [manifest_of(part["digest"]) for part in top.json["manifests"]] if top.is_index else [top]
    told: dict[str, Any] = {
        "reference": reference.text, "digest": top.digest, "form": "other", "media_type": top.media_type,
        "size": _total(manifests), "annotations": top.json.get("annotations") or {}, "platforms": [],
    }
    layers = {layer["digest"]: layer for manifest in manifests for layer in manifest.json["layers"]}
    told["layers"] = [{key: layer[key] for key in ("mediaType", "digest", "size")} for layer in layers.values()]
    for manifest in manifests:
        head = manifest.json["config"]
        if int(head["size"]) > SMALL:
            continue  # of a kind that is not ours
        told["annotations"] = {**(manifest.json.get("annotations") or {}), **told["annotations"]}
        told |= _of_config(head["mediaType"], blob_of(head["digest"]), told["platforms"], manifest.digest)
    return told


def _of_config(kind: str, raw: bytes, platforms: list[dict[str, str]], digest: str) -> dict[str, Any]:
    try:
        config = json.loads(raw)
    except ValueError:
        return {}  # other artifacts have other configurations
    if not isinstance(config, dict):
        return {}
    if kind == WASM_CONFIG:
        parts: Mapping[str, Any] = config.get("component") or {}
        return {"form": "artifact", "os": config.get("os", ""), "imports": parts.get("imports", []),
                "exports": parts.get("exports", [])}
    if "rootfs" not in config:
        return {}
    process = config.get("config") or {}
    platforms.append({"platform": platform_text(config), "digest": digest})
    return {"form": "image", "entrypoint": process.get("Entrypoint") or [], "args": process.get("Cmd") or [],
            "env": sorted(entry.partition("=")[0] for entry in process.get("Env") or [])}


def inspect(reference: Reference, access: Access) -> dict[str, Any]:
    """`describe` of what a registry has. Raises IMAGE_022, IMAGE_024 to IMAGE_029."""
    with _registry(reference, access) as registry:
        top = registry.manifest(reference.digest or reference.tag)
        return describe(reference, top, registry.manifest, registry.small)


def inspect_local(layout: Layout, reference: Reference) -> dict[str, Any]:
    """`describe` of what a layout has. Raises IMAGE_013, IMAGE_015."""
    return describe(reference, layout.content(reference), layout.by_digest, layout.read)
