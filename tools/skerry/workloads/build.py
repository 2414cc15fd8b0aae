"""Builds of the workloads: keyed by their content, so that the second one is a look into the cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.workloads import handler, toolchain
from skerry.workloads.manifest import Workload

#: Raised when the way of building changes, so that old cache entries are not taken for new ones.
RECIPE = 1
#: Machine names as the kernel says them, to architectures as Debian says them.
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}


@dataclass(frozen=True)
class Built:
    """One built program. ``sha256`` is the digest of the file at ``path``; ``cached`` says whether it was there."""

    workload: str
    target: str
    path: Path
    sha256: str
    size: int
    toolchain: str
    key: str
    seconds: float
    cached: bool

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "path": str(self.path)}


def own_architecture() -> str:
    """This machine's architecture by Debian's name."""
    return MACHINES.get(platform.machine(), platform.machine())


def key(workload: Workload, target: str) -> str:
    """Digest over everything that decides the outcome: sources, compiler with version, command line, target."""
    compiler = toolchain.find(workload.language)
    digest = hashlib.sha256()
    command = compiler.build(workload.language, target, workload.sources, "OUT")[len(compiler.command):]
    digest.update(json.dumps([RECIPE, workload.language, target, compiler.name, compiler.version, command]).encode())
    for source in workload.sources:
        data = (workload.directory / source).read_bytes()
        digest.update(f"\0{source}\0{len(data)}\0".encode() + data)
    if workload.serves:
        digest.update(handler.frame())
    return digest.hexdigest()


def _from_cache(workload: Workload, target: str, wanted: str, place: Path) -> Built | None:
    note = place / "build.json"
    if not note.is_file():
        return None
    said = json.loads(note.read_text(encoding="utf-8"))
    path = place / said["file"]
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != said["sha256"]:
        shutil.rmtree(place, ignore_errors=True)  # damaged: build it again
        return None
    return Built(workload.name, target, path, said["sha256"], said["size"], said["toolchain"], wanted, 0.0, True)


def build_one(workload: Workload, target: str) -> Built:
    """Build one workload for one target (``wasm`` or an architecture), or find it in the cache.

    Raises:
        SkerryError: WORKLOAD_003 without a compiler, WORKLOAD_004 with the compiler's own words, WORKLOAD_006 for a
            target that is none, or none of that language.
    """
    if target not in toolchain.TARGETS:
        known = ", ".join(toolchain.TARGETS)
        raise SkerryError("WORKLOAD_006", f"no target is called {target!r}", f"there are: {known}")
    if target != "wasm" and workload.language not in toolchain.NATIVE:
        raise SkerryError("WORKLOAD_006", f"{workload.name}: {workload.language} is built for wasm alone, not {target}",
                          f"native controls are written in {', '.join(toolchain.NATIVE)}")
    wanted = key(workload, target)
    place = paths.cache() / "workloads" / "builds" / workload.name / target / wanted
    if found := _from_cache(workload, target, wanted, place):
        return found
    place.parent.mkdir(parents=True, exist_ok=True)
    compiler = toolchain.find(workload.language)
    file_name = f"{workload.name}.wasm" if target == "wasm" else workload.name
    with tempfile.TemporaryDirectory(prefix=f".{workload.name}-", dir=place.parent) as scratch:
        sources, out = Path(scratch, "src"), Path(scratch, "out")
        sources.mkdir()
        out.mkdir()
        for source in workload.sources:
            (sources / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(workload.directory / source, sources / source)
        seconds = _compile(compiler, workload, target, sources, out / file_name)
        if workload.serves and target == "wasm":
            (out / file_name).write_bytes(handler.wrap((out / file_name).read_bytes()))
        built = _seal(out, file_name, compiler)
        try:
            out.rename(place)
        except OSError:  # another process was first with the same content
            if not (place / "build.json").is_file():
                raise
    path = place / file_name
    said = f"{compiler.name} {compiler.version}"
    return Built(workload.name, target, path, built[0], built[1], said, wanted, seconds, False)


def _compile(compiler: toolchain.Toolchain, workload: Workload, target: str, sources: Path, output: Path) -> float:
    command = compiler.build(workload.language, target, workload.sources, str(output))
    before = os.times().elapsed
    done = subprocess.run(command, cwd=sources, env=compiler.environment(target), capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0 or not output.is_file():
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise SkerryError(
            "WORKLOAD_004",
            f"{workload.name} for {target} does not build with {compiler.name} {compiler.version}:\n{said}",
            "mend the source (or free some disk space, if that is what the compiler says) and build again",
            Exit.FAILED,
        )
    return os.times().elapsed - before


def _seal(out: Path, file_name: str, compiler: toolchain.Toolchain) -> tuple[str, int]:
    """Set the mode and write the note that makes the cache entry whole; returns digest and size."""
    path = out / file_name
    path.chmod(0o755)
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    note = {"file": file_name, "sha256": digest, "size": len(data), "toolchain": f"{compiler.name} {compiler.version}"}
    (out / "build.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    for stray in out.iterdir():  # zig leaves object files beside its output
        if stray.name not in (file_name, "build.json"):
            stray.unlink()
    return digest, len(data)


def build(
    workloads: Iterable[Workload], targets: Iterable[str], each: Callable[[Built], None] | None = None
) -> list[Built]:
    """Build every workload for every target, two at a time; ``each`` is called with each result as it is there.

    Raises:
        SkerryError: see `build_one`; builds that were done before stay in the cache.
    """
    jobs = [(workload, target) for workload in workloads for target in targets]
    for language in {workload.language for workload, _ in jobs}:
        toolchain.find(language)  # asked once, before the threads
    results = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = [pool.submit(build_one, workload, target) for workload, target in jobs]
        try:
            for future in futures:
                results.append(future.result())
                if each:
                    each(results[-1])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
