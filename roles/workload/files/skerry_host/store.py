"""Files of workloads by their SHA-256: written once, verified before each start, removed when no one refers to them."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from . import places
from .faults import HostError

_CHUNK = 1 << 18


def path(digest: str) -> Path:
    """Where a file with that digest lies, or would."""
    return places.STORE / digest


def lacking(digests: Iterable[str]) -> list[str]:
    """Those that are not here."""
    return sorted({digest for digest in digests if not path(digest).exists()})


def take(source: BinaryIO, digest: str, packed: int) -> None:
    """Read a zlib stream of ``packed`` bytes from ``source`` into the store.

    Raises:
        HostError: HOST_001 what came is not what was announced; HOST_002 no room.
    """
    places.STORE.mkdir(parents=True, exist_ok=True)
    part = places.STORE / f".{digest}.{os.getpid()}"
    unpacker, found = zlib.decompressobj(), hashlib.sha256()
    try:
        with open(part, "wb") as file:
            while packed:
                data = source.read(min(_CHUNK, packed))
                if not data:
                    raise HostError("HOST_001", "the connection ended within a file", "deploy again")
                packed -= len(data)
                for piece in (unpacker.decompress(data), unpacker.flush() if not packed else b""):
                    found.update(piece)
                    file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if found.hexdigest() != digest:
            raise HostError("HOST_001", f"a file arrived damaged: {digest[:16]} was announced", "deploy again")
        os.chmod(part, 0o444)
        os.replace(part, path(digest))
    except OSError as error:
        raise HostError("HOST_002", f"{places.STORE}: {error.strerror}", "free space, then deploy again") from error
    finally:
        if part.exists():
            part.unlink()


def verify(digest: str) -> None:
    """Raises HostError (HOST_003) when a file is not there or not what its name says."""
    found = hashlib.sha256()
    try:
        with open(path(digest), "rb") as file:
            while True:
                data = file.read(_CHUNK)
                if not data:
                    break
                found.update(data)
    except OSError as error:
        raise HostError("HOST_003", f"{path(digest)}: {error.strerror}", "deploy the workload again") from error
    if found.hexdigest() != digest:
        raise HostError("HOST_003", f"{path(digest)} was changed on this host", "deploy the workload again")


def collect(used: set[str]) -> list[str]:
    """Remove what nothing refers to; the digests that went."""
    if not places.STORE.is_dir():
        return []
    gone = []
    for entry in sorted(places.STORE.iterdir()):
        if entry.name not in used:
            entry.unlink()
            gone.append(entry.name)
    return gone
