"""The pause image, made here: k3s starts no pod without one, and a host without a registry can pull none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.images.archive import write_image

#: What k3s v1.35 asks containerd for. Other versions: set ``k3s_pause_image`` to this name.
REFERENCE = "docker.io/rancher/mirrored-pause:3.6"

_TARGETS = {
    "amd64": ("x86_64-linux-musl", ""),
    "arm64": ("aarch64-linux-musl", ""),
    "arm": ("arm-linux-musleabihf", "v7"),
}


def source() -> Path:
    """The C source."""
    return paths.root() / "workloads" / "pause" / "pause.c"


def file_name(architecture: str) -> str:
    """Name of the archive of an architecture (amd64, arm64, arm)."""
    return f"pause-{architecture}.tar"


def pause_image(architecture: str = "amd64") -> Path:
    """The archive of the pause image for an architecture, built once and kept in the cache.

    Raises:
        SkerryError: IMAGE_004 (unknown architecture), IMAGE_005 (the compiler failed).
    """
    if architecture not in _TARGETS:
        raise SkerryError("IMAGE_004", f"no pause image for {architecture}", f"choose one of {', '.join(_TARGETS)}")
    target, variant = _TARGETS[architecture]
    code = source().read_bytes()
    digest = hashlib.sha256(code + target.encode()).hexdigest()[:16]
    archive = paths.cache() / "images" / digest / file_name(architecture)
    if not archive.exists():
        binary = archive.with_name(f"pause-{architecture}.{os.getpid()}")
        _compile(target, binary)
        try:
            write_image(
                archive,
                REFERENCE,
                {"/pause": binary},
                ["/pause"],
                None,
                architecture,
                variant=variant,
                user="65535:65535",
            )
        finally:
            binary.unlink(missing_ok=True)
    return archive


def _compile(target: str, binary: Path) -> None:
    binary.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        target,
        "-static",
        "-Os",
        "-s",
        "-o",
        str(binary),
        str(source()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SkerryError(
            "IMAGE_005",
            f"the pause binary for {target} does not compile: {done.stderr.strip()[-500:]}",
            "run ./skerry once more (it repairs the environment), then try again",
            Exit.FAILED,
        )
