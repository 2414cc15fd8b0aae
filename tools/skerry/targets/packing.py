"""Files on their way to hosts: their digests, and one zlib stream that all hosts share."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from skerry import paths

_CHUNK = 1 << 20
#: Files from this size on are worth a compressed copy in the cache.
_KEEP = 4 << 20
_lock = threading.Lock()
_digests: dict[tuple[str, int, int], str] = {}


def digest_of(path: Path) -> str:
    """SHA-256 of a file; remembered while it does not change."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    with _lock:
        if key not in _digests:
            with path.open("rb") as file:
                _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return _digests[key]


def compressed(data: bytes) -> Iterator[bytes]:
    """The pieces of one zlib stream of ``data``."""
    packer = zlib.compressobj(1)
    for start in range(0, len(data), _CHUNK):
        if piece := packer.compress(data[start : start + _CHUNK]):
            yield piece
    yield packer.flush()


def compressed_file(path: Path, digest: str) -> Iterator[bytes]:
    """The pieces of one zlib stream of a file; a large one is compressed once and kept in the cache."""
    if path.stat().st_size < _KEEP:
        yield from compressed(path.read_bytes())
        return
    kept = paths.cache() / "packed" / f"{digest}.z"
    with _lock:
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{os.getpid()}")
            with part.open("wb") as file:
                file.writelines(compressed(path.read_bytes()))
            part.replace(kept)
    with kept.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece
