"""Putting files into a mirror and checking what lies there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from skerry.errors import Exit, SkerryError
from skerry.mirror.archive import expect
from skerry.mirror.lock import GUARD_NAME, LOCAL, LOCK_NAME, Entry, guarded, read, record
from skerry.mirror.reference import IMAGES, parse

CHUNK = 1 << 20


@dataclass(frozen=True)
class Finding:
    """What `verify` found about one file: ``state`` is ok, missing, size, checksum or unknown (not in the lock)."""

    path: str
    state: str
    detail: str = ""


def make_entry(component: str, version: str, arch: str, file: str, sha256: str, size: int, source: str) -> Entry:
    """A validated entry.

    Raises:
        SkerryError: MIRROR_003 for names that cannot be part of a path, or an unknown architecture.
    """
    try:
        return Entry.model_validate({
            "component": component, "version": version, "arch": arch, "file": file,
            "sha256": sha256, "size": size, "source": source,
        })
    except ValidationError as error:
        first = error.errors()[0]
        raise SkerryError(
            "MIRROR_003",
            f"{first['loc'][0]} {first['input']!r}: {first['msg']}",
            "give plain names; the architecture is amd64, arm64, arm or noarch",
        ) from error


@contextmanager
def beside(place: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in the folder of ``place``; it is removed when the block fails.

    Raises:
        SkerryError: MIRROR_002 when it cannot be written (rights, full disk).
    """
    path: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".mirror.", dir=place.parent)
        path = Path(name)
        with os.fdopen(handle, "w+b") as stream:
            yield stream, path
            stream.flush()
            os.fsync(stream.fileno())
        path.chmod(0o644)
        path.replace(place)
    except OSError as error:
        raise SkerryError(
            "MIRROR_002",
            f"{place} cannot be written: {error.strerror or error}",
            f"check rights and free space of {place.parent} (df -h), then run again",
            Exit.PREREQUISITE,
        ) from error
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def add(mirror: Path, file: Path, component: str, version: str, arch: str, name: str | None = None) -> Entry:
    """Copy a file of one's own into the mirror and lock it.

    Args:
        mirror: the mirror's directory; made when it is not there.
        name: the file's name in the mirror; the component's when None.

    Raises:
        SkerryError: MIRROR_003 (bad names), MIRROR_004 (the file cannot be read), MIRROR_002 (cannot be written).
    """
    name = name or component
    entry = make_entry(component, version, arch, name, "0" * 64, 0, LOCAL)
    try:
        source = file.open("rb")
    except OSError as error:
        raise SkerryError("MIRROR_004", f"{file}: {error.strerror}", "name a file that can be read") from error
    digest, size = hashlib.sha256(), 0
    with source, guarded(mirror):
        with beside(mirror / entry.path) as (stream, _):
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                stream.write(chunk)
        entry = make_entry(component, version, arch, name, digest.hexdigest(), size, LOCAL)
        record(mirror, entry)
    return entry


def put(mirror: Path, content: bytes, component: str, version: str, arch: str, name: str, source: str) -> Entry:
    """Write a small file of known content into the mirror and lock it (the caller holds `guarded`).

    Raises:
        SkerryError: MIRROR_002, MIRROR_003.
    """
    entry = make_entry(component, version, arch, name, hashlib.sha256(content).hexdigest(), len(content), source)
    with beside(mirror / entry.path) as (stream, _):
        stream.write(content)
    record(mirror, entry)
    return entry


def add_image(mirror: Path, file: Path, image: str, arch: str | None = None) -> Entry:
    """Copy an archive of an image into the mirror and lock it.

    Args:
        image: the image's reference; the archive has to hold it.
        arch: its architecture; read from the archive when None.

    Raises:
        SkerryError: MIRROR_011 (no reference), MIRROR_012 (the archive holds something else), and those of `add`.
    """
    reference = parse(image)
    arch = expect(file, reference, arch)
    return add(mirror, file, IMAGES, reference.version, arch, reference.file)


def _check(mirror: Path, entry: Entry) -> Finding:
    path = mirror / entry.path
    if not path.is_file():
        return Finding(entry.path, "missing", "not there")
    size = path.stat().st_size
    if size != entry.size:
        return Finding(entry.path, "size", f"{size} bytes, the lock says {entry.size}")
    actual = digest_of(path)
    if actual != entry.sha256:
        return Finding(entry.path, "checksum", f"sha256 {actual}, the lock says {entry.sha256}")
    return Finding(entry.path, "ok")


def verify(mirror: Path) -> Iterator[Finding]:
    """Compare every file of a mirror with its lock, in order; files that the lock does not know come last.

    Raises:
        SkerryError: MIRROR_001 (no lock can be read), MIRROR_005 (no mirror there).
    """
    if not (mirror / LOCK_NAME).is_file():
        raise SkerryError(
            "MIRROR_005", f"{mirror} is no mirror: it has no {LOCK_NAME}", "fill one with `skerry mirror build`"
        )
    lock = read(mirror)
    for entry in lock.artifacts:
        yield _check(mirror, entry)
    known = {entry.path for entry in lock.artifacts} | {LOCK_NAME, GUARD_NAME}
    for path in sorted(mirror.rglob("*")):
        relative = path.relative_to(mirror).as_posix()
        if path.is_file() and relative not in known and not relative.startswith(".partial/"):
            yield Finding(relative, "unknown", "not in the lock; roles will not use it")
