"""Filling a mirror with what an inventory needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import Exit, SkerryError
from skerry.mirror.download import Progress, download, expected_digest
from skerry.mirror.lock import LOCAL, Entry, guarded, read, record
from skerry.mirror.plan import Artifact, Need
from skerry.mirror.store import digest_of, make_entry

#: Unfinished downloads, below the mirror; the next build carries on with them.
PARTIAL = ".partial"


@dataclass(frozen=True)
class Outcome:
    """What became of one artifact: ``state`` is present, downloaded, missing (optional, not to be had) or failed."""

    path: str
    state: str
    size: int
    sha256: str
    detail: str = ""
    remedy: str = ""


#: Called with the artifact's path before it is downloaded; gives the progress callback.
Watch = Callable[[str], Progress]


def _intact(mirror: Path, entry: Entry) -> bool:
    path = mirror / entry.path
    return path.is_file() and path.stat().st_size == entry.size and digest_of(path) == entry.sha256


def _refuse_if_other(artifact: Artifact, expected: str | None, known: Entry | None, actual: str) -> None:
    promised = expected or (known.sha256 if known and known.source == artifact.url else None)
    if promised and promised != actual:
        raise SkerryError(
            "MIRROR_010",
            f"{artifact.url} has sha256 {actual}, expected {promised}; it was not put into the mirror",
            "check the version and the checksum in your inventory, and for a proxy that alters downloads",
            Exit.FAILED,
        )


def _fetch(mirror: Path, artifact: Artifact, known: Entry | None, watch: Watch) -> Outcome:
    if not artifact.url:
        raise SkerryError(
            "MIRROR_008", f"{artifact.path} has no upstream address",
            f"put it there: skerry mirror add FILE --as {artifact.component} --version {artifact.version} "
            f"--arch {artifact.arch} --file {artifact.file}", Exit.FAILED,
        )
    expected = expected_digest(artifact.checksum, artifact.url)
    part = mirror / PARTIAL / hashlib.sha256(artifact.url.encode()).hexdigest()
    sha256, size = download(artifact.url, part, watch(artifact.path))
    try:
        _refuse_if_other(artifact, expected, known, sha256)
    except SkerryError:
        part.unlink()  # what was taken up from an earlier run may be the wrong half
        raise
    place = mirror / artifact.path
    place.parent.mkdir(parents=True, exist_ok=True)
    part.chmod(0o644)
    part.replace(place)
    detail = "" if expected else "upstream publishes no checksum; locked as it was downloaded"
    return Outcome(artifact.path, "downloaded", size, sha256, detail)


def _one(mirror: Path, artifact: Artifact, watch: Watch) -> Outcome:
    entry = make_entry(artifact.component, artifact.version, artifact.arch, artifact.file, "0" * 64, 0, artifact.url)
    known = read(mirror).index().get(entry.key)
    if known and _intact(mirror, known):
        detail = "your own file" if known.source == LOCAL else ""
        return Outcome(artifact.path, "present", known.size, known.sha256, detail)
    outcome = _fetch(mirror, artifact, known, watch)
    record(mirror, entry.model_copy(update={"sha256": outcome.sha256, "size": outcome.size}))
    return outcome


def build(mirror: Path, wanted: Iterable[Need], watch: Watch) -> list[Outcome]:
    """Bring everything that is wanted into the mirror; the lock is written after each file.

    One that fails does not stop the others. A second run downloads what is missing or damaged only.

    Raises:
        SkerryError: MIRROR_001, MIRROR_002 (the mirror itself cannot be read or written).
    """
    outcomes = []
    with guarded(mirror):
        for need in wanted:
            artifact = need.artifact
            try:
                outcomes.append(_one(mirror, artifact, watch))
            except SkerryError as error:
                if error.code in ("MIRROR_001", "MIRROR_002"):
                    raise
                state = "missing" if artifact.optional and error.code == "MIRROR_008" else "failed"
                cause = f"{error.code} {error.cause} (needed by {need.host})"
                outcomes.append(Outcome(artifact.path, state, 0, "", cause, error.remedy))
            except OSError as error:
                raise SkerryError(
                    "MIRROR_002", f"{error.filename or mirror} cannot be written: {error.strerror}",
                    f"check rights and free space of {mirror} (df -h), then run again", Exit.PREREQUISITE,
                ) from error
        partial = mirror / PARTIAL
        if partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()
    return outcomes
