"""A registry as its clients see it (distribution specification 1.1): manifests and blobs, there and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests

from skerry.errors import Exit, SkerryError
from skerry.mirror.reference import Reference
from skerry.oci.kinds import INDEXES, MANIFESTS, SMALL, Content, content_of, digest_of
from skerry.oci.login import PASSWORD, USER, Access
from skerry.oci.session import ATTEMPTS, BROKEN, TIMEOUT, NoLoginError, Session, address

_CHUNK = 1 << 16
T = TypeVar("T")


class Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, access: Access, attempts: int = ATTEMPTS,
                 seconds: float = TIMEOUT[0]) -> None:
        """Nothing is asked yet. ``attempts``: how often, while it is busy or cannot be reached; ``seconds``: for a
        connection."""
        self.reference, self._access = reference, access
        self._attempts = attempts
        root = address(reference.registry, access.authority)
        self._base = f"{root}/v2/{reference.repository}/"
        self._session = Session(root, access.login, access.authority, attempts, seconds)

    def close(self) -> None:
        """End its connections."""
        self._session.close()

    def _refused(self, why: str) -> SkerryError:
        host = self.reference.registry
        return SkerryError(
            "IMAGE_024", f"{self.reference.name}: the registry {why}",
            f"check name and login: --user with --password-file, {USER} and {PASSWORD}, or docker login {host}",
            Exit.FAILED,
        )

    @contextmanager
    def _asked(self, method: str, path: str, fine: tuple[int, ...], **named: Any) -> Iterator[requests.Response]:
        """The answer to a request that is repeated while the registry is busy or the network broken."""
        try:
            answer = self._session.request(method, urljoin(self._base, path), **named)
        except requests.exceptions.SSLError as error:
            raise self._untrusted(error) from error
        except BROKEN as error:
            raise self._unreachable(str(error)) from error
        except NoLoginError as error:
            raise self._refused(str(error)) from error
        with answer:
            if answer.status_code not in fine:
                raise self._failed(method, path, answer)
            yield answer

    def _fetched(self, path: str, use: Callable[[requests.Response], T], **named: Any) -> T:
        """What ``use`` makes of an answer; asked again, from its start, when the connection breaks within it."""
        for attempt in range(self._attempts):
            try:
                with self._asked("GET", path, (200,), **named) as answer:
                    return use(answer)
            except BROKEN as error:
                if attempt + 1 == self._attempts:
                    raise self._unreachable(str(error)) from error
            self._session.wait(attempt)
        raise AssertionError("the loop returns")

    def _untrusted(self, error: Exception) -> SkerryError:
        return SkerryError(
            "IMAGE_025", f"{self.reference.registry}: its certificate is not trusted ({_short(str(error))})",
            "name the authority that signed it with --ca FILE or SKERRY_REGISTRY_CA; the registry role leaves it in "
            ".skerry/registry/<host>/ca.crt", Exit.UNREACHABLE,
        )

    def _unreachable(self, why: str) -> SkerryError:
        return SkerryError(
            "IMAGE_026", f"{self.reference.registry} cannot be reached ({_short(why)})",
            "check address, port and network, then run the same command again: what is there already is not sent again",
            Exit.UNREACHABLE,
        )

    def _failed(self, method: str, path: str, answer: requests.Response) -> SkerryError:
        what = path.partition("?")[0] if "://" not in path else "an upload"
        if answer.status_code in (401, 403):
            return self._refused(f"refuses {method} of {what} (HTTP {answer.status_code})")
        if answer.status_code == 404 and method in ("GET", "HEAD"):
            return SkerryError("IMAGE_027", f"{self.reference.name}: {what} is not there",
                               "check name and tag; skerry image push puts it there", Exit.FAILED)
        said = answer.raw.read(300, decode_content=True).decode("utf-8", "replace").strip()
        return SkerryError(
            "IMAGE_028", f"{self.reference.name}: {method} of {what} failed: HTTP {answer.status_code} {said}",
            "look into the registry's log (journalctl -u docker-registry): its disk is full, or it is read-only",
            Exit.FAILED,
        )

    def _other(self, what: str, actual: str) -> SkerryError:
        return SkerryError("IMAGE_029", f"{self.reference.name}: {what} came as {actual}; nothing was kept",
                           "run the same command again; if it stays so, the registry's data are damaged", Exit.FAILED)

    def manifest(self, what: str) -> Content:
        """A manifest or an index by tag or digest; by digest it is what the digest says.

        Raises:
            SkerryError: IMAGE_024 to IMAGE_029; IMAGE_022 when it is of no known type.
        """
        accept = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
        raw, said = self._fetched(
            f"manifests/{what}",
            lambda answer: (self._small(answer), answer.headers.get("Content-Type", "").partition(";")[0]),
            headers=accept,
        )
        if what.startswith("sha256:") and what != digest_of(raw):
            raise self._other(what, digest_of(raw))
        return content_of(raw, f"{self.reference.name} {what}", said)

    def digest(self, tag: str) -> str:
        """What a tag leads to, "" when it is not there. Raises IMAGE_024 to IMAGE_026, IMAGE_028."""
        accept = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
        with self._asked("HEAD", f"manifests/{tag}", (200, 404), headers=accept) as answer:
            return answer.headers.get("Docker-Content-Digest", "") if answer.status_code == 200 else ""

    def _small(self, answer: requests.Response) -> bytes:
        got = b""
        for chunk in answer.iter_content(_CHUNK):
            got += chunk
            if len(got) > SMALL:
                raise self._other("a manifest or configuration", f"more than {SMALL} bytes")
        return got

    def small(self, digest: str) -> bytes:
        """A blob that fits into memory, checked. Raises IMAGE_024 to IMAGE_029."""
        raw = self._fetched(f"blobs/{digest}", self._small)
        if digest_of(raw) != digest:
            raise self._other(digest, digest_of(raw))
        return raw

    def blob(self, digest: str, size: int, keep: Callable[[Iterator[bytes]], bool]) -> None:
        """Download a blob of ``size`` bytes into ``keep``, which says whether it has that digest.

        Raises:
            SkerryError: IMAGE_024 to IMAGE_029.
        """

        def no_more(chunks: Iterator[bytes]) -> Iterator[bytes]:
            got = 0
            for chunk in chunks:
                got += len(chunk)
                if got > size:  # it may never end
                    raise self._other(digest, f"more than its {size} bytes")
                yield chunk

        if not self._fetched(f"blobs/{digest}", lambda answer: keep(no_more(answer.iter_content(_CHUNK)))):
            raise self._other(digest, "something else")

    def has(self, digest: str) -> bool:
        """Whether a blob is there. Raises IMAGE_024 to IMAGE_026, IMAGE_028."""
        with self._asked("HEAD", f"blobs/{digest}", (200, 404)) as answer:
            return answer.status_code == 200

    def put_blob(self, digest: str, body: Callable[[], BinaryIO]) -> None:
        """Upload a blob; ``body`` opens it, once for each try. Raises IMAGE_024 to IMAGE_026, IMAGE_028."""
        with self._asked("POST", "blobs/uploads/", (202,)) as begun:
            place = urljoin(begun.url, begun.headers["Location"])
        place += f"{'&' if urlsplit(place).query else '?'}digest={quote(digest)}"
        kind = {"Content-Type": "application/octet-stream"}
        with self._asked("PUT", place, (201,), headers=kind, body=body):
            pass

    def put_manifest(self, name: str, content: Content) -> None:
        """Put a manifest or an index under a tag or its digest. Raises IMAGE_024 to IMAGE_026, IMAGE_028, IMAGE_029."""
        kind = {"Content-Type": content.media_type}
        with self._asked("PUT", f"manifests/{name}", (201,), headers=kind, data=content.raw) as answer:
            there = answer.headers.get("Docker-Content-Digest") or content.digest
        if there != content.digest:
            raise self._other(content.digest, there)


def _short(text: str) -> str:
    """What OpenSSL or the system said, out of the wrappings of the HTTP client."""
    found = re.search(r"\[SSL[^\]]*\] ([^(]+)|(\[Errno -?\d+\] [^'\")]+)|(timed out)", text)
    return next((part.strip() for part in found.groups() if part), text[:200]) if found else text[:200]
