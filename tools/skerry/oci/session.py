"""Requests to a registry: a login where one is asked for, patience while it is busy. What an answer means is its
caller's to say.

Certificates are always checked. Only a registry on this machine, for which no authority is known, is asked without TLS;
so no password crosses a network in the clear.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests

#: Seconds for a connection, and between two pieces of an answer.
TIMEOUT = (10.0, 60.0)
ATTEMPTS = 4
#: What a broken network comes as.
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_BUSY = (429, 500, 502, 503, 504)
_HUB = "registry-1.docker.io"
_HERE = ("localhost", "127.0.0.1", "::1")
_PART = re.compile(r'(\w+)="([^"]*)"')


class NoLoginError(Exception):
    """The registry asks for a login that there is none for; says how."""


def address(registry: str, authority: Path | None = None) -> str:
    """Where a registry answers: https://host[:port], or http:// for one on this machine without an authority."""
    host = registry.rpartition(":")[0] or registry
    plain = host in _HERE and authority is None
    return f"{'http' if plain else 'https'}://{_HUB if registry == 'docker.io' else registry}"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class Session:
    """Connections to one registry, of which one repository is asked for."""

    def __init__(self, root: str, login: tuple[str, str] | None, authority: Path | None, attempts: int = ATTEMPTS,
                 seconds: float = TIMEOUT[0]) -> None:
        """Nothing is asked yet.

        Args:
            root: address of the registry, which alone hears of the login.
            attempts: how often, while it is busy or cannot be reached.
            seconds: for a connection.
        """
        self._root, self._known = root, login
        self._checked = str(authority) if authority else True
        self._attempts, self._timeout = attempts, (seconds, TIMEOUT[1])
        self._words: str | None = None  # of the header Authorization, once the registry has asked for it
        self._session = requests.Session()
        self._session.auth = _unchanged

    def close(self) -> None:
        """End its connections."""
        self._session.close()

    def request(self, method: str, url: str, **named: Any) -> requests.Response:
        """The answer to a request, whatever it says; asked again while the registry is busy or the network broken.

        Args:
            named: headers, params and data as requests takes them; body, which opens the data once for each try.

        Raises:
            NoLoginError: it asks for a login that it does not get.
            requests.exceptions.RequestException: SSLError for a certificate that is not trusted; `BROKEN`.
        """
        for attempt in range(self._attempts):
            last = attempt + 1 == self._attempts
            try:
                answer = self._send(method, url, **named)
            except requests.exceptions.SSLError:
                raise
            except BROKEN:
                if last:
                    raise
            else:
                if answer.status_code not in _BUSY or last:
                    return answer
                answer.close()
            self.wait(attempt)
        raise AssertionError("the loop returns")

    def wait(self, attempt: int) -> None:
        """Between two attempts, the first of which is 0."""
        time.sleep(2**attempt / 4)

    def _send(self, method: str, url: str, **named: Any) -> requests.Response:
        """One request, after a login where one is asked for."""
        led = ""  # a token for where a redirect leads
        for last in (False, True):
            headers = dict(named.get("headers") or {})
            if words := led or (self._words if _origin(url) == _origin(self._root) else ""):
                headers["Authorization"] = words
            body: Callable[[], BinaryIO] | None = named.get("body")
            answer = self._session.request(
                method, url, headers=headers, data=body() if body else named.get("data"), timeout=self._timeout,
                verify=self._checked, stream=True, params=named.get("params"),
            )
            challenge = answer.headers.get("Www-Authenticate", "")
            if answer.status_code != 401 or last or not challenge:
                return answer
            answer.close()
            if _origin(answer.url) == _origin(self._root):
                self._words = self._login(challenge, self._known)
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
                raise NoLoginError("asks for a login, and there is none")
            return basic
        asked = dict(_PART.findall(rest))
        realm = asked.pop("realm", "")
        where = urlsplit(realm)
        if kind.lower() != "bearer" or (where.scheme != "https" and where.hostname not in _HERE):
            raise NoLoginError(f"asks for a login of an unknown kind ({kind} {realm})")
        answer = self._session.get(realm, params=asked, headers={"Authorization": basic} if basic else {},
                                   timeout=self._timeout, verify=self._checked)
        try:
            said = answer.json() if answer.status_code == 200 else {}
            token = said.get("token") or said.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not token:
            raise NoLoginError(f"gives no token (HTTP {answer.status_code})")
        return f"Bearer {token}"


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """In the place of a login of the client's own choice: without it, ~/.netrc would replace ours."""
    return request
