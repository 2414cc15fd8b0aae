"""The kinds of things that a mirror is filled with: files of upstream (charts too) and images."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import Exit, SkerryError
from skerry.mirror import charts, oci
from skerry.mirror.charts import Chart
from skerry.mirror.download import Progress, download, expected_digest, remote_size
from skerry.mirror.lock import LOCAL, Entry, Key, read, record
from skerry.mirror.plan import Artifact
from skerry.mirror.reference import IMAGES, Reference
from skerry.mirror.store import digest_of, make_entry

#: Unfinished downloads, below the mirror; the next build carries on with them.
PARTIAL = ".partial"


@dataclass(frozen=True)
class Outcome:
    """What became of one thing.

    ``state`` is present, downloaded, rendered (a list that Helm showed), missing (optional, not to be had) or failed.
    """

    path: str
    state: str
    size: int
    sha256: str
    detail: str = ""
    remedy: str = ""


#: Called with the path of what is downloaded next; gives the progress callback.
Watch = Callable[[str], Progress]


def _intact(mirror: Path, entry: Entry) -> bool:
    path = mirror / entry.path
    return path.is_file() and path.stat().st_size == entry.size and digest_of(path) == entry.sha256


class Thing(ABC):
    """One thing for the mirror; ``host`` is some host that needs it."""

    host: str
    optional = False

    @property
    @abstractmethod
    def key(self) -> Key:
        """Its place in the lock."""

    @property
    def path(self) -> str:
        """Its place below the mirror's directory."""
        return "/".join(self.key)

    @abstractmethod
    def ask(self, known: Entry | None) -> int | None:
        """Bytes to download, None when upstream does not say.

        Raises:
            SkerryError: as for `bring`.
        """

    @abstractmethod
    def fetch(self, mirror: Path, known: Entry | None, watch: Watch) -> tuple[Entry, str]:
        """Bring it to its place: (its entry in the lock, what is to be said about it)."""

    def bring(self, mirror: Path, watch: Watch) -> Outcome:
        """Bring it into the mirror unless it is there, whole, and lock it.

        Raises:
            SkerryError: MIRROR_002, MIRROR_008 to MIRROR_010, MIRROR_013 to MIRROR_016.
        """
        make_entry(*self.key, "0" * 64, 0, "")  # names that cannot be part of a path are refused before anything else
        known = read(mirror).index().get(self.key)
        if known and _intact(mirror, known):
            detail = "your own file" if known.source == LOCAL else ""
            return Outcome(self.path, "present", known.size, known.sha256, detail)
        entry, detail = self.fetch(mirror, known, watch)
        record(mirror, entry)
        return Outcome(self.path, "downloaded", entry.size, entry.sha256, detail)


def _refuse_if_other(url: str, expected: str | None, known: Entry | None, actual: str) -> None:
    promised = expected or (known.sha256 if known and known.source == url else None)
    if promised and promised != actual:
        raise SkerryError(
            "MIRROR_010",
            f"{url} has sha256 {actual}, expected {promised}; it was not put into the mirror",
            "check the version and the checksum in your inventory, and for a proxy that alters downloads",
            Exit.FAILED,
        )


class File(Thing):
    """A file of upstream."""

    def __init__(self, artifact: Artifact, host: str) -> None:
        self.artifact = artifact
        self.host = host
        self.optional = artifact.optional

    @staticmethod
    def of_chart(chart: Chart, host: str, redirects: Mapping[str, str]) -> File:
        """A chart: its address and checksum are those that its repository names."""
        return _Chart(chart, host, redirects)

    @property
    def key(self) -> Key:
        artifact = self.artifact
        return (artifact.component, artifact.version, artifact.arch, artifact.file)

    def ask(self, known: Entry | None) -> int | None:
        return remote_size(self.artifact.url) if self.artifact.url else None

    def fetch(self, mirror: Path, known: Entry | None, watch: Watch) -> tuple[Entry, str]:
        artifact = self.artifact
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
            _refuse_if_other(artifact.url, expected, known, sha256)
        except SkerryError:
            part.unlink()  # what was taken up from an earlier run may be the wrong half
            raise
        self._place(mirror, part)
        detail = "" if expected else "upstream publishes no checksum; locked as it was downloaded"
        return make_entry(*self.key, sha256, size, artifact.url), detail

    def _place(self, mirror: Path, part: Path) -> None:
        place = mirror / self.path
        place.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(0o644)
        part.replace(place)


class _Chart(File):
    """A chart of a repository, or of an OCI registry."""

    def __init__(self, chart: Chart, host: str, redirects: Mapping[str, str]) -> None:
        super().__init__(
            Artifact(component=chart.chart, version=chart.version, arch="noarch", file=chart.file), host
        )
        self._chart = chart
        self._redirects = redirects

    def fetch(self, mirror: Path, known: Entry | None, watch: Watch) -> tuple[Entry, str]:
        url, checksum = charts.locate(self._chart, self._redirects)
        if not url.startswith("oci://"):
            self.artifact = self.artifact.model_copy(update={"url": url, "checksum": checksum})
            return super().fetch(mirror, known, watch)
        content = charts.oci_repository(self._chart, self._redirects).small(url.rpartition("@")[2])
        sha256 = hashlib.sha256(content).hexdigest()
        _refuse_if_other(url, None, known, sha256)
        part = mirror / PARTIAL / sha256
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        self._place(mirror, part)
        return make_entry(*self.key, sha256, len(content), url), ""


class Picture(Thing):
    """An image of one architecture, as an archive."""

    def __init__(self, reference: Reference, arch: str, host: str, redirects: Mapping[str, str]) -> None:
        self.reference = reference
        self.arch = arch
        self.host = host
        self._redirects = redirects
        self._image: oci.Image | None = None

    @property
    def key(self) -> Key:
        return (IMAGES, self.reference.version, self.arch, self.reference.file)

    def _looked_up(self, known: Entry | None) -> oci.Image:
        if self._image is None:
            # What is locked stays what it is, also when its tag moved on in the registry.
            locked = known.source.rpartition("@")[2] if known and known.source.startswith("docker://") else ""
            self._image = oci.look_up(self.reference, self.arch, self._redirects, locked)
        return self._image

    def ask(self, known: Entry | None) -> int | None:
        return self._looked_up(known).size

    def fetch(self, mirror: Path, known: Entry | None, watch: Watch) -> tuple[Entry, str]:
        image = self._looked_up(known)
        folder = mirror / PARTIAL / "images"
        oci.fetch(image, folder, self._redirects, watch(self.path))
        sha256, size = oci.write(image, folder, mirror / self.path)
        for blob in image.blobs:
            (folder / blob.digest.replace(":", "-")).unlink(missing_ok=True)
        return make_entry(*self.key, sha256, size, image.source), ""
