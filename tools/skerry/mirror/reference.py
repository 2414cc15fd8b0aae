"""References of images: written in full, and their places in a mirror."""

from __future__ import annotations

import re
from dataclasses import dataclass

from skerry.errors import SkerryError

#: The component under which all images lie in a mirror.
IMAGES = "images"
_NAME = re.compile(r"^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$")
_REGISTRY = re.compile(r"^[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*(?::[0-9]+)?$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Reference:
    """An image's name in full: ``registry`` (docker.io, host:port), ``repository``, ``tag``, ``digest`` or ""."""

    registry: str
    repository: str
    tag: str
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def text(self) -> str:
        """As an engine looks it up: with the digest when there is one, else with the tag."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def version(self) -> str:
        """The version of the image's place in a mirror: its tag, or sha256-<hex>."""
        return self.digest.replace(":", "-") if self.digest else self.tag

    @property
    def file(self) -> str:
        """The file of the image's place in a mirror."""
        return self.name.replace("/", "+").replace(":", "~") + ".tar"

    def place(self, arch: str) -> str:
        """Its path below a mirror's directory."""
        return f"{IMAGES}/{self.version}/{arch}/{self.file}"


def parse(text: str) -> Reference:
    """Read a reference as container engines do: docker.io, library/ and :latest are supplied.

    Raises:
        SkerryError: MIRROR_011 when it is none.
    """
    rest, _, digest = text.strip().partition("@")
    first, slash, behind = rest.partition("/")
    host = slash and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, behind) if host else ("docker.io", rest)
    path, _, tag = path.partition(":")
    registry = "docker.io" if registry == "index.docker.io" else registry
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    tag = tag or ("" if digest else "latest")
    fits = _REGISTRY.match(registry) and _NAME.match(path) and (not tag or _TAG.match(tag))
    if not fits or (digest and not _DIGEST.match(digest)):
        raise SkerryError(
            "MIRROR_011", f"{text!r} is no reference of an image",
            "write it as registry/repository:tag or registry/repository@sha256:<64 hex digits>",
        )
    return Reference(registry, path, tag, digest)
