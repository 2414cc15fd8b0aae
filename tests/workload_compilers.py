"""The compilers that the environment does not have: Debian's rustc, npm's asc, PyPI's componentize-py.

Taken from PATH where they are; else downloaded once, through apt, npm and uv, into the user's cache, without root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from skerry import paths
from skerry.errors import SkerryError
from skerry.workloads import Language, toolchain

_RUSTC = """#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root/usr
libraries=$(echo "$root"/lib/*-linux-gnu)
LD_LIBRARY_PATH=$libraries PATH=$root/bin:$PATH exec "$root/bin/rustc" "$@"
"""


class UnavailableError(Exception):
    """A compiler is not on PATH and could not be downloaded; the text says why."""


def _do(command: list[str], cwd: Path) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise UnavailableError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
    return done.stdout


def _rust(new: Path) -> None:
    """Debian's packages unpacked: those of rustc that this machine lacks, less its native library."""
    wanted = ["rustc", "libstd-rust-dev-wasm32", "lld"]
    listed = _do(["apt-get", "install", "-qq", "--no-install-recommends", "--print-uris", *wanted], new)
    names = {name for name in re.findall(r" ([a-z0-9.+-]+)_\S+\.deb ", listed) if re.search("rust|lld|llvm", name)}
    _do(["apt-get", "download", "-qq", *sorted((names | set(wanted)) - {"libstd-rust-dev"})], new)
    for archive in new.glob("*.deb"):
        _do(["dpkg-deb", "-x", str(archive), str(new / "root")], new)
        archive.unlink()
    if not os.path.lexists(linker := new / "root" / "usr" / "bin" / "rust-lld"):  # Debian 13 has it in rust-llvm
        linker.symlink_to("lld")
    (new / "bin").mkdir()
    (new / "bin" / "rustc").write_text(_RUSTC, encoding="utf-8")
    (new / "bin" / "rustc").chmod(0o755)


def _assemblyscript(new: Path) -> None:
    packages = ["assemblyscript@0.28", "@assemblyscript/wasi-shim@0.1"]
    _do(["npm", "install", "--global", "--prefix", str(new), "--no-audit", "--no-fund", *packages], new)


def _python(new: Path) -> None:
    _do([sys.executable, "-m", "uv", "pip", "install", "-q", "--target", str(new / "site"), "componentize-py==0.25.1"],
        new)
    (new / "bin").mkdir()
    (new / "bin" / "componentize-py").write_text(
        '#!/bin/sh\nhere=$(dirname "$(dirname "$(readlink -f "$0")")")\n'
        f'PYTHONPATH=$here/site exec {sys.executable} "$here/site/bin/componentize-py" "$@"\n', encoding="utf-8")
    (new / "bin" / "componentize-py").chmod(0o755)


_MAKERS: dict[Language, Callable[[Path], None]] = {"rust": _rust, "assemblyscript": _assemblyscript, "python": _python}


def folder(language: Language) -> Path | None:
    """The folder of programs that must be on PATH for a language, or None where PATH has them already.

    Raises:
        UnavailableError: they are not to be had here.
    """
    toolchain.find.cache_clear()
    try:
        toolchain.find(language)
    except SkerryError:
        place = paths.cache() / "tests" / "compilers" / language
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as name:
                new = Path(name, language)
                new.mkdir()
                _MAKERS[language](new)
                if not place.is_dir():
                    new.rename(place)
        return place / "bin"
    finally:
        toolchain.find.cache_clear()
    return None


def on_path(language: Language) -> str:
    """A value of PATH with which the compiler of ``language`` is found. Raises UnavailableError."""
    added = folder(language)
    own = os.environ.get("PATH", os.defpath)
    if added is None:
        return own
    if language == "assemblyscript" and shutil.which("node") is None:
        raise UnavailableError("asc needs node")
    return f"{own}{os.pathsep}{added}"
