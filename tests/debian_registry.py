"""Debian's docker-registry on this machine, with the authority, users and configuration of the role registry."""

from __future__ import annotations

import fcntl
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import programs
import pytest

from skerry import paths

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils import registry_files
from ansible_collections.skerry.edge.plugins.plugin_utils import own_ca

USER, PASSWORD = "site", "not-4-everyone"
_SECONDS = 30.0


@dataclass(frozen=True)
class Running:
    """A registry at ``host`` (address:port). Below ``folder``: ca.crt, password, data/."""

    host: str
    folder: Path

    @property
    def authority(self) -> Path:
        """The PEM file of who signed its certificate."""
        return self.folder / "ca.crt"

    @property
    def password(self) -> Path:
        """A file whose only line is the password."""
        return self.folder / "password"


def program() -> Path:
    """The registry, unpacked in the cache; skips, with the reason, where Debian's package cannot be had."""
    if installed := shutil.which("docker-registry"):
        return Path(installed)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no docker-registry, and no apt-get to download it with")
    into = paths.cache() / "registry" / platform.machine()
    into.mkdir(parents=True, exist_ok=True)
    with (into / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = into / "usr" / "bin" / "docker-registry"
        if not place.exists():
            command = ["apt-get", "download", "-qq", "docker-registry"]
            done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode != 0:
                pytest.skip(f"Debian's docker-registry cannot be downloaded: {done.stderr.strip()[-200:]}")
            (package,) = into.glob("docker-registry_*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package), str(into)], check=True, timeout=120)
            package.unlink()
    return place


@contextmanager
def running(folder: Path, address: str = "127.0.0.1") -> Iterator[Running]:
    """A registry with TLS and a login at an address of this machine; it ends with the block."""
    binary = program()
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = int(probe.getsockname()[1])
    authority = own_ca.make_authority("test")
    pair = own_ca.make_certificate(authority, [address, "localhost"], 2)
    config = registry_files.config({"key": pair.key, "data_dir": str(folder / "data"), "port": port})
    config = config.replace(registry_files.FOLDER, str(folder)).replace(f'":{port}"', f'"{address}:{port}"')
    files = {
        "config.yml": config, "ca.crt": authority.certificate, "tls.crt": pair.certificate, "tls.key": pair.key,
        "password": f"{PASSWORD}\n", "htpasswd": registry_files.users([{"name": USER, "password": PASSWORD}], ""),
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    command = [str(binary), "serve", str(folder / "config.yml")]
    with programs.running(command, folder / "log", OTEL_TRACES_EXPORTER="none") as process:
        _await(address, port, folder, process)
        yield Running(f"{address}:{port}", folder)


def _await(address: str, port: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    end = time.monotonic() + _SECONDS
    while True:
        try:
            with socket.create_connection((address, port), 2) as raw, context.wrap_socket(
                raw, server_hostname=address
            ):
                return
        except OSError:
            said = (folder / "log").read_text()[-2000:]
            assert process.poll() is None, said
            assert time.monotonic() < end, f"no answer within {_SECONDS} s: {said}"
            time.sleep(0.1)
