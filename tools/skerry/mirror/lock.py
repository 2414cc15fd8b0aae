"""The mirror's lock (mirror.lock.json): what lies in a mirror, with sizes and checksums.

Layout of a mirror: ``<component>/<version>/<arch>/<file>`` below its directory; architectures are amd64, arm64, arm
(32-bit) and noarch. The roles' module skerry.edge.artifact reads the same file.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from skerry.errors import Exit, SkerryError

LOCK_NAME = "mirror.lock.json"
GUARD_NAME = ".mirror.guard"
#: ``source`` of a file that a person put there; of such a file the lock alone says what it has to be.
LOCAL = "local"

Arch = Literal["amd64", "arm64", "arm", "noarch"]
Key = tuple[str, str, str, str]


class Entry(BaseModel):
    """One file of a mirror. ``size`` is in bytes, ``sha256`` 64 lower-case hex digits, ``source`` a URL or "local"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: str
    version: str
    arch: Arch
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    source: str

    @field_validator("component", "version", "file")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value or value in (".", "..") or "/" in value or "\0" in value or value.startswith(".mirror"):
            raise ValueError("must be a plain name, without slashes")
        return value

    @property
    def key(self) -> Key:
        """What identifies the file in the mirror."""
        return (self.component, self.version, self.arch, self.file)

    @property
    def path(self) -> str:
        """Where it lies, below the mirror's directory."""
        return "/".join(self.key)


class Lock(BaseModel):
    """The whole file; entries are sorted and unique."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    artifacts: list[Entry] = []

    def index(self) -> dict[Key, Entry]:
        """Entries by their keys."""
        return {entry.key: entry for entry in self.artifacts}


def read(mirror: Path) -> Lock:
    """Read a mirror's lock; a directory without one is an empty mirror.

    Raises:
        SkerryError: MIRROR_001 when the file is no lock.
    """
    path = mirror / LOCK_NAME
    try:
        lock = Lock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Lock()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SkerryError(
            "MIRROR_001",
            f"{path} is no mirror lock: {where} {first['msg']}",
            f"move {path} away and fill the mirror again with `skerry mirror build`",
        ) from error
    if len(lock.index()) != len(lock.artifacts):
        raise SkerryError(
            "MIRROR_001", f"{path} names a file twice", f"move {path} away and run `skerry mirror build` again"
        )
    return lock


def write(mirror: Path, entries: list[Entry]) -> None:
    """Replace the lock in one step; a reader sees the old one or the new one, whole."""
    entries = sorted(entries, key=lambda entry: entry.key)
    text = json.dumps({"format": 1, "artifacts": [entry.model_dump() for entry in entries]}, indent=1) + "\n"
    handle, beside = tempfile.mkstemp(prefix=".mirror.lock.", dir=mirror)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).chmod(0o644)
        Path(beside).replace(mirror / LOCK_NAME)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def record(mirror: Path, entry: Entry) -> None:
    """Add or replace one entry (the caller holds `guarded`)."""
    known = read(mirror).index()
    known[entry.key] = entry
    write(mirror, list(known.values()))


@contextmanager
def guarded(mirror: Path) -> Iterator[None]:
    """Make the mirror's directory and hold its guard: two commands at once change the lock one after the other."""
    try:
        mirror.mkdir(parents=True, exist_ok=True)
        guard = (mirror / GUARD_NAME).open("w")
    except OSError as error:
        raise SkerryError(
            "MIRROR_002",
            f"{mirror} cannot be written: {error.strerror}",
            "choose another directory with --dir or SKERRY_MIRROR",
            Exit.PREREQUISITE,
        ) from error
    with guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
