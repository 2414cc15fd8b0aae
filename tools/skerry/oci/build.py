"""Images and artifacts from a module. Same input, same digest: no date, no owner, no compression that differs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skerry.errors import SkerryError
from skerry.mirror.reference import Reference
from skerry.oci import wasm
from skerry.oci.kinds import (
    CONFIG,
    EPOCH,
    INDEX,
    LAYER,
    MANIFEST,
    WASM_CONFIG,
    WASM_LAYER,
    Content,
    descriptor,
    digest_of,
    encoded,
    platform_text,
)
from skerry.oci.layout import Layout

Form = Literal["image", "artifact"]
#: Hosts that Skerry knows. Docker and containerd take an image for their own platform alone, wasm or not.
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")
#: Tells engines that hand annotations on to the runtime (Podman, CRI-O) to let crun run it as wasm.
VARIANT = {"module.wasm.image/variant": "compat"}
_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True)
class Recipe:
    """What goes into an image or an artifact beside the module.

    Attributes:
        name: of the module's file inside; "" for its own.
        platforms: of an image; several make an index whose manifests share the layer.
        args: default arguments of an image.
        env: environment of an image: for everybody to read, so no place for secrets.
        annotations: of the manifest.
    """

    form: Form = "image"
    name: str = ""
    platforms: Sequence[str] = PLATFORMS
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def _platform(text: str) -> dict[str, str]:
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(part.isalnum() for part in parts):
        raise SkerryError("IMAGE_016", f"{text!r} is no platform",
                          f"write it as os/architecture, such as {', '.join(PLATFORMS)} or wasi/wasm")
    return dict(zip(("os", "architecture", "variant"), parts, strict=False))


def _layer(name: str, program: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return out.getvalue()


def _manifest(config: Mapping[str, Any], layer: Mapping[str, Any], notes: Mapping[str, str]) -> Content:
    content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    raw = encoded(content | ({"annotations": dict(notes)} if notes else {}))
    return Content(raw, digest_of(raw), MANIFEST)


def _image(layout: Layout, program: wasm.Program, name: str, recipe: Recipe) -> Content:
    layer = _layer(name, program.content)
    layout.put(layer)
    process: dict[str, Any] = {"Entrypoint": [f"/{name}"], "WorkingDir": "/"}
    if recipe.args:
        process["Cmd"] = list(recipe.args)
    if recipe.env:
        process["Env"] = [f"{key}={value}" for key, value in sorted(recipe.env.items())]
    made: list[tuple[Content, dict[str, str]]] = []
    for platform in [_platform(text) for text in dict.fromkeys(recipe.platforms)]:
        config = encoded({
            **platform, "created": EPOCH, "config": process,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
            "history": [{"created": EPOCH, "created_by": "skerry image build"}],
        })
        layout.put(config)
        notes = {**VARIANT, **recipe.annotations}
        made.append((_manifest(descriptor(CONFIG, config), descriptor(LAYER, layer), notes), platform))
    if not made:
        raise SkerryError("IMAGE_016", "an image without a platform runs nowhere", "name one with --platform")
    for manifest, _ in made:
        layout.put(manifest.raw)
    if len(made) == 1:
        return made[0][0]
    # Whatever order they were named in: the same index.
    made.sort(key=lambda one: platform_text(one[1]))
    manifests = [{**descriptor(MANIFEST, manifest.raw), "platform": platform} for manifest, platform in made]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    raw = encoded(index | ({"annotations": dict(recipe.annotations)} if recipe.annotations else {}))
    return Content(raw, digest_of(raw), INDEX)


def _artifact(layout: Layout, program: wasm.Program, name: str, recipe: Recipe) -> Content:
    if recipe.args or recipe.env:
        raise SkerryError("IMAGE_017", "an artifact holds the module alone: it has no arguments and no environment",
                          "leave --arg and --env to the workload file, or build with --form image")
    layout.put(program.content)
    config: dict[str, Any] = {"created": EPOCH, "architecture": "wasm", "os": program.os,
                              "layerDigests": [digest_of(program.content)]}
    if program.form == "component":
        config["component"] = {"exports": list(program.exports), "imports": list(program.imports)}
    raw = encoded(config)
    layout.put(raw)
    layer = {**descriptor(WASM_LAYER, program.content), "annotations": {_TITLE: name}}
    return _manifest(descriptor(WASM_CONFIG, raw), layer, recipe.annotations)


def build(layout: Layout, module: Path, reference: Reference, recipe: Recipe) -> Content:
    """Pack a module into ``layout`` under a name; what the name leads to.

    Raises:
        SkerryError: RUN_001 to RUN_006, IMAGE_011, IMAGE_012 (the module), IMAGE_010 (a name by digest, which nobody
            can choose), IMAGE_014 (the folder cannot be written), IMAGE_016 (no platform), IMAGE_017 (an artifact with
            arguments), IMAGE_018 (the name of its file).
    """
    if reference.digest:
        raise SkerryError("IMAGE_010", f"{reference.text} names a digest, which follows from the content",
                          "give it a tag instead")
    name = recipe.name or module.name
    if not name or "/" in name or name in (".", ".."):
        raise SkerryError("IMAGE_018", f"{name!r} is no file's name", "give --name without folders")
    program = wasm.look(module)
    if recipe.form == "image":
        wasm.require_command(module, program)
    with layout.filling():
        made = (_image if recipe.form == "image" else _artifact)(layout, program, name, recipe)
        layout.put(made.raw)
        layout.name(reference, made)
    return made
