"""The session's files on the host: content-addressed, private, gone with the session."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

from .faults import ProbeError, disk_full


class Store:
    """Files by the SHA-256 of their content, below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._incoming: _Incoming | None = None

    def path(self, digest: str) -> Path:
        """Where a file is.

        Raises:
            ProbeError: it was never put.
        """
        path = self.directory / digest
        if not path.is_file():
            raise ProbeError("PROBE_003", f"file {digest[:12]} was not sent to the host", "report this as a bug")
        return path

    def has(self, digest: str) -> bool:
        return (self.directory / digest).is_file()

    def add(self, data: bytes) -> str:
        """Put bytes that were made here; their digest."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.directory / digest
        if not path.is_file():
            try:
                path.with_suffix(".part").write_bytes(data)
                os.rename(path.with_suffix(".part"), path)
            except OSError as error:
                raise disk_full(str(self.directory), error) from error
        return digest

    def take(self, header: dict[str, Any], payload: bytes) -> bool:
        """A piece of a file (``digest``, ``last``; pieces are one zlib stream); True when the file is whole.

        Raises:
            ProbeError: the disk is full, or the content is not what its digest says.
        """
        digest = str(header["digest"])
        if self._incoming is None or self._incoming.digest != digest:
            self._incoming = _Incoming(self.directory, digest)
        if not header.get("last"):
            self._incoming.write(payload)
            return False
        incoming, self._incoming = self._incoming, None
        incoming.write(payload)
        incoming.finish()
        return True


class _Incoming:
    """A file while it comes."""

    def __init__(self, directory: Path, digest: str) -> None:
        self.digest = digest
        self.path = directory / (digest + ".part")
        self._hash = hashlib.sha256()
        self._plain = zlib.decompressobj()
        self._fault: ProbeError | None = None
        self.path.unlink(missing_ok=True)

    def write(self, payload: bytes) -> None:
        if self._fault is not None:  # pieces after a failure are dropped; the last one tells
            return
        data = self._plain.decompress(payload)
        self._hash.update(data)
        try:
            with self.path.open("ab") as file:
                file.write(data)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            self._fault = disk_full(str(self.path.parent), error)

    def finish(self) -> None:
        if self._fault is not None:
            raise self._fault
        if self._hash.hexdigest() != self.digest:
            self.path.unlink()
            raise ProbeError("PROBE_004", f"file {self.digest[:12]} came damaged", "run the same command again")
        if not self.path.exists():  # an empty file has no pieces
            self.path.touch()
        os.chmod(self.path, 0o555)
        os.rename(self.path, self.path.with_suffix(""))
