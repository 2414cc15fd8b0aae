"""From a workload file to what was submitted: documents checked, variables filled in, files known by their digests."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from skerry.deploy.model import Workload, is_digest
from skerry.deploy.modules import Form, look
from skerry.errors import SkerryError

#: What a module that is in a registry begins with.
OCI = "oci://"
_HOLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})")


@dataclass(frozen=True)
class Module:
    """The module of a workload: ``path`` is None when the file names a digest that hosts are to have already."""

    digest: str
    name: str
    size: int
    form: Form
    path: Path | None


@dataclass(frozen=True)
class Submitted:
    """One workload as it was submitted.

    Attributes:
        owner: which file it came from; what an owner no longer names is removed with ``--prune``.
        blobs: digest (hexadecimal SHA-256) -> file of the controller: module, config files, standard input.
        secrets: name -> value; kept out of every representation.
        fingerprints: of secrets whose values may not be known any more.
        folder: what paths of the file are relative to.
    """

    workload: Workload
    owner: str
    module: Module
    files: Mapping[str, str] = field(default_factory=dict)
    stdin: str | None = None
    blobs: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def name(self) -> str:
        return self.workload.name

    def fingerprint(self, name: str) -> str:
        """Of a secret."""
        return self.fingerprints.get(name) or fingerprint(name, self.secrets[name])

    @property
    def missing(self) -> list[str]:
        """Secrets whose values are not known."""
        return sorted(set(self.workload.secrets) - set(self.secrets))


def fingerprint(name: str, value: bytes) -> str:
    """What tells a changed secret; keyed by its name, so that equal secrets do not show as equal."""
    return hmac.new(name.encode(), value, hashlib.sha256).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal. Raises SkerryError (DEPLOY_005)."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SkerryError("DEPLOY_005", f"{path} cannot be read: {error.strerror}",
                          "paths are relative to the workload file") from error


def fill(value: Any, variables: Mapping[str, str], missing: set[str]) -> Any:
    """``value`` with every ``${NAME}`` filled in; ``$$`` is a dollar. A text that is one hole alone takes the type that
    YAML gives its value (a number of replicas is a number). Names without a value are added to ``missing``."""
    if isinstance(value, dict):
        return {key: fill(inner, variables, missing) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, variables, missing) for inner in value]
    if not isinstance(value, str):
        return value

    def put(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return "$"
        if name not in variables and found["default"] is None:
            missing.add(name)
        return variables.get(name, found["default"] or "")

    text = _HOLE.sub(put, value)
    alone = _HOLE.fullmatch(value)
    return yaml.safe_load(text) if alone and alone["name"] and text else text


def _documents(path: Path) -> list[Any]:
    try:
        found = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one is not None]
    except OSError as error:
        raise SkerryError("DEPLOY_001", f"{path} cannot be read: {error.strerror}", "name a workload file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise SkerryError("DEPLOY_002", f"{path} is no YAML: {said}", "mend the line that is named") from error
    if not found:
        raise SkerryError("DEPLOY_002", f"{path} holds no document", "docs/workload-file.md shows one")
    return found


def _refused(path: Path, number: int, name: str, error: ValidationError) -> SkerryError:
    said = []
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"]) or "the document"
        unknown = one["type"] == "extra_forbidden"
        hint = "is not a key of a workload" if unknown else one["msg"].removeprefix("Value error, ")
        said.append(f"{key}: {hint}")
    shown = f"document {number}" + (f" ({name})" if name else "")
    return SkerryError("DEPLOY_003", f"{path}, {shown}: {'; '.join(said)}",
                       "docs/workload-file.md lists every key; skerry workload schema lets editors complete them")


def parse(path: Path, variables: Mapping[str, str]) -> list[Workload]:
    """The workloads of a file.

    Raises:
        SkerryError: DEPLOY_001 to DEPLOY_004 and DEPLOY_006, naming file, document and key.
    """
    missing: set[str] = set()
    documents = [fill(one, variables, missing) for one in _documents(path)]
    if missing:
        raise SkerryError("DEPLOY_004", f"{path} has no value for {', '.join(sorted(missing))}",
                          "give them with -V NAME=VALUE or -E NAME, or a default as ${NAME:-default}")
    found: list[Workload] = []
    for number, document in enumerate(documents, 1):
        name = str(document.get("name", "")) if isinstance(document, dict) else ""
        try:
            found.append(Workload.model_validate(document))
        except ValidationError as error:
            raise _refused(path, number, name, error) from error
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SkerryError("DEPLOY_006", f"{path} names {', '.join(twice)} twice", "give each workload its own name")
    return found


def _secret(workload: Workload, name: str, folder: Path) -> bytes:
    source = workload.secrets[name]
    if source.env is not None:
        if source.env not in os.environ:
            raise SkerryError("DEPLOY_007", f"{workload.name}: secret {name}: the variable {source.env} is not set",
                              f"export {source.env} before the command")
        return os.environb[source.env.encode()]
    path = folder / (source.file or "")
    try:
        return path.read_bytes().removesuffix(b"\n")
    except OSError as error:
        raise SkerryError("DEPLOY_007", f"{workload.name}: secret {name}: {path} cannot be read: {error.strerror}",
                          "paths are relative to the workload file") from error


def _module(workload: Workload, folder: Path) -> Module:
    given, path = workload.module, folder / workload.module
    if workload.image or is_digest(given) or given.startswith(OCI):
        from skerry.deploy import images
    if workload.image:
        image = images.resolve(workload.image)
        return Module(image.digest.removeprefix("sha256:"), images.written(image), 0, "image", None)
    if is_digest(given):
        found = images.module_by_digest(given)
        if found is None:
            return Module(given.removeprefix("sha256:"), workload.name, 0, "core", None)
        path = found
    elif given.startswith(OCI):
        path = images.module(given)
    elif (path / "workload.yaml").is_file():
        from skerry.workloads import manifest
        from skerry.workloads.build import build_one

        path = build_one(manifest.load(path / "workload.yaml"), "wasm").path
    known = look(path)
    return Module(digest(path), path.name.removesuffix(".wasm"), known.size, known.form, path)


def _submit(workload: Workload, owner: str, folder: Path) -> Submitted:
    blobs: dict[str, Path] = {}

    def keep(path: Path) -> str:
        key = digest(path)
        blobs[key] = path
        return key

    module = _module(workload, folder)
    if module.form == "http" and len(workload.ports) != 1:
        raise SkerryError("DEPLOY_060", f"{workload.name}: {workload.module} answers wasi:http, but has no port",
                          "make it a service with one port, such as ports: [{port: 8080}]")
    if module.form == "http" and workload.args:
        raise SkerryError("DEPLOY_061", f"{workload.name}: {workload.module} answers wasi:http, and takes no arguments",
                          "give it env, secrets or files instead")
    if module.path is not None:
        blobs[module.digest] = module.path
    files = {one.guest: keep(folder / one.source) for one in workload.files}
    stdin = keep(folder / workload.stdin) if workload.stdin is not None else None
    secrets = {name: _secret(workload, name, folder) for name in workload.secrets}
    return Submitted(workload, owner, module, files, stdin, blobs, secrets, folder=folder)


def read(path: Path, variables: Mapping[str, str], owner: str = "") -> list[Submitted]:
    """Everything that a workload file submits; nothing was sent anywhere when this raises.

    Args:
        variables: for the file's ``${NAME}``.
        owner: whose workloads these are; by default the file's own name without its ending.

    Raises:
        SkerryError: DEPLOY_001 to DEPLOY_007, DEPLOY_010, DEPLOY_060, DEPLOY_061, RUN_001 to RUN_006;
            WORKLOAD_... of a folder.
    """
    owner = owner or re.sub(r"[^a-z0-9-]+", "-", path.stem.lower()).strip("-") or "workloads"
    return [_submit(one, owner, path.parent) for one in parse(path, variables)]


def variables_of(given: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Variables from ``-V NAME=VALUE`` and ``-E NAME``. Raises SkerryError (DEPLOY_008)."""
    found: dict[str, str] = {}
    for name in taken:
        if name not in os.environ:
            raise SkerryError("DEPLOY_008", f"-E {name}: the environment has no such variable", f"export {name}")
        found[name] = os.environ[name]
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise SkerryError("DEPLOY_008", f"-V {pair!r} is not of the form NAME=VALUE", "write -V NAME=VALUE")
        found[name] = value
    return found
