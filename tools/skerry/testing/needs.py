"""What host stages need of this machine: met, made so (as root, from Debian's packages), or why not."""

from __future__ import annotations

import os
import shutil
import subprocess

from skerry.debian import PackagesMissingError, ensure
from skerry.testing.stages import Need


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


def unmet(need: Need) -> str | None:
    """Why ``need`` is not met here, or None when it is; installs Debian's packages when run as root."""
    try:
        if need is Need.BROWSER:
            return _packages("browser")
        if os.geteuid() == 0:
            return _packages("sandbox")
        return None if _docker_answers() else "sandbox hosts need root, or a Docker Engine that this user may use"
    except subprocess.TimeoutExpired:
        return "the Docker Engine did not answer within 30 s"


def _packages(part: str) -> str | None:
    try:
        ensure(part)
    except PackagesMissingError as error:
        return f"{error}; run: {error.command}"
    return None
