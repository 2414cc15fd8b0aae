"""Makes the virtual environment (standard library only: it runs before the environment exists).

The environment is built beside its place and renamed when whole; its stamp is written last. A lock serialises
two launchers that start at once.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from skerry.debian import PackagesMissingError, install


def _fail(code: str, cause: str, remedy: str) -> NoReturn:
    sys.exit(f"{code} {cause}\n  remedy: {remedy}")


def _has_ensurepip() -> bool:
    # Debian ships venv without ensurepip's wheels until python3-venv is there: only the real import tells.
    probe = "import ensurepip, venv; ensurepip.version()"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def _pinned(lock: Path, name: str) -> str:
    """The lines of the lock file that pin ``name``, hashes included."""
    text = lock.read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*$", text, re.MULTILINE)
    return found.group(0) if found else ""


def _install(python: Path, lock: Path) -> None:
    """Install the lock into the environment: with uv (itself hash-checked) for speed, with pip where uv fails."""
    pip = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--no-deps",
    ]
    wanted = _pinned(lock, "uv")
    if wanted:
        first = lock.parent / ".venv.uv-requirement"
        first.write_text(wanted + "\n", encoding="utf-8")
        try:
            got_uv = subprocess.run([*pip, "-r", str(first)], check=False).returncode == 0
        finally:
            first.unlink(missing_ok=True)
        if got_uv:
            environment = dict(os.environ)
            # uv has settings of its own; what the person told pip holds for it too.
            for theirs, ours in (
                ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
                ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
                ("PIP_CERT", "SSL_CERT_FILE"),
            ):
                if os.environ.get(theirs):
                    environment.setdefault(ours, os.environ[theirs])
            command = [
                str(python.with_name("uv")),
                "pip",
                "install",
                "--quiet",
                "--python",
                str(python),
                "--require-hashes",
                "--no-deps",
                "--compile-bytecode",
                "-r",
                str(lock),
            ]
            if subprocess.run(command, env=environment, check=False).returncode == 0:
                return
            print("skerry: uv could not install the lock file; trying pip", file=sys.stderr)
    if subprocess.run([*pip, "-r", str(lock)], check=False).returncode != 0:
        _fail(
            "LAUNCH_003",
            f"the packages of {lock.name} could not be installed (see above)",
            "check the network or PIP_INDEX_URL, then run the same command again; a wrong hash means that the "
            "package index delivered something else than was locked",
        )


def make_environment(venv: str, lock: str, stamp: str, wanted: Callable[[], str], ready: Callable[[], bool]) -> None:
    """Make or repair the environment at ``venv`` from ``lock``; ends the process with a coded error where it cannot."""
    place, lock_file = Path(venv), Path(lock)
    with (place.parent / ".venv.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if ready():  # another launcher made it meanwhile
            return
        if not _has_ensurepip():
            try:
                install(["python3-venv"])
            except PackagesMissingError as error:
                _fail("LAUNCH_002", str(error), error.command)
        started = time.monotonic()
        print(f"skerry: making {place.name} from {lock_file.name} (once; about a minute)", file=sys.stderr, flush=True)
        if place.exists():
            shutil.rmtree(place)
        if subprocess.run([sys.executable, "-m", "venv", str(place)], check=False).returncode != 0:
            _fail("LAUNCH_004", f"python -m venv failed for {place}", "check free disk space and the folder's rights")
        _install(place / "bin" / "python", lock_file)
        Path(stamp).write_text(wanted(), encoding="utf-8")
        print(f"skerry: environment ready after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
