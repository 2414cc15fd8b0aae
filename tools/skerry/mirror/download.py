"""Downloads for a mirror: resumable, verified, written beside and renamed."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from skerry.errors import Exit, SkerryError

CHUNK = 1 << 18
ATTEMPTS = 4
TIMEOUT = 30.0
_HEX = re.compile(r"^[0-9a-f]{64}$")
_NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)

#: Called with (bytes so far, bytes in all or None).
Progress = Callable[[int, int | None], None]


def _failed(url: str, error: Exception) -> SkerryError:
    reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
    return SkerryError(
        "MIRROR_008",
        f"{url} could not be downloaded ({reason})",
        "check the network and https_proxy, then run the same command again: it carries on where it stopped",
        Exit.FAILED,
    )


def _open(url: str, start: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "skerry-mirror"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    return response


def fetch_text(url: str) -> str:
    """A small text file.

    Raises:
        SkerryError: MIRROR_008.
    """
    try:
        with _open(url, 0) as answer:
            return answer.read(1 << 24).decode("utf-8", "replace")
    except _NETWORK as error:
        raise _failed(url, error) from error


def remote_size(url: str) -> int | None:
    """How many bytes a download will be, None when the server does not say.

    Raises:
        SkerryError: MIRROR_008.
    """
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "skerry-mirror"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            length = answer.headers.get("Content-Length")
    except _NETWORK as error:
        raise _failed(url, error) from error
    return int(length) if length else None


def expected_digest(checksum: str, url: str) -> str | None:
    """The SHA-256 that a role's checksum promises for the file at ``url``; None when upstream promises none.

    Args:
        checksum: "sha256:<hex>", "sha256:<URL of a checksum file>" or "".

    Raises:
        SkerryError: MIRROR_008 (the checksum file cannot be had), MIRROR_009 (it has no line for the file).
    """
    if not checksum:
        return None
    value = checksum.removeprefix("sha256:")
    if _HEX.match(value.lower()):
        return value.lower()
    name = url.rsplit("/", 1)[-1]
    lines = [line.split() for line in fetch_text(value).splitlines() if line.strip()]
    for words in lines:
        if len(words) >= 2 and words[-1].lstrip("*").rsplit("/", 1)[-1] == name and _HEX.match(words[0].lower()):
            return words[0].lower()
    raise SkerryError(
        "MIRROR_009", f"{value} has no SHA-256 for {name}", "check the version in your inventory", Exit.FAILED
    )


def _complete(url: str, part: Path, progress: Progress) -> None:
    """Bring ``part`` to the whole length, beginning where it ends."""
    done = part.stat().st_size if part.exists() else 0
    try:
        answer = _open(url, done)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        error.close()
        return  # it was whole already; its digest will tell
    with answer:
        partial = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        start = done if partial else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("ab" if partial else "wb") as stream:
            while chunk := answer.read(CHUNK):
                stream.write(chunk)
                start += len(chunk)
                progress(start, total)
    if total is not None and start != total:
        raise http.client.IncompleteRead(b"", total - start)


def download(url: str, part: Path, progress: Progress) -> tuple[str, int]:
    """Download to ``part``, taking up what an earlier try left there; returns (SHA-256, size).

    Raises:
        SkerryError: MIRROR_008 after several tries; ``part`` stays for the next run.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            _complete(url, part, progress)
            break
        except _NETWORK as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt + 1 == ATTEMPTS:
                raise _failed(url, error) from error
            time.sleep(2**attempt / 2)
    with part.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), part.stat().st_size
