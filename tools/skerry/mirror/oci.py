"""Images as archives: one architecture of one image, made the same way each time, for containerd and Docker alike."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from skerry.errors import Exit, SkerryError
from skerry.mirror.download import Progress
from skerry.mirror.reference import Reference
from skerry.mirror.registry import Repository
from skerry.mirror.store import beside
from skerry.oci.kinds import INDEX, INDEXES, MANIFESTS, Content

#: Variants that run on 32-bit ARM hosts of ours (ARMv7), best first.
_ARM_VARIANTS = ("v7", "", "v6", "v5")


@dataclass(frozen=True)
class Blob:
    """Part of an image; ``size`` in bytes."""

    digest: str
    size: int

    @property
    def path(self) -> str:
        """Its place in an archive."""
        return "blobs/" + self.digest.replace(":", "/")


@dataclass(frozen=True)
class Image:
    """An image of one architecture, known but not fetched. ``index`` is what its name leads to, if not ``manifest``."""

    reference: Reference
    arch: str
    manifest: Content
    index: Content | None

    @property
    def digest(self) -> str:
        """What its name led to when it was looked up."""
        return (self.index or self.manifest).digest

    @property
    def blobs(self) -> list[Blob]:
        """Configuration first, then the layers in their order, each once."""
        content = self.manifest.json
        parts = [content["config"], *content["layers"]]
        return list(dict.fromkeys(Blob(part["digest"], int(part["size"])) for part in parts))

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(blob.size for blob in self.blobs)

    @property
    def source(self) -> str:
        """What the lock notes: the reference with the digest that it led to."""
        tag = f":{self.reference.tag}" if self.reference.tag else ""
        return f"docker://{self.reference.name}{tag}@{self.digest}"


def _of_platform(index: dict[str, Any], arch: str) -> str:
    """Digest of the manifest for an architecture, "" when there is none."""
    fitting: dict[str, str] = {}
    for child in index.get("manifests", []):
        platform = child.get("platform") or {}
        if platform.get("os") == "linux" and platform.get("architecture") == arch:
            fitting.setdefault(platform.get("variant", ""), child["digest"])
    if arch == "arm":
        return next((fitting[variant] for variant in _ARM_VARIANTS if variant in fitting), "")
    return next(iter(fitting.values()), "")


def look_up(reference: Reference, arch: str, redirects: Mapping[str, str], digest: str = "") -> Image:
    """Find out what an image consists of.

    Args:
        arch: amd64, arm64 or arm.
        redirects: registries to ask elsewhere: {registry: URL}.
        digest: what the name has to lead to, from a lock; "" takes what it leads to now.

    Raises:
        SkerryError: MIRROR_010, MIRROR_013, MIRROR_014 (see `Repository`), MIRROR_015 (not for that architecture, or in
            a form of before 2017).
    """
    repository = Repository(reference.registry, reference.repository, redirects)
    top = repository.manifest(digest or reference.digest or reference.tag)
    if top.media_type in MANIFESTS:
        return _fitting(Image(reference, arch, top, None), repository)
    if top.media_type not in INDEXES:
        raise _unusable(reference, f"is of the unknown type {top.media_type}")
    wanted = _of_platform(top.json, arch)
    if not wanted:
        raise _unusable(reference, f"is not made for {arch}")
    return Image(reference, arch, repository.manifest(wanted), top)


def _unusable(reference: Reference, why: str) -> SkerryError:
    return SkerryError(
        "MIRROR_015", f"{reference.text} {why}",
        "choose another version or image, or take the hosts of that architecture out of the inventory", Exit.FAILED,
    )


def _fitting(image: Image, repository: Repository) -> Image:
    """The image, if its configuration names its architecture."""
    said = json.loads(repository.small(image.blobs[0].digest)).get("architecture", "")
    if said != image.arch:
        raise _unusable(image.reference, f"is made for {said or 'no architecture'}, not for {image.arch}")
    return image


def fetch(image: Image, folder: Path, redirects: Mapping[str, str], progress: Progress) -> None:
    """Bring an image's blobs into ``folder``; what is there already, or in part, is not fetched again."""
    repository = Repository(image.reference.registry, image.reference.repository, redirects)
    before = 0
    for blob in image.blobs:
        base = before
        repository.blob(
            blob.digest, blob.size, folder / blob.digest.replace(":", "-"),
            lambda done, _total, base=base: progress(base + done, image.size),  # type: ignore[misc]
        )
        before += blob.size


class _Hashed(io.RawIOBase):
    """Writes through, counting and hashing."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._stream.write(data)


def _names(image: Image) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """index.json (for containerd, Docker >= 25 and other readers of OCI layouts) and manifest.json (for Docker)."""
    # An image asked for by digest must be found by it: its name leads to the index, as it does in the registry.
    top = image.index if image.index and image.reference.digest else image.manifest
    notes = {"io.containerd.image.name": image.reference.text}
    if image.reference.tag:
        notes["org.opencontainers.image.ref.name"] = image.reference.tag
    descriptor: dict[str, Any] = {
        "mediaType": top.media_type, "digest": top.digest, "size": len(top.raw), "annotations": notes,
    }
    content = image.manifest.json
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}
    docker = [{
        "Config": Blob(content["config"]["digest"], 0).path,
        "RepoTags": [f"{image.reference.name}:{image.reference.tag}"] if image.reference.tag else None,
        "Layers": [Blob(layer["digest"], 0).path for layer in content["layers"]],
    }]
    return index, docker


def write(image: Image, folder: Path, place: Path) -> tuple[str, int]:
    """Write the archive of an image whose blobs lie in ``folder``; returns (SHA-256, size). No date, no owner in it.

    Raises:
        SkerryError: MIRROR_002 when it cannot be written.
    """
    index, docker = _names(image)
    small = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps(index, sort_keys=True).encode(),
        "manifest.json": json.dumps(docker, sort_keys=True).encode(),
    }
    for manifest in (image.manifest, *([image.index] if image.index and image.reference.digest else [])):
        small[Blob(manifest.digest, 0).path] = manifest.raw
    with beside(place) as (stream, _):
        hashed = _Hashed(stream)
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in small.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            for blob in sorted(image.blobs, key=lambda blob: blob.digest):
                entry = tarfile.TarInfo(blob.path)
                entry.size = blob.size
                with (folder / blob.digest.replace(":", "-")).open("rb") as source:
                    archive.addfile(entry, source)
    return hashed.digest.hexdigest(), hashed.size
