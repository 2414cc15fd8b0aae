"""The host's side of `skerry image import`, sent as it is: Python 3.9, standard library only.

In: one JSON line (reference, engines wanted); after the answer one more (which engines are to load, size, SHA-256) and
that many bytes of a zlib stream. Out: one JSON line (platform, what each engine has), then one for each that loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zlib
from typing import IO, Any

PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "armv7l": "linux/arm/v7"}
ENGINES = ("docker", "containerd")
SECONDS = 600
CHUNK = 1 << 16
FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class FailedError(Exception):
    """What an engine, or the host, said."""


def own_platform() -> str:
    """Of the userland: a kernel of 64 bits may carry one of 32."""
    machine = platform.machine()
    if machine == "aarch64" and sys.maxsize < 1 << 32:
        machine = "armv7l"
    return PLATFORMS.get(machine, "linux/" + machine)


def run(command: list[str], feed: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
    """A command with all that it says; it has no input but ``feed``."""
    source: Any = feed if feed is not None else subprocess.DEVNULL
    try:
        return subprocess.run(command, stdin=source, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedError(str(error)) from error


def words(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last of what a command said."""
    return (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-400:]


def in_docker(reference: str) -> str:
    """The image's id in Docker, "" when it has none of that name."""
    done = run(["docker", "image", "inspect", "--format", "{{.Id}}", reference])
    if done.returncode == 0:
        return done.stdout.decode().strip()
    if "no such image" in done.stderr.decode("utf-8", "replace").lower():
        return ""
    raise FailedError(words(done))


def in_containerd(reference: str) -> str:
    """The digest of the image's manifest in k3s's containerd, "" when it has none of that name."""
    done = run(["k3s", "ctr", "-n", "k8s.io", "images", "ls", 'name=="' + reference + '"'])
    if done.returncode != 0:
        raise FailedError(words(done))
    for line in done.stdout.decode().splitlines():
        parts = line.split()
        if len(parts) > 2 and parts[0] == reference:
            return parts[2]
    return ""


LOOK = {"docker": in_docker, "containerd": in_containerd}
COMMAND = {"docker": "docker", "containerd": "k3s"}
LOAD = {"docker": ["docker", "load"], "containerd": ["k3s", "ctr", "-n", "k8s.io", "images", "import", "-"]}


def engines(reference: str, wanted: list[str]) -> dict[str, dict[str, str]]:
    """{engine: {"has": digest or ""} or {"error": words}} of those that are installed."""
    found: dict[str, dict[str, str]] = {}
    for engine in wanted or ENGINES:
        if shutil.which(COMMAND[engine]):
            try:
                found[engine] = {"has": LOOK[engine](reference)}
            except FailedError as error:
                found[engine] = {"error": str(error)}
    return found


def receive(source: IO[bytes], size: int, sha256: str, spool: IO[bytes]) -> None:
    """The archive, unpacked into ``spool`` and checked."""
    unpack, digest, left = zlib.decompressobj(), hashlib.sha256(), size
    while left:
        data = source.read(min(left, CHUNK))
        if not data:
            raise FailedError("the archive did not come whole")
        digest.update(data)
        left -= len(data)
        spool.write(unpack.decompress(data))
    spool.write(unpack.flush())
    if digest.hexdigest() != sha256:
        raise FailedError("the archive came damaged")
    spool.flush()


def say(message: dict[str, Any]) -> None:
    """One line to the controller."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def load(order: dict[str, Any], source: IO[bytes]) -> None:
    """Take the archive and load it into each engine that lacks it."""
    folder = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
    with tempfile.TemporaryFile(dir=folder) as spool:
        try:
            receive(source, order["size"], order["sha256"], spool)
        except (OSError, FailedError, zlib.error) as error:
            for engine in order["load"]:
                say({"engine": engine, "error": str(error)})
            return
        for engine in order["load"]:
            os.lseek(spool.fileno(), 0, os.SEEK_SET)  # the engine before it read it to its end
            try:
                done = run(LOAD[engine], spool)
                say({"engine": engine, "error": words(done) if done.returncode else ""})
            except FailedError as error:
                say({"engine": engine, "error": str(error)})


def main() -> None:
    """Answer the two requests."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":" + FOLDERS
    source = sys.stdin.buffer
    request = json.loads(source.readline())
    say({"platform": own_platform(), "engines": engines(request["reference"], request["into"])})
    line = source.readline()
    if line:
        load(json.loads(line), source)


if __name__ == "__main__":
    main()
