"""Reading OCI registries: manifests and blobs, by digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from skerry.errors import Exit, SkerryError
from skerry.mirror.download import ATTEMPTS, Progress
from skerry.oci.kinds import INDEXES, MANIFESTS, Content, digest_of
from skerry.oci.login import of_docker
from skerry.oci.session import BROKEN, NoLoginError, Session, address

#: What a broken connection loses at most.
CHUNK = 1 << 16


def endpoint(registry: str, redirects: Mapping[str, str]) -> str:
    """The address of a registry, with the prefix of its repositories where it is redirected to a cache."""
    return redirects[registry].rstrip("/") if registry in redirects else address(registry)


class Repository:
    """One repository of a registry. Logins come from ~/.docker/config.json, where `docker login` leaves them."""

    def __init__(self, registry: str, repository: str, redirects: Mapping[str, str]) -> None:
        scheme, _, rest = endpoint(registry, redirects).partition("://")
        host, _, prefix = rest.partition("/")
        self.name = f"{registry}/{repository}"
        self._base = f"{scheme}://{host}/v2/{prefix + '/' if prefix else ''}{repository}"
        self._root, self._login = f"{scheme}://{host}", host if registry in redirects else registry
        self._connection: Session | None = None

    @property
    def _session(self) -> Session:
        if self._connection is None:
            self._connection = Session(self._root, of_docker(self._login), None, ATTEMPTS)
        return self._connection

    @contextmanager
    def _get(self, path: str, headers: dict[str, str], what: str) -> Iterator[requests.Response]:
        try:
            response = self._session.request("GET", f"{self._base}/{path}", headers=headers)
        except BROKEN as error:
            raise self._failed(what, str(error)) from error
        except NoLoginError as error:
            raise self._refused(what, str(error)) from error
        with response:
            if response.status_code in (401, 403):
                raise self._refused(what, f"HTTP {response.status_code}")
            if response.status_code >= 400:
                raise self._failed(what, f"HTTP {response.status_code}")
            yield response

    def _failed(self, what: str, reason: str) -> SkerryError:
        if reason == "HTTP 429":
            reason = "HTTP 429: too many requests; with docker login some registries allow more"
        return SkerryError(
            "MIRROR_013", f"{self.name}: {what} could not be had ({reason})",
            "check name, tag and network, then run the same command again: it carries on where it stopped; "
            "--registry HOST=URL names a cache to ask instead", Exit.FAILED,
        )

    def _refused(self, what: str, reason: str) -> SkerryError:
        return SkerryError(
            "MIRROR_014", f"{self.name}: the registry refuses {what} ({reason})",
            f"check the name; for a private repository: docker login {self.name.partition('/')[0]}", Exit.FAILED,
        )

    def manifest(self, what: str, digest: str = "") -> Content:
        """A manifest by tag or digest; its content is what ``digest`` promises, if given.

        Raises:
            SkerryError: MIRROR_013 (not there, no network), MIRROR_014 (refused), MIRROR_010 (other content).
        """
        label = what if what.startswith("sha256:") else f"tag {what}"
        with self._get(f"manifests/{what}", {"Accept": ", ".join((*INDEXES, *MANIFESTS))}, label) as response:
            raw = response.content
            actual = digest_of(raw)
            said = response.headers.get("Content-Type", "").partition(";")[0]
        promised = digest or (what if what.startswith("sha256:") else "")
        if promised and promised != actual:
            raise self._other(what, actual, promised)
        try:
            media_type = str(json.loads(raw).get("mediaType") or said)
        except (ValueError, AttributeError) as error:
            raise self._failed(what, "its manifest is no JSON object") from error
        return Content(raw, actual, media_type)

    def _other(self, what: str, actual: str, promised: str) -> SkerryError:
        return SkerryError(
            "MIRROR_010", f"{self.name}: {what} has {actual}, expected {promised}; it was not put into the mirror",
            "check the digest in your inventory, and for a proxy that alters downloads", Exit.FAILED,
        )

    def small(self, digest: str) -> bytes:
        """A blob that fits into memory: a configuration, a chart.

        Raises:
            SkerryError: MIRROR_010, MIRROR_013, MIRROR_014.
        """
        with self._get(f"blobs/{digest}", {}, digest) as response:
            content = response.content
        if (actual := digest_of(content)) != digest:
            raise self._other(digest, actual, digest)
        return content

    def blob(self, digest: str, size: int, part: Path, progress: Progress) -> None:
        """Download a blob to ``part``, taking up what an earlier try left there.

        Raises:
            SkerryError: MIRROR_013, MIRROR_014; MIRROR_010 when the content is not what the digest promises.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            try:
                self._rest(digest, size, part, progress)
                break
            except (*BROKEN, ConnectionError) as error:
                if attempt + 1 == ATTEMPTS:
                    raise self._failed(digest, str(error)) from error
                self._session.wait(attempt)
        with part.open("rb") as stream:
            actual = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != digest:
            part.unlink()  # what was taken up may be the wrong half
            raise self._other(digest, actual, digest)

    def _rest(self, digest: str, size: int, part: Path, progress: Progress) -> None:
        done = part.stat().st_size if part.exists() else 0
        if done >= size and part.exists():
            progress(done, size)
            return
        headers = {"Range": f"bytes={done}-"} if done else {}
        with self._get(f"blobs/{digest}", headers, digest) as response:
            partial = response.status_code == requests.codes.partial_content
            done = done if partial else 0
            with part.open("ab" if partial else "wb") as stream:
                for chunk in response.iter_content(CHUNK):
                    stream.write(chunk)
                    done += len(chunk)
                    progress(done, size)
        if done < size:
            raise ConnectionError(f"the connection broke after {done} of {size} bytes")
