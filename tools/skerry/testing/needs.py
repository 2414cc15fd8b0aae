"""What stages and marked tests need of this machine: met, made so (as root, from Debian's packages), or why not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable

from skerry.debian import PackagesMissingError, ensure, missing
from skerry.sandbox import k3s_source
from skerry.testing import monitoring
from skerry.testing.kube import build as kubernetes
from skerry.testing.stages import Need

#: Needs that say themselves whether they are met.
_OWN: dict[Need, Callable[[bool], str | None]] = {Need.KUBERNETES: kubernetes.unmet, Need.MONITORING: monitoring.unmet}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


def unmet(need: Need, install: bool = True) -> str | None:
    """Why ``need`` is not met here, or None when it is; with ``install``, root gets Debian's packages first."""
    if need is Need.K3S:
        wanted = k3s_source.variables(_ARCHITECTURES.get(platform.machine(), "amd64"))
        return None if wanted.get("k3s_enabled", True) else str(wanted["k3s_disabled_reason"])
    if need in _OWN:
        return _OWN[need](install)
    if need is Need.BROWSER:
        return _packages("browser", install)
    try:
        if os.geteuid() == 0:
            return _packages("sandbox", install)
        return None if _docker_answers() else "sandbox hosts need root, or a Docker Engine that this user may use"
    except subprocess.TimeoutExpired:
        return "the Docker Engine did not answer within 30 s"


def _packages(part: str, install: bool) -> str | None:
    if not install:
        absent = missing(part)
        return f"missing Debian packages: {' '.join(absent)}" if absent else None
    try:
        ensure(part)
    except PackagesMissingError as error:
        return f"{error}; run: {error.command}"
    return None
