"""Host side of the artifact module: bring one file or archive member beside its place, verified, or leave nothing.

Python 3.8, standard library and Ansible's own URL code (which honours proxies from the environment).
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
from contextlib import contextmanager
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import (
    CHUNK,
    ArtifactError,
    checksum_differs,
)

AGENT = "skerry-artifact"
#: What a broken connection raises while it is opened or read.
NETWORK_ERRORS = (URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def no_space(path, error):
    """The error for a write that failed."""
    where = os.path.dirname(path) or "/"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause = f"no space left in {where}; nothing was replaced"
        return ArtifactError("ARTIFACT_006", cause, f"free space there (df -h {where}), then run again")
    return ArtifactError(
        "ARTIFACT_006",
        f"cannot write {path}: {error.strerror or error}; nothing was replaced",
        f"check rights and mount options of {where}, then run again",
    )


def check_space(path, size):
    """Fail before anything is sent when the file system of ``path`` has less than ``size`` bytes left."""
    place = os.path.dirname(path)
    while place and not os.path.isdir(place):
        place = os.path.dirname(place)
    stats = os.statvfs(place or "/")
    free = stats.f_bavail * stats.f_frsize
    if free < size:
        raise ArtifactError(
            "ARTIFACT_006",
            f"{path} needs {size / 1e6:.1f} MB, {place or '/'} has {free / 1e6:.1f} MB left; nothing was replaced",
            "free space there (df -h %s), then run again" % (place or "/"),
        )


class Staging:
    """Files made beside their places; whatever was not moved into place is removed at the end."""

    def __init__(self):
        self._pending = []

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        for path in self._pending:
            if os.path.lexists(path):
                os.unlink(path)

    @contextmanager
    def file(self, dest):
        """A new, empty file beside ``dest``: yields (descriptor, path); write errors become ARTIFACT_006."""
        try:
            os.makedirs(os.path.dirname(dest), mode=0o755, exist_ok=True)
            handle, path = tempfile.mkstemp(prefix=f".{os.path.basename(dest)[:60]}.", dir=os.path.dirname(dest))
        except OSError as error:
            raise no_space(dest, error) from error
        self._pending.append(path)
        try:
            yield handle, path
        except OSError as error:
            raise no_space(dest, error) from error
        finally:
            os.close(handle)


def copy_stream(source, handle, digest):
    """Copy a stream into a descriptor, feeding ``digest``; returns the number of bytes."""
    total = 0
    for chunk in iter(lambda: source.read(CHUNK), b""):
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(handle, view):]
        total += len(chunk)
    return total


def fetch_text(url, timeout):
    """A small text file (checksum list, lock) from a URL."""
    try:
        with open_url(url, timeout=timeout, http_agent=AGENT) as answer:
            return answer.read(16 * CHUNK).decode("utf-8", "replace")
    except NETWORK_ERRORS as error:
        raise download_failed(url, error) from error


def must_answer(url, timeout):
    """Fail like a download would, without downloading: the address has to answer."""
    try:
        open_url(url, timeout=timeout, http_agent=AGENT).close()
    except NETWORK_ERRORS as error:
        raise download_failed(url, error) from error


def download_failed(url, error):
    """The error for an address that did not deliver."""
    reason = f"HTTP {error.code}" if isinstance(error, HTTPError) else getattr(error, "reason", None) or error
    return ArtifactError(
        "ARTIFACT_004",
        f"{url} could not be downloaded ({reason})",
        "check the address, DNS and the proxy settings (skerry_https_proxy); without internet, fill a mirror with "
        "`skerry mirror build` and name it in skerry_mirror",
    )


def download(url, handle, timeout, attempts):
    """Download ``url`` into a descriptor; a broken connection is taken up where it broke. Returns the digest."""
    for attempt in range(attempts):
        done = os.fstat(handle).st_size
        try:
            headers = {"Range": f"bytes={done}-"} if done else None
            with open_url(url, timeout=timeout, http_agent=AGENT, headers=headers, decompress=False) as answer:
                if answer.getcode() != 206:
                    os.ftruncate(handle, 0)
                os.lseek(handle, 0, os.SEEK_END)
                wanted = int(answer.headers.get("Content-Length") or -1)
                got = copy_stream(answer, handle, hashlib.sha256())
                if 0 <= wanted != got:
                    raise http.client.IncompleteRead(b"", wanted - got)
            return handle_digest(handle)
        except NETWORK_ERRORS as error:
            final = isinstance(error, HTTPError) and error.code < 500
            if final or attempt + 1 == attempts:
                raise download_failed(url, error) from error
            time.sleep(min(8, 2**attempt))
    raise AssertionError("attempts must be positive")


def handle_digest(handle):
    """SHA-256 of what a descriptor's file holds."""
    os.lseek(handle, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    for chunk in iter(lambda: os.read(handle, CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def place_copy(source, handle, expected):
    """Copy a file that Ansible sent into a descriptor; its content must have the expected digest."""
    digest = hashlib.sha256()
    with open(source, "rb") as stream:
        copy_stream(stream, handle, digest)
    if digest.hexdigest() != expected:
        raise checksum_differs(source, digest.hexdigest(), expected)
    return digest.hexdigest()


@contextmanager
def _zstd_stream(path, name):
    """A zstd file, decompressed by the `zstd` command (Python has zstd from 3.14 on only)."""
    command = shutil.which("zstd") or shutil.which("unzstd")
    if command is None:
        raise ArtifactError(
            "ARTIFACT_010",
            f"{name} is compressed with zstd and this host has no zstd command",
            "install the package zstd on the host, or use the .tar.gz form of the artifact",
        )
    with subprocess.Popen([command, "-dcq", "--long=27", path], stdout=subprocess.PIPE) as process:
        yield process.stdout
        process.stdout.close()
        # A member in the middle of the archive ends the reading early: zstd then dies of the closed pipe.
        process.wait()


def _bad_archive(path, member, detail):
    return ArtifactError(
        "ARTIFACT_005",
        f"cannot take {member} out of {os.path.basename(path)}: {detail}; nothing was replaced",
        "check the member's name with `tar tf`, and that the file is the archive that its name says",
    )


def _copy_tar_member(stream, path, member, handle, digest):
    mode = "r|" if path.endswith(".zst") else "r|*"
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for entry in archive:
            if os.path.normpath(entry.name) != os.path.normpath(member):
                continue
            if not entry.isfile():
                raise _bad_archive(path, member, "it is no regular file")
            copy_stream(archive.extractfile(entry), handle, digest)
            return
    raise _bad_archive(path, member, "no such member")


def extract(path, name, member, handle):
    """Stream one member of an archive (tar, .gz, .xz, .bz2, .zst, or zip; told by ``name``) into a descriptor.

    Returns the member's digest.
    """
    digest = hashlib.sha256()
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                copy_stream(stream, handle, digest)
        elif name.endswith((".zst", ".zstd")):
            with _zstd_stream(path, name) as stream:
                _copy_tar_member(stream, name, member, handle, digest)
        else:
            with open(path, "rb") as stream:
                _copy_tar_member(stream, name, member, handle, digest)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise _bad_archive(name, member, error) from error
    except OSError as error:
        if error.errno is None:  # gzip.BadGzipFile and lzma's errors carry none
            raise _bad_archive(name, member, error) from error
        raise
    return digest.hexdigest()
