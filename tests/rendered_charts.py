"""Charts of the mirror, rendered by Helm with the values that the roles give them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry import paths

Object = dict[str, Any]


def archive(release: dict[str, Any]) -> Path:
    """The chart's archive in the default mirror; skips where it is not there."""
    chart, version = release["chart"], release["version"]
    found: Path = paths.mirror() / chart / version / "noarch" / f"{chart}-{version}.tgz"
    if not found.is_file():
        pytest.skip(f"chart {chart} {version} is not in the mirror {paths.mirror()}")
    return found


def template(helm: str, release: dict[str, Any], folder: Path, namespace: str = "made-up") -> list[Object]:
    """All objects of a release, hooks included. Raises AssertionError with Helm's words when it refuses the values."""
    values = folder / "values.yaml"
    values.write_text(json.dumps(release["values"]))  # in YAML a bare `y` is a word to Python and true to Go
    command = [
        helm,
        "template",
        release["chart"],
        str(archive(release)),
        "--namespace",
        namespace,
        "--values",
        str(values),
    ]
    command += ["--kube-version", "v1.36.3", "--include-crds"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def one(objects: list[Object], kind: str, name: str = "") -> Object:
    """The one object of a kind, and of a name where several are of that kind."""
    found = [item for item in objects if item["kind"] == kind and name in ("", item["metadata"]["name"])]
    assert len(found) == 1, [item["metadata"]["name"] for item in found]
    return found[0]


def pod_specs(objects: list[Object]) -> list[Object]:
    """Specifications of the pods that the workloads make."""
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "Job")
    return [item["spec"]["template"]["spec"] for item in objects if item["kind"] in kinds]


def containers(spec: Object) -> list[Object]:
    """All containers of a pod."""
    return [*(spec.get("initContainers") or []), *spec["containers"]]


def images(objects: list[Object]) -> set[str]:
    """Images of all pods."""
    return {container["image"] for spec in pod_specs(objects) for container in containers(spec)}
