"""A registry as its clients see it (distribution specification 1.1): manifests and blobs, there and back.

Certificates are always checked. Only a registry on this machine, for which no authority is known, is asked without TLS;
so no password crosses a network in the clear.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests

from skerry.errors import Exit, SkerryError
from skerry.mirror.reference import Reference
from skerry.oci.kinds import INDEXES, MANIFESTS, SMALL, Content, content_of, digest_of
from skerry.oci.login import PASSWORD, USER, Access

#: Seconds for a connection, and between two pieces of an answer.
TIMEOUT = (10.0, 60.0)
ATTEMPTS = 4
_CHUNK = 1 << 16
_BUSY = (429, 500, 502, 503, 504)
_HUB = "registry-1.docker.io"
_HERE = ("localhost", "127.0.0.1", "::1")
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
T = TypeVar("T")
_PART = re.compile(r'(\w+)="([^"]*)"')


def address(registry: str, access: Access) -> str:
    """Where a registry answers: https://host[:port], or http:// for one on this machine without an authority."""
    host = registry.rpartition(":")[0] or registry
    plain = host in _HERE and access.authority is None
    return f"{'http' if plain else 'https'}://{_HUB if registry == 'docker.io' else registry}"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, access: Access, attempts: int = ATTEMPTS,
                 seconds: float = TIMEOUT[0]) -> None:
        """Nothing is asked yet. ``attempts``: how often, while it is busy or cannot be reached; ``seconds``: for a
        connection."""
        self.reference, self._access = reference, access
        self._attempts, self._timeout = attempts, (seconds, TIMEOUT[1])
        self._root = address(reference.registry, access)
        self._base = f"{self._root}/v2/{reference.repository}/"
        self._words: str | None = None  # of the header Authorization, once the registry has asked for it
        self._session = requests.Session()
        self._session.auth = _unchanged

    def close(self) -> None:
        """End its connections."""
        self._session.close()

    def _send(self, method: str, url: str, **named: Any) -> requests.Response:
        """One request, after a login where one is asked for; the answer whatever it says."""
        led = ""  # a token for where a redirect leads
        for last in (False, True):
            headers = dict(named.get("headers") or {})
            if words := led or (self._words if _origin(url) == _origin(self._root) else ""):
                headers["Authorization"] = words
            body: Callable[[], BinaryIO] | None = named.get("body")
            answer = self._session.request(
                method, url, headers=headers, data=body() if body else named.get("data"), timeout=self._timeout,
                verify=str(self._access.authority) if self._access.authority else True, stream=True,
                params=named.get("params"),
            )
            challenge = answer.headers.get("Www-Authenticate", "")
            if answer.status_code != 401 or last or not challenge:
                return answer
            answer.close()
            if _origin(answer.url) == _origin(self._root):
                self._words = self._login(challenge, self._access.login)
            elif method in ("GET", "HEAD"):
                # A front that leads to another registry: that one is asked itself, and hears nothing of our password.
                url, led = answer.url, self._login(challenge, None)
            else:
                return answer
        raise AssertionError("the loop returns")

    def _login(self, challenge: str, known: tuple[str, str] | None) -> str:
        """The header with which the registry lets us in, as far as we know."""
        kind, _, rest = challenge.partition(" ")
        basic = "Basic " + base64.b64encode(":".join(known).encode()).decode() if known else ""
        if kind.lower() == "basic":
            if not basic:
                raise self._refused("asks for a login, and there is none")
            return basic
        asked = dict(_PART.findall(rest))
        realm = asked.pop("realm", "")
        where = urlsplit(realm)
        if kind.lower() != "bearer" or (where.scheme != "https" and where.hostname not in _HERE):
            raise self._refused(f"asks for a login of an unknown kind ({kind} {realm})")
        answer = self._session.get(
            realm, params=asked, headers={"Authorization": basic} if basic else {}, timeout=self._timeout,
            verify=str(self._access.authority) if self._access.authority else True,
        )
        try:
            said = answer.json() if answer.status_code == 200 else {}
            token = said.get("token") or said.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not token:
            raise self._refused(f"gives no token (HTTP {answer.status_code})")
        return f"Bearer {token}"

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
        url = urljoin(self._base, path)
        for attempt in range(self._attempts):
            last = attempt + 1 == self._attempts
            try:
                answer = self._send(method, url, **named)
            except requests.exceptions.SSLError as error:
                raise self._untrusted(error) from error
            except _BROKEN as error:
                if last:
                    raise self._unreachable(str(error)) from error
            else:
                if answer.status_code not in _BUSY or last:
                    break
                answer.close()
            time.sleep(2**attempt / 4)
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
            except _BROKEN as error:
                if attempt + 1 == self._attempts:
                    raise self._unreachable(str(error)) from error
            time.sleep(2**attempt / 4)
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


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """In the place of a login of the client's own choice: without it, ~/.netrc would replace ours."""
    return request


def _short(text: str) -> str:
    """What OpenSSL or the system said, out of the wrappings of the HTTP client."""
    found = re.search(r"\[SSL[^\]]*\] ([^(]+)|(\[Errno -?\d+\] [^'\")]+)|(timed out)", text)
    return next((part.strip() for part in found.groups() if part), text[:200]) if found else text[:200]
