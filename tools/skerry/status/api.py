"""A reader of the Kubernetes API: raw JSON, page after page, with a deadline; nothing is kept that is not wanted.

The official client makes an object of some hundred fields of each pod, which costs 10,000 pods 30 s and 500 MB. Here a
page is decoded, reduced and forgotten, and while it is decoded the server makes the next one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from skerry.status.kubeconfig import Access

#: Objects in a page: some 2 MB of pods.
PAGE = 500
_CHUNK = 1 << 18
#: The head of a list holds its metadata: Go writes a list's fields in their order, items last.
_CONTINUE = re.compile(rb'^\{.{0,400}?"continue":"((?:[^"\\]|\\.)*)"', re.DOTALL)
_HEAD = 4096


class ApiError(Exception):
    """The API server did not give what was asked; ``status`` is HTTP's, 0 when there was no answer at all."""

    def __init__(self, status: int, said: str, kind: str = "") -> None:
        super().__init__(said)
        self.status, self.said, self.kind = status, said, kind


def _why(error: Exception, server: str) -> ApiError:
    """What became of a connection, in one word for rules (``kind``) and in words for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ApiError(0, f"{server}: its certificate is not trusted: {error.verify_message}", "untrusted")
    if isinstance(error, ssl.SSLError):
        reason = str(error.reason or error)
        kind = "client-certificate" if "ALERT" in reason.upper() else "tls"
        return ApiError(0, f"{server}: TLS failed: {reason}", kind)
    if isinstance(error, TimeoutError):
        return ApiError(0, f"{server} does not answer in time", "timeout")
    if isinstance(error, ConnectionRefusedError):
        return ApiError(0, f"{server} refuses the connection", "refused")
    if isinstance(error, OSError) and error.strerror:
        kind = "unresolved" if "Name or service" in str(error) or "resolution" in str(error) else "unreachable"
        return ApiError(0, f"{server}: {error.strerror}", kind)
    return ApiError(0, f"{server}: {error or type(error).__name__}", "broken")


class Deadline:
    """A moment by which something must be done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; raises `ApiError` of the kind ``timeout`` when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise ApiError(0, f"not done within {self.seconds:g} s", "timeout")
        return left


class Connection:
    """One connection to the API server; not for several threads."""

    def __init__(self, access: Access, tls: ssl.SSLContext | None) -> None:
        self.access, self.tls = access, tls
        self._link: http.client.HTTPConnection | None = None

    def _open(self, seconds: float) -> http.client.HTTPConnection:
        if self._link is None:
            where = self.access.host, self.access.port
            if self.tls is None:
                self._link = http.client.HTTPConnection(*where, timeout=seconds)
            else:
                self._link = http.client.HTTPSConnection(*where, timeout=seconds, context=self.tls)
        return self._link

    def ask(self, path: str, deadline: Deadline, accept: str = "application/json") -> http.client.HTTPResponse:
        """Send a request; the answer, of which nothing but the head has been read."""
        self.send(path, deadline, accept)
        return self.take(deadline)

    def send(self, path: str, deadline: Deadline, accept: str = "application/json") -> None:
        """Send a request whose answer is taken later, with `take`."""
        headers = {"Accept": accept, "User-Agent": "skerry"}
        if self.access.token:
            headers["Authorization"] = f"Bearer {self.access.token}"
        try:
            link = self._open(deadline.left())
            if link.sock is not None:
                link.sock.settimeout(deadline.left())
            link.request("GET", path, headers=headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _why(error, self.access.server) from error

    def take(self, deadline: Deadline) -> http.client.HTTPResponse:
        """The head of the answer to what was sent."""
        if self._link is None:
            raise AssertionError("nothing was sent")
        try:
            if self._link.sock is not None:
                self._link.sock.settimeout(deadline.left())
            return self._link.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _why(error, self.access.server) from error

    def read(self, answer: http.client.HTTPResponse, deadline: Deadline, most: int = -1) -> bytes:
        """The rest of an answer, or its first ``most`` bytes."""
        pieces: list[bytes] = []
        size = 0
        try:
            while most < 0 or size < most:
                if self._link is not None and self._link.sock is not None:
                    self._link.sock.settimeout(deadline.left())
                piece = answer.read1(_CHUNK if most < 0 else most - size)
                if not piece:
                    answer.close()  # else the connection still waits for its end
                    break
                pieces.append(piece)
                size += len(piece)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _why(error, self.access.server) from error
        return b"".join(pieces)

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._link is not None:
            self._link.close()
            self._link = None


def _refused(status: int, body: bytes) -> ApiError:
    try:
        said = str(json.loads(body).get("message") or status)
    except (ValueError, AttributeError):
        said = body[:200].decode("utf-8", "replace") or str(status)
    return ApiError(status, said, {401: "unauthorised", 403: "forbidden", 404: "absent"}.get(status, "refused-request"))


@dataclass
class Page:
    """One page of a list: its objects, how many there are beyond it (None: the server does not say), its bytes."""

    items: list[dict[str, Any]]
    remaining: int | None
    size: int


class Api:
    """One API server."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._tls = access.context()

    def get(self, path: str, deadline: Deadline, accept: str = "application/json") -> bytes:
        """One answer.

        Raises:
            ApiError: it is an error, or there is none.
        """
        with contextlib.closing(Connection(self.access, self._tls)) as link:
            answer = link.ask(path, deadline, accept)
            body = link.read(answer, deadline)
            if answer.status >= 400:
                raise _refused(answer.status, body)
            return body

    def pages(self, path: str, deadline: Deadline, page: int = PAGE) -> Iterator[Page]:
        """The pages of a list. The next one is asked for as soon as the head of one names it.

        Raises:
            ApiError: what had come before it stands.
        """
        first = f"{path}{'&' if '?' in path else '?'}limit={page}"
        links = [Connection(self.access, self._tls), Connection(self.access, self._tls)]
        try:
            links[0].send(first, deadline)
            while True:
                answer = links[0].take(deadline)
                head = links[0].read(answer, deadline, _HEAD)
                token = _CONTINUE.match(head)
                if answer.status < 400 and token and token[1]:
                    beyond = quote(json.loads(b'"' + token[1] + b'"'))
                    links[1].send(f"{first}&continue={beyond}", deadline)
                body = head + links[0].read(answer, deadline)
                if answer.status >= 400:
                    raise _refused(answer.status, body)
                yield self._page(body)
                if not (token and token[1]):
                    return
                links.reverse()
        finally:
            for link in links:
                link.close()

    @staticmethod
    def _page(body: bytes) -> Page:
        try:
            content = json.loads(body)
        except ValueError as error:
            raise ApiError(0, f"the answer broke off: {error}", "broken") from error
        items = content.get("items") or []
        return Page(items, content.get("metadata", {}).get("remainingItemCount"), len(body))


@dataclass
class Outcome:
    """What became of one read.

    Attributes:
        state: ``complete``; ``partial`` (some pages came); ``absent`` (the cluster has no such kind);
            ``failed`` (nothing came).
        count: objects that came; ``remaining``: those known to be missing, None when that is not known.
        kind: of the failure: ``timeout``, ``refused``, ``unauthorised``, ``untrusted``, ...
    """

    name: str
    state: str = "complete"
    count: int = 0
    remaining: int | None = None
    seconds: float = 0.0
    size: int = 0
    error: str = ""
    kind: str = ""
    status: int = 0

    @property
    def whole(self) -> bool:
        """Nothing is missing; a kind that the cluster does not have is known to have no objects."""
        return self.state in ("complete", "absent")


def read_list(api: Api, name: str, path: str, seconds: float, take: Callable[[dict[str, Any]], None]) -> Outcome:
    """Read a list, giving each object to ``take`` as it comes; failures are in the outcome."""
    start = time.monotonic()
    outcome = Outcome(name)
    try:
        for page in api.pages(path, Deadline(seconds)):
            for item in page.items:
                take(item)
            outcome.count += len(page.items)
            outcome.size += page.size
            outcome.remaining = page.remaining
    except ApiError as error:
        outcome.error, outcome.kind, outcome.status = error.said, error.kind, error.status
        outcome.state = "absent" if error.status == 404 else "partial" if outcome.count else "failed"
    outcome.seconds = time.monotonic() - start
    return outcome
