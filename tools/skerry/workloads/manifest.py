"""The file workload.yaml of each program: what it is, how it is called, what it must print."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from skerry import paths
from skerry.errors import SkerryError
from skerry.workloads import Language

#: A name becomes the name of a unit, a file and a label.
NAME = r"^[a-z][a-z0-9-]{0,30}$"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(_Strict):
    """A generated input: ``count`` is bytes or lines, as its generator says; ``sha256`` is what must come out."""

    name: str
    generator: Literal["shake-bytes", "sensor-readings"]
    seed: str
    count: int = Field(gt=0)
    sha256: Digest


class Size(_Strict):
    """One size of a workload's input and the output that goes with it.

    ``stdout`` is the output itself, or ``stdout_sha256`` its digest where it is long. It is the same on every rung.
    """

    file: InputFile | None = None
    stdin: InputFile | None = None
    stdout: str | None = None
    stdout_sha256: Digest | None = None

    @model_validator(mode="after")
    def _one_expectation(self) -> Size:
        if (self.stdout is None) == (self.stdout_sha256 is None):
            raise ValueError("exactly one of stdout and stdout_sha256 is needed")
        return self

    @property
    def expected_sha256(self) -> str:
        """Digest of the standard output that is expected."""
        return self.stdout_sha256 or hashlib.sha256((self.stdout or "").encode()).hexdigest()


class Workload(_Strict):
    """One measured program. ``serves``: it is built into a handler that runs it for each request (`handler`)."""

    name: str = Field(pattern=NAME)
    summary: str
    language: Language
    sources: list[str] = Field(min_length=1)
    args: list[str] = []
    serves: Literal["http"] | None = None
    sizes: dict[Literal["full", "small"], Size]
    directory: Path = Field(exclude=True)

    def arguments(self, data: str) -> list[str]:
        """The command line's arguments when the directory with the files is called ``data``."""
        return [word.replace("{data}", data) for word in self.args]


def directory() -> Path:
    """Where the sources are."""
    return paths.root() / "workloads"


def load(path: Path) -> Workload:
    """Read one workload.yaml.

    Raises:
        SkerryError: WORKLOAD_002 with the key that is wrong.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        workload = Workload.model_validate({**found, "directory": path.parent})
    except (yaml.YAMLError, TypeError) as error:
        raise SkerryError("WORKLOAD_002", f"{path}: {error}", "mend the YAML") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "workload"
        cause = f"{path}: {key}: {first['msg']}"
        raise SkerryError("WORKLOAD_002", cause, "docs/workloads.md lists the keys") from error
    for source in workload.sources:
        if not (path.parent / source).is_file() or Path(source).is_absolute() or ".." in Path(source).parts:
            cause = f"{path}: sources: {source} is not there, or not in this folder"
            raise SkerryError("WORKLOAD_002", cause, "name files that lie beside workload.yaml, or in a folder there")
    return workload


def load_all(names: list[str] | None = None) -> list[Workload]:
    """All workloads, or those named, in the order of their names (or as named).

    Raises:
        SkerryError: WORKLOAD_001 for a name that is not there, WORKLOAD_002 for a manifest that is wrong.
    """
    found = {path.parent.name: path for path in sorted(directory().glob("*/workload.yaml"))}
    for name in names or []:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(found)}"
            raise SkerryError("WORKLOAD_001", f"no workload is called {name!r}", hint)
    return [load(found[name]) for name in names or found]
