"""Archives of images: what a tar of `docker save`, `ctr images export` or an OCI layout holds."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.errors import SkerryError
from skerry.mirror.reference import Reference, parse

#: Architectures as images name them (with the variant for 32-bit ARM) -> as mirrors do.
_ARCHS = {"amd64": "amd64", "arm64": "arm64", "arm": "arm"}
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class Held:
    """One image of an archive: its name (None when the archive does not say it) and its architecture."""

    reference: Reference | None
    arch: str


def _json(archive: tarfile.TarFile, name: str) -> Any:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return json.load(stream)


def _blob(archive: tarfile.TarFile, digest: str) -> Any:
    return _json(archive, "blobs/" + digest.replace(":", "/"))


def _manifests(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The image manifests below a descriptor whose blobs are in the archive."""
    if "blobs/" + descriptor["digest"].replace(":", "/") not in archive.getnames():
        return  # an index names other platforms' manifests too, which an archive need not have
    manifest = _blob(archive, descriptor["digest"])
    if "manifests" in manifest:
        for child in manifest["manifests"]:
            yield from _manifests(archive, child)
    else:
        yield manifest


def _oci(archive: tarfile.TarFile) -> Iterator[Held]:
    for descriptor in _json(archive, "index.json")["manifests"]:
        notes = descriptor.get("annotations") or {}
        name = next((notes[key] for key in _NAMES if "/" in notes.get(key, "") or ":" in notes.get(key, "")), "")
        for manifest in _manifests(archive, descriptor):
            config = _blob(archive, manifest["config"]["digest"])
            yield Held(parse(name) if name else None, str(config.get("architecture", "")))


def _docker(archive: tarfile.TarFile) -> Iterator[Held]:
    for image in _json(archive, "manifest.json"):
        arch = str(_json(archive, image["Config"]).get("architecture", ""))
        for name in image.get("RepoTags") or [""]:
            yield Held(parse(name) if name else None, arch)


def images(path: Path) -> list[Held]:
    """The images that an archive holds.

    Raises:
        SkerryError: MIRROR_004 (cannot be read), MIRROR_012 (no archive of images).
    """
    try:
        with tarfile.open(path) as archive:
            names = set(archive.getnames())
            found = list(_docker(archive)) if "manifest.json" in names else []
            return found + (list(_oci(archive)) if "index.json" in names else [])
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError) as error:
        raise SkerryError(
            "MIRROR_012", f"{path} is no archive of images ({error})",
            "make it with `docker save`, `ctr images export` or as an OCI layout in a tar",
        ) from error
    except OSError as error:
        raise SkerryError("MIRROR_004", f"{path}: {error.strerror}", "name a file that can be read") from error


def expect(path: Path, reference: Reference, arch: str | None) -> str:
    """Make sure that an archive holds an image of that name; returns its architecture as mirrors name it.

    Raises:
        SkerryError: MIRROR_004, MIRROR_012 (no archive, another image, another or several architectures).
    """
    held = images(path)
    named = [image for image in held if image.reference and image.reference.text == reference.text]
    if not named:
        others = ", ".join(sorted({image.reference.text for image in held if image.reference})) or "none with a name"
        raise SkerryError(
            "MIRROR_012", f"{path} does not hold {reference.text}; its images: {others}",
            f"name the image as the archive does, or tag it first: docker tag IMAGE {reference.text}",
        )
    archs = {_ARCHS.get(image.arch, image.arch) for image in named}
    if arch and arch not in archs:
        raise SkerryError(
            "MIRROR_012", f"{reference.text} in {path} is for {', '.join(sorted(archs))}, not for {arch}",
            "give the archive of that architecture",
        )
    if not arch and len(archs) > 1:
        raise SkerryError(
            "MIRROR_012", f"{reference.text} in {path} is for {', '.join(sorted(archs))}",
            "say with --arch which of them it shall be",
        )
    return arch or archs.pop()
