"""A folder of OCI's image layout (image-spec 1.1, image-layout.md): blobs by digest, and an index of names."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.mirror.reference import Reference
from skerry.oci.kinds import INDEX, Content, content_of, digest_of, encoded, parts_of

_LAYOUT = encoded({"imageLayoutVersion": "1.0.0"})
#: Where tools of others look a name up: skopeo and ORAS the first, containerd and Docker the second.
REF_NAME, IMAGE_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"


class Layout:
    """A layout in ``folder``, which is made when something is put into it."""

    def __init__(self, folder: Path | None = None) -> None:
        """The user's own layout, below the cache, when no folder is given."""
        self.folder = folder or paths.cache() / "oci"

    def path(self, digest: str) -> Path:
        """Where a blob lies."""
        return self.folder / "blobs" / digest.replace(":", "/")

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            stream = (self.folder / name).open("w")
        with stream:
            fcntl.flock(stream, how)
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SkerryError("IMAGE_014", f"{self.folder} cannot be written: {error.strerror or error}",
                              "check rights and free space (df -h), or name another folder with --layout",
                              Exit.PREREQUISITE) from error

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While blobs are put that no name leads to yet: `remove` waits so long.

        Raises:
            SkerryError: IMAGE_014 when the folder cannot be written.
        """
        with self._locked(".in-use", fcntl.LOCK_SH):
            yield

    def _place(self, content: Iterable[bytes], place: Path, digest: str = "") -> bool:
        """Write a file by way of one beside it; False, and no file, when it does not have the digest."""
        with self._writing():
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".new.", dir=place.parent)
        hashed = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as stream:
                for chunk in content:  # errors of where it comes from are not the folder's
                    with self._writing():
                        stream.write(chunk)
                    hashed.update(chunk)
                with self._writing():
                    stream.flush()
            if digest and digest != "sha256:" + hashed.hexdigest():
                return False
            with self._writing():
                Path(name).chmod(0o644)
                Path(name).replace(place)
            return True
        finally:
            Path(name).unlink(missing_ok=True)

    def put(self, content: bytes) -> str:
        """Put a small blob; its digest. Raises IMAGE_014."""
        digest = digest_of(content)
        if not self.has(digest, len(content)):
            self._place([content], self.path(digest))
        return digest

    def take(self, digest: str, chunks: Iterable[bytes]) -> bool:
        """Put what comes in pieces; False, and nothing is put, when it does not have that digest. Raises IMAGE_014."""
        return self._place(chunks, self.path(digest), digest)

    def has(self, digest: str, size: int) -> bool:
        """Whether a blob of that size is there."""
        place = self.path(digest)
        return place.is_file() and place.stat().st_size == size

    def read(self, digest: str) -> bytes:
        """A blob that fits into memory, checked.

        Raises:
            SkerryError: IMAGE_015 when it is missing or damaged.
        """
        try:
            content = self.path(digest).read_bytes()
        except OSError as error:
            raise self._damaged(digest, "is missing") from error
        if digest_of(content) != digest:
            raise self._damaged(digest, "is damaged")
        return content

    @contextmanager
    def opened(self, digest: str) -> Iterator[BinaryIO]:
        """A blob as a stream, checked before. Raises IMAGE_015."""
        try:
            stream = self.path(digest).open("rb")
        except OSError as error:
            raise self._damaged(digest, "is missing") from error
        with stream:
            if "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise self._damaged(digest, "is damaged")
            stream.seek(0)
            yield stream

    def _damaged(self, digest: str, how: str) -> SkerryError:
        return SkerryError("IMAGE_015", f"{self.folder}: {digest} {how}",
                           "remove that file if it is there, then build or pull again", Exit.FAILED)

    def _entries(self) -> list[dict[str, Any]]:
        try:
            found = json.loads((self.folder / "index.json").read_text())["manifests"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SkerryError("IMAGE_015", f"{self.folder / 'index.json'} cannot be read: {error}",
                              "remove that folder, then build or pull again", Exit.FAILED) from error
        return [entry for entry in found if isinstance(entry, dict) and "digest" in entry]

    def references(self) -> dict[str, dict[str, Any]]:
        """{name: descriptor} of everything that has a name."""
        named = {(entry.get("annotations") or {}).get(REF_NAME): entry for entry in self._entries()}
        return {str(name): named[name] for name in sorted(filter(None, named))}

    def content(self, reference: Reference) -> Content:
        """What a name leads to; one with a digest leads to that digest.

        Raises:
            SkerryError: IMAGE_013 (not here), IMAGE_015 (damaged).
        """
        if reference.digest:
            if not self.path(reference.digest).is_file():
                raise self._absent(reference)
            return self.by_digest(reference.digest)
        entry = self.references().get(reference.text)
        if entry is None:
            raise self._absent(reference)
        return self.by_digest(entry["digest"])

    def by_digest(self, digest: str) -> Content:
        """A manifest or an index. Raises IMAGE_015, IMAGE_022."""
        return content_of(self.read(digest), digest)

    def _absent(self, reference: Reference) -> SkerryError:
        return SkerryError("IMAGE_013", f"{reference.text} is not in {self.folder}",
                           f"skerry image build MODULE -t {reference.text}, or skerry image pull {reference.text}; "
                           "skerry image list shows what is there")

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        self._place([_LAYOUT], self.folder / "oci-layout")
        self._place([encoded(index)], self.folder / "index.json")

    def name(self, reference: Reference, content: Content) -> None:
        """Let a name lead to a manifest or index whose blobs are there. Raises IMAGE_014."""
        notes = {REF_NAME: reference.text, IMAGE_NAME: reference.text}
        entry = {"mediaType": content.media_type, "digest": content.digest, "size": len(content.raw)}
        with self._locked(".names", fcntl.LOCK_EX):
            kept = [one for one in self._entries() if (one.get("annotations") or {}).get(REF_NAME) != reference.text]
            self._write_index(sorted([*kept, {**entry, "annotations": notes}], key=encoded))

    def remove(self, reference: Reference) -> int:
        """Take a name away, and every blob that no other name leads to; the bytes that became free.

        Raises:
            SkerryError: IMAGE_013 (no such name), IMAGE_014, IMAGE_015.
        """
        if reference.text not in self.references():
            raise self._absent(reference)
        with self._locked(".in-use", fcntl.LOCK_EX), self._locked(".names", fcntl.LOCK_EX):
            kept = [one for one in self._entries() if (one.get("annotations") or {}).get(REF_NAME) != reference.text]
            needed = {digest for entry in kept for digest in self._needed(entry["digest"])}
            self._write_index(kept)
            freed = 0
            with self._writing():
                for place in (self.folder / "blobs" / "sha256").glob("*"):
                    if f"sha256:{place.name}" not in needed:
                        freed += place.stat().st_size
                        place.unlink()
        return freed

    def _needed(self, digest: str) -> Iterator[str]:
        yield digest
        content = self.by_digest(digest)
        if not content.is_index:
            yield from (part["digest"] for part in parts_of(content))
            return
        for part in content.json["manifests"]:
            yield from self._needed(part["digest"])


def archive(layout: Layout, reference: Reference, manifest: Content, out: BinaryIO) -> None:
    """Write one manifest as the tar that ``docker load`` of any version and ``ctr images import`` take.

    Raises:
        SkerryError: IMAGE_015.
    """
    parts = list(parts_of(manifest))
    notes = {IMAGE_NAME: reference.text, REF_NAME: reference.tag or reference.text}
    entry = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.raw),
             "annotations": notes}
    docker = [{
        "Config": _inside(manifest.json["config"]["digest"]),
        "RepoTags": [f"{reference.name}:{reference.tag}"] if reference.tag else None,
        "Layers": [_inside(layer["digest"]) for layer in manifest.json["layers"]],
    }]
    small = {
        "oci-layout": _LAYOUT,
        "index.json": encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}),
        "manifest.json": encoded(docker),
        _inside(manifest.digest): manifest.raw,
    }
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in small.items():
            _add(tar, name, len(content), io.BytesIO(content))
        for part in sorted(parts, key=lambda part: str(part["digest"])):
            with layout.opened(part["digest"]) as stream:
                _add(tar, _inside(part["digest"]), part["size"], stream)


def _inside(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _add(tar: tarfile.TarFile, name: str, size: int, stream: BinaryIO) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    tar.addfile(entry, stream)


