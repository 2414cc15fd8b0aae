"""Debian packages that Skerry's own commands need on the controller (standard library only: the launcher uses it)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Need:
    """One Debian package and the file that proves it is there (a command's name, or a path)."""

    package: str
    proof: str

    def met(self) -> bool:
        if "/" in self.proof:
            return Path(self.proof).exists()
        search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return shutil.which(self.proof, path=search) is not None


#: What each part of Skerry needs beside Python; names of parts are used in messages.
NEEDS: dict[str, tuple[Need, ...]] = {
    "environment": (Need("python3-venv", ""),),  # proved by the launcher itself: importing ensurepip
    "ssh": (Need("openssh-client", "ssh"),),
    "sandbox": (
        Need("docker.io", "dockerd"),
        Need("mmdebstrap", "mmdebstrap"),
        Need("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
        Need("openssh-client", "ssh-keygen"),
        Need("iproute2", "ip"),
        Need("iptables", "iptables"),
    ),
    "host-limits": (Need("lxcfs", "lxcfs"),),  # hosts then see their own memory and cores in /proc
    "emulation": (
        Need("qemu-user-static", "qemu-aarch64-static"),
        Need("binfmt-support", "update-binfmts"),
        Need("arch-test", "arch-test"),
    ),
    "browser": (Need("chromium", "chromium"), Need("chromium-driver", "chromedriver")),
}


class PackagesMissingError(Exception):
    """Packages are missing and cannot be installed from here; ``packages`` names them, ``reason`` says why not."""

    def __init__(self, packages: list[str], reason: str) -> None:
        super().__init__(f"missing Debian packages: {' '.join(packages)} ({reason})")
        self.packages = packages
        self.reason = reason

    @property
    def command(self) -> str:
        """The one command that a person runs as root to have them."""
        return f"sudo apt-get install --no-install-recommends {' '.join(self.packages)}"


def missing(part: str) -> list[str]:
    """Names of the packages that ``part`` needs and this machine lacks, in a stable order."""
    return sorted({need.package for need in NEEDS[part] if not need.met()})


def install(packages: list[str]) -> None:
    """Install ``packages`` with apt, as root, saying which.

    Raises:
        PackagesMissingError: not root, no apt, or apt failed.
    """
    if not packages:
        return
    if os.geteuid() != 0:
        raise PackagesMissingError(packages, "only root can install them")
    if shutil.which("apt-get") is None:
        raise PackagesMissingError(packages, "this machine has no apt-get")
    print(f"skerry: installing Debian packages: {' '.join(packages)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    command = ["apt-get", "install", *options, *packages]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:  # an old or empty package list is the usual cause
        subprocess.run(["apt-get", "update", "-qq"], env=environment, capture_output=True, check=False)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackagesMissingError(packages, f"apt-get failed: {done.stderr.strip()[-600:]}")


def ensure(part: str) -> None:
    """Install what ``part`` lacks.

    Raises:
        PackagesMissingError: see `install`.
    """
    install(missing(part))
