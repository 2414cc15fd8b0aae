"""Reading OCI registries: manifests and blobs, by digest. Names, logins and tokens are the ORAS client's work."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oras.container
import oras.provider
import requests
import requests.adapters

from skerry.errors import Exit, SkerryError
from skerry.mirror.download import ATTEMPTS, Progress

ACCEPT = ", ".join((
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
))
TIMEOUT = (10.0, 60.0)
#: What a broken connection loses at most.
CHUNK = 1 << 16
_HUB = "registry-1.docker.io"
_HUB_LOGIN = "https://index.docker.io/v1/"
_NETWORK = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, ConnectionError)
_BUSY = (429, 500, 502, 503, 504)


class _Patient(requests.adapters.HTTPAdapter):
    """Every request has a deadline; the ORAS client gives none."""

    def send(self, request: requests.PreparedRequest, *words: Any, **named: Any) -> requests.Response:
        named["timeout"] = named.get("timeout") or TIMEOUT
        return super().send(request, *words, **named)


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index: ``raw`` is what ``digest`` (sha256:<hex>) is of; ``media_type`` as it calls itself."""

    raw: bytes
    digest: str
    media_type: str

    @property
    def content(self) -> dict[str, Any]:
        """It as JSON."""
        content: dict[str, Any] = json.loads(self.raw)
        return content


def endpoint(registry: str, redirects: Mapping[str, str]) -> str:
    """The address of a registry, with the prefix of its repositories where it is redirected to a cache."""
    if registry in redirects:
        return redirects[registry].rstrip("/")
    if registry == "docker.io":
        return f"https://{_HUB}"
    host = registry.partition(":")[0]
    return f"http://{registry}" if host in ("localhost", "127.0.0.1") else f"https://{registry}"


class Repository:
    """One repository of a registry. Logins come from ~/.docker/config.json, where `docker login` leaves them."""

    def __init__(self, registry: str, repository: str, redirects: Mapping[str, str]) -> None:
        scheme, _, rest = endpoint(registry, redirects).partition("://")
        host, _, prefix = rest.partition("/")
        self.name = f"{registry}/{repository}"
        self._base = f"{scheme}://{host}/v2/{prefix + '/' if prefix else ''}{repository}"
        self._origin = f"{scheme}://{host}/v2/"
        self._login = host if registry in redirects or registry != "docker.io" else _HUB_LOGIN
        self._insecure = scheme == "http"
        self._client: Any = None

    def _connected(self) -> Any:
        if self._client is None:
            with requests.get(self._origin, timeout=TIMEOUT) as answer:
                basic = answer.headers.get("Www-Authenticate", "").lower().startswith("basic")
            client = oras.provider.Registry(insecure=self._insecure, auth_backend="basic" if basic else "token")
            for scheme in ("https://", "http://"):
                client.session.mount(scheme, _Patient())
            if basic:
                client.auth.set_basic_auth("", "")  # without any login the client would break
            login = oras.container.Container("any")
            login.registry = self._login
            client.auth.load_configs(login)
            self._client = client
        return self._client

    def _ask(self, path: str, headers: dict[str, str], stream: bool) -> requests.Response:
        client = self._connected()
        # The client's own retries take minutes without a word; `_get` has ours.
        request = oras.provider.Registry.do_request.__wrapped__

        def ask(url: str) -> requests.Response:
            answer: requests.Response = request(client, url, "GET", headers=dict(headers), stream=stream)
            return answer

        response = ask(f"{self._base}/{path}")
        if response.status_code == 401 and getattr(client.auth, "token", None):
            client.auth.token = None  # it was good once, and has expired in a long download
            response = ask(f"{self._base}/{path}")
        if response.status_code == 401 and response.history:
            # A front that leads to another registry: tokens do not go along over a redirect.
            client.auth.token = None
            response = ask(response.url)
        return response

    @contextmanager
    def _get(self, path: str, headers: dict[str, str], what: str, stream: bool = False) -> Iterator[requests.Response]:
        for attempt in range(ATTEMPTS):
            last = attempt + 1 == ATTEMPTS
            try:
                response = self._ask(path, headers, stream)
            except _NETWORK as error:
                if last:
                    raise self._failed(what, str(error)) from error
            except ValueError as error:  # how the client says that it has no answer to a login
                raise self._refused(what, str(error)) from error
            else:
                if response.status_code not in _BUSY or last:
                    break
                response.close()
            time.sleep(2**attempt / 2)
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

    def manifest(self, what: str, digest: str = "") -> Manifest:
        """A manifest by tag or digest; its content is what ``digest`` promises, if given.

        Raises:
            SkerryError: MIRROR_013 (not there, no network), MIRROR_014 (refused), MIRROR_010 (other content).
        """
        label = what if what.startswith("sha256:") else f"tag {what}"
        with self._get(f"manifests/{what}", {"Accept": ACCEPT}, label) as response:
            raw = response.content
            actual = "sha256:" + hashlib.sha256(raw).hexdigest()
            said = response.headers.get("Content-Type", "").partition(";")[0]
        promised = digest or (what if what.startswith("sha256:") else "")
        if promised and promised != actual:
            raise self._other(what, actual, promised)
        try:
            media_type = str(json.loads(raw).get("mediaType") or said)
        except (ValueError, AttributeError) as error:
            raise self._failed(what, "its manifest is no JSON object") from error
        return Manifest(raw, actual, media_type)

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
        actual = "sha256:" + hashlib.sha256(content).hexdigest()
        if actual != digest:
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
            except _NETWORK as error:
                if attempt + 1 == ATTEMPTS:
                    raise self._failed(digest, str(error)) from error
                time.sleep(2**attempt / 2)
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
        with self._get(f"blobs/{digest}", headers, digest, stream=True) as response:
            partial = response.status_code == requests.codes.partial_content
            done = done if partial else 0
            with part.open("ab" if partial else "wb") as stream:
                for chunk in response.iter_content(CHUNK):
                    stream.write(chunk)
                    done += len(chunk)
                    progress(done, size)
        if done < size:
            raise ConnectionError(f"the connection broke after {done} of {size} bytes")
