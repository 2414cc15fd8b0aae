"""Charts: where a repository has them, and which images they run, as Helm renders them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.mirror.download import fetch_text
from skerry.mirror.reference import Reference, parse
from skerry.mirror.registry import Repository

LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
TIMEOUT = 120
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: A full reference inside an argument or a variable: a registry with a dot or port, a path, a tag or digest.
_INSIDE = re.compile(
    r"(?<![\w./:@-])((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?:/[a-z0-9._-]+)+"
    r"(?::[A-Za-z0-9_][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?)(?![\w/])"
)


class Chart(BaseModel):
    """A chart as a role installs it; ``repo`` is an http(s) repository or oci://registry/folder."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    chart: str
    version: str
    repo: str = ""
    release: str = ""
    namespace: str = "default"
    values: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _split(cls, data: Any) -> Any:
        """`chart` may be a whole oci:// address."""
        if isinstance(data, dict) and str(data.get("chart", "")).startswith("oci://"):
            repo, _, name = str(data["chart"]).rstrip("/").rpartition("/")
            return {**data, "repo": repo, "chart": name}
        return data

    @property
    def file(self) -> str:
        """Its file in a mirror; the folder is <chart>/<version>/noarch."""
        return f"{self.chart}-{self.version}.tgz"

    @property
    def images_file(self) -> str:
        """The list of its images, beside it."""
        return f"{self.chart}-{self.version}.images.txt"


def _none(chart: Chart, why: str) -> SkerryError:
    return SkerryError(
        "MIRROR_016", f"{chart.repo} has no chart {chart.chart} {chart.version} ({why})",
        "check the role's repository and version; or put the chart there: skerry mirror add FILE "
        f"--as {chart.chart} --version {chart.version} --arch noarch --file {chart.file}", Exit.FAILED,
    )


def locate(chart: Chart, redirects: Mapping[str, str]) -> tuple[str, str]:
    """Where a chart lies: (URL of the .tgz, checksum "sha256:<hex>" or "").

    Raises:
        SkerryError: MIRROR_008 (no network), MIRROR_016 (not there), MIRROR_013, MIRROR_014 (OCI registries).
    """
    if chart.repo.startswith("oci://"):
        return _in_registry(chart, redirects)
    index = chart.repo.rstrip("/") + "/index.yaml"
    try:
        entries = yaml.load(fetch_text(index), Loader=_LOADER)["entries"]
        versions = entries.get(chart.chart) or []
        found = next((entry for entry in versions if _same(str(entry["version"]), chart.version)), None)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise _none(chart, f"{index} is no index of charts: {error}") from error
    if found is None or not found.get("urls"):
        raise _none(chart, f"its newest is {versions[0]['version']}" if versions else "no version of it")
    digest = str(found.get("digest") or "").removeprefix("sha256:")
    return urljoin(chart.repo.rstrip("/") + "/", found["urls"][0]), f"sha256:{digest}" if digest else ""


def _same(one: str, other: str) -> bool:
    return one.removeprefix("v") == other.removeprefix("v")


def oci_repository(chart: Chart, redirects: Mapping[str, str]) -> Repository:
    """The repository of a chart with an oci:// address."""
    registry, _, folder = chart.repo.removeprefix("oci://").rstrip("/").partition("/")
    return Repository(registry, f"{folder}/{chart.chart}" if folder else chart.chart, redirects)


def _in_registry(chart: Chart, redirects: Mapping[str, str]) -> tuple[str, str]:
    manifest = oci_repository(chart, redirects).manifest(chart.version.replace("+", "_"))
    layer = next((part for part in manifest.json.get("layers", []) if part.get("mediaType") == LAYER), None)
    if layer is None:
        raise _none(chart, "what lies there is no chart")
    return f"{chart.repo.rstrip('/')}/{chart.chart}@{layer['digest']}", layer["digest"]


def helm() -> str:
    """The Helm command: $SKERRY_HELM, the one of PATH, or one that the tests have built; "" when there is none."""
    if named := os.environ.get("SKERRY_HELM") or shutil.which("helm"):
        return named
    built = sorted((paths.cache() / "kube").glob("*/helm"), key=lambda path: path.stat().st_mtime)
    return str(built[-1]) if built else ""


def render(command: str, archive: Path, chart: Chart, kubernetes: str = "") -> str:
    """What Helm makes of a chart's archive with the role's values, hooks included, tests left out.

    Raises:
        SkerryError: MIRROR_017 when Helm refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-helm-") as folder:
        values = Path(folder) / "values.yaml"
        values.write_text(yaml.safe_dump(chart.values), encoding="utf-8")
        words = [command, "template", chart.release or chart.chart, str(archive), "--namespace", chart.namespace,
                 "--values", str(values), "--skip-tests", "--include-crds"]  # fmt: skip
        words += ["--kube-version", kubernetes] if kubernetes else []
        home = {f"HELM_{name}_HOME": folder for name in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=TIMEOUT, env={**os.environ, **home}
        )
    if done.returncode != 0:
        raise SkerryError(
            "MIRROR_017", f"Helm cannot render {archive.name} with the role's values: {done.stderr.strip()[-600:]}",
            "correct the values of that role in your inventory", Exit.FAILED,
        )
    return done.stdout


def images_of(rendered: str) -> set[str]:
    """References of images in rendered manifests, as they stand there: of containers, and inside their arguments,
    variables and whatever else a custom resource calls an image."""
    found: set[str] = set()
    for document in yaml.load_all(rendered, Loader=_LOADER):
        if isinstance(document, dict) and document.get("kind") != "CustomResourceDefinition":
            found.update(_walk(document))
    return found


def _walk(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _walk(item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "image" and isinstance(value, str) and value:
            yield value
        elif key in ("args", "command") and isinstance(value, list):
            for word in value:
                yield from _inside(str(word))
        elif key == "value" and isinstance(value, str) and "name" in node:
            yield from _inside(value)
        else:
            yield from _walk(value)


def _inside(text: str) -> Iterator[str]:
    for match in _INSIDE.finditer(text):
        reference = match.group(1)
        if ":" in reference.rpartition("/")[2]:
            yield reference


def read_list(text: str) -> list[Reference]:
    """A list of images, one reference a line; empty lines and those that begin with # do not count.

    Raises:
        SkerryError: MIRROR_011.
    """
    lines = (line.strip() for line in text.splitlines())
    return [parse(line) for line in lines if line and not line.startswith("#")]
