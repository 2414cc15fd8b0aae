"""The test of a workload's folder: built, run on this machine, and what it prints compared with workload.yaml."""

from __future__ import annotations

import difflib
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import Exit, SkerryError
from skerry.workloads import inputs, manifest
from skerry.workloads.build import Built, build_one

#: Seconds until a program that does not end is ended.
PATIENCE = 120


@dataclass(frozen=True)
class Checked:
    """One size that printed what it must; ``seconds`` with the time that compiling it for this machine took."""

    workload: str
    size: str
    seconds: float


def load(folder: Path) -> manifest.Workload:
    """The workload of a folder. Raises SkerryError (WORKLOAD_001, WORKLOAD_002)."""
    path = folder / "workload.yaml"
    if not path.is_file():
        raise SkerryError("WORKLOAD_001", f"{folder} is no folder with a workload.yaml",
                          "name such a folder; skerry workload new makes one")
    return manifest.load(path)


def check(workload: manifest.Workload) -> tuple[Built, list[Checked]]:
    """Build and run every size of a workload.

    Raises:
        SkerryError: as `build_one` does; WORKLOAD_009 with what is wrong about a run.
    """
    built = build_one(workload, "wasm")
    # A handler runs the program for each request: here it is run once for its test.
    program = build_one(workload.model_copy(update={"serves": None}), "wasm") if workload.serves else built
    return built, [_run(workload, size, wanted, program.path) for size, wanted in workload.sizes.items()]


def _run(workload: manifest.Workload, name: str, size: manifest.Size, module: Path) -> Checked:
    given = inputs.materialise(size.stdin).read_bytes() if size.stdin else b""
    alone = Path(__file__).with_name("alone.py")
    with tempfile.TemporaryDirectory(prefix="skerry-check-") as directory:
        if size.file:
            shutil.copyfile(inputs.materialise(size.file), Path(directory, size.file.name))
        command = [sys.executable, str(alone), str(module), directory, *workload.arguments("/data")]
        before = time.monotonic()
        try:
            done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise _wrong(f"{workload.name} ({name}) has not ended after {PATIENCE} s") from error
        seconds = time.monotonic() - before
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-1000:]
        raise _wrong(f"{workload.name} ({name}) ended with exit code {done.returncode}: {said or 'it says nothing'}")
    if hashlib.sha256(done.stdout).hexdigest() != size.expected_sha256:
        raise _wrong(f"{workload.name} ({name}) does not print what it must:\n{_difference(size, done.stdout)}")
    return Checked(workload.name, name, seconds)


def _difference(size: manifest.Size, printed: bytes) -> str:
    if size.stdout is None:
        return f"SHA-256 {hashlib.sha256(printed).hexdigest()} instead of {size.expected_sha256}"
    lines = difflib.unified_diff(size.stdout.splitlines(), printed.decode(errors="replace").splitlines(),
                                 "expected", "printed", lineterm="")
    return "\n".join(lines)[:2000] or "the ends of the lines differ"


def _wrong(cause: str) -> SkerryError:
    return SkerryError("WORKLOAD_009", cause, "mend the program, or what its workload.yaml expects", Exit.FAILED)
