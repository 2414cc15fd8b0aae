"""Names, media types and descriptors, as image-spec 1.1 and the wasm OCI artifact layout (CNCF) have them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skerry.errors import SkerryError
from skerry.mirror import reference
from skerry.mirror.reference import Reference

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
WASM_CONFIG = "application/vnd.wasm.config.v0+json"
WASM_LAYER = "application/wasm"
INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
EPOCH = "1970-01-01T00:00:00Z"
#: Bytes of a manifest or a configuration: what registries accept of a manifest is no more.
SMALL = 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Content:
    """A manifest or an index: ``raw`` is what ``digest`` (sha256:<hex>) is of; ``media_type`` as it calls itself."""

    raw: bytes
    digest: str
    media_type: str

    @property
    def json(self) -> dict[str, Any]:
        """It decoded."""
        decoded: dict[str, Any] = json.loads(self.raw)
        return decoded

    @property
    def is_index(self) -> bool:
        """Whether it names manifests, instead of layers."""
        return self.media_type in INDEXES


def refer(text: str) -> Reference:
    """Read a reference, with or without ``oci://``; docker.io, library/ and the default tag are supplied.

    Raises:
        SkerryError: IMAGE_010 when it is none.
    """
    try:
        return reference.parse(text.removeprefix("oci://"))
    except SkerryError as error:
        raise SkerryError("IMAGE_010", f"{text!r} is no reference of an image",
                          "write it as registry/repository:tag, such as 192.0.2.10:5000/sensors/filter:1") from error


def digest_of(content: bytes) -> str:
    """``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def encoded(value: object) -> bytes:
    """JSON that is the same bytes each time."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """What stands for ``content`` in a manifest."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def content_of(raw: bytes, where: str, said: str = "") -> Content:
    """A manifest or an index from its bytes; ``said``: the media type that came with it, where it has none inside.

    Raises:
        SkerryError: IMAGE_022 for anything else.
    """
    try:
        decoded = json.loads(raw)
        kind = str(decoded.get("mediaType") or said)
        parts = decoded.get("manifests") if kind in INDEXES else [decoded["config"], *decoded["layers"]]
        for part in parts:
            _checked(part)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise not_ours(where, "has no manifest of OCI's form") from error
    if kind not in (*INDEXES, *MANIFESTS):
        raise not_ours(where, f"is of the unknown type {kind or '(none)'}")
    return Content(raw, digest_of(raw), kind)


def _checked(part: Mapping[str, Any]) -> None:
    """Digests become file names and paths of addresses: only those of SHA-256 are taken."""
    if not _DIGEST.fullmatch(part["digest"]) or int(part["size"]) < 0:
        raise ValueError(part["digest"])


def parts_of(content: Content) -> Iterator[dict[str, Any]]:
    """Descriptors of a manifest's blobs, configuration first, each digest once. Raises IMAGE_022 for an index."""
    if content.is_index:
        raise not_ours(content.digest, "is an index within an index")
    seen = set()
    for part in (content.json["config"], *content.json["layers"]):
        if part["digest"] not in seen:
            seen.add(part["digest"])
            yield part


def platform_text(platform: Mapping[str, Any]) -> str:
    """linux/arm/v7."""
    return "/".join(str(platform[key]) for key in ("os", "architecture", "variant") if platform.get(key))


def not_ours(where: str, why: str) -> SkerryError:
    """IMAGE_022."""
    return SkerryError("IMAGE_022", f"{where} {why}",
                       "name an image or a wasm artifact, such as skerry image build makes")
