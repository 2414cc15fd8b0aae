"""Prometheus, promtool, Alertmanager and the node exporter for tests: Debian's packages, unpacked and not installed.

Installing them would start their services on whoever's machine the tests run on. They depend on the C library alone.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from skerry import paths
from skerry.debian import PackagesMissingError

#: Program -> the Debian package that has it.
PROGRAMS = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
}
#: Where Debian's Alertmanager looks for its templates.
TEMPLATES = "/usr/share/prometheus/alertmanager/default.tmpl"
TIMEOUT = 300


def folder() -> Path:
    """Where the unpacked packages lie; one place for each architecture and release of the system."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")
    return paths.cache() / "monitoring" / f"{release}-{platform.machine()}"


def find(program: str) -> Path | None:
    """A program of `PROGRAMS`: an installed one, else the unpacked one; None where there is neither."""
    if installed := shutil.which(program):
        return Path(installed)
    unpacked = folder() / "usr" / "bin" / program
    return unpacked if unpacked.exists() else None


def command(program: str) -> list[str]:
    """How to start a program of `PROGRAMS` that was found.

    Debian's Alertmanager reads its templates from /usr/share. Where the package is not installed, it gets to see the
    unpacked ones there, in a mount namespace of its own.
    """
    path = find(program)
    assert path is not None, f"{program} is not there"
    if program != "prometheus-alertmanager" or Path(TEMPLATES).exists():
        return [str(path)]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    lower = f"{folder()}/usr/share:/usr/share"
    script = f'mount -t overlay skerry -o "lowerdir={lower}" /usr/share && exec "$0" "$@"'
    return ["unshare", *user, "--mount", "sh", "-c", script, str(path)]


def missing() -> list[str]:
    """Debian packages whose programs are not to be had yet, sorted."""
    return sorted({package for program, package in PROGRAMS.items() if find(program) is None})


def fetch() -> None:
    """Have all programs: download what is missing with apt and unpack it. Root is not needed.

    Raises:
        PackagesMissingError: no apt here, or it could not download.
    """
    packages = missing()
    if not packages:
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PackagesMissingError(packages, "this machine has no apt-get to download them with")
    into = folder()
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=into.parent) as name:
        new = Path(name)
        _download(packages, new)
        for archive in sorted(new.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(new / "root")], check=True, timeout=TIMEOUT)
        for part in ("bin", "share/prometheus"):
            (into / "usr" / part).mkdir(parents=True, exist_ok=True)
            for item in sorted((new / "root" / "usr" / part).glob("*")):
                target = into / "usr" / part / item.name
                if not target.exists():
                    item.replace(target)


def _download(packages: list[str], target: Path) -> None:
    command = ["apt-get", "download", "-qq", *packages]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode != 0 and os.geteuid() == 0:  # an old or empty package list is the usual cause
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False, timeout=TIMEOUT)
        done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode != 0:
        raise PackagesMissingError(packages, f"apt-get download failed: {done.stderr.strip()[-400:]}")


def unmet(install: bool) -> str | None:
    """Why the programs are not to be had here, or None when they are; ``install`` downloads them first."""
    if not install:
        absent = missing()
        return f"missing Debian packages: {' '.join(absent)} (skerry test unpacks them)" if absent else None
    try:
        fetch()
    except (PackagesMissingError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None
