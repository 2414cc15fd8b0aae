"""Values of Helm charts, checked against the chart's own defaults and schema (tests/data/charts).

Helm itself accepts any key that a chart's schema does not forbid, and most charts have no schema: a misspelt key is
then ignored without a word. Here a key has to be in the defaults, in the schema, or in a comment of the defaults.
"""

from __future__ import annotations

import copy
import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from skerry import paths

DATA = paths.root() / "tests" / "data" / "charts"
#: Paths below which a chart takes keys of the user's own although its defaults are not empty there: chart -> patterns.
OPEN = {
    "*": [
        "*nodeSelector",
        "*annotations",
        "*Annotations",
        "*labels",
        "*Labels",
        "*matchLabels",
        "*limits",
        "*requests",
    ],
    # Jobs and rules are Prometheus's own words; security contexts are Kubernetes' own, and passed on whole.
    "prometheus": ["serverFiles", "serverFiles.*", "scrapeConfigs", "scrapeConfigs.*", "server.securityContext"],
    "alertmanager": ["config", "config.*", "podSecurityContext", "securityContext"],
    # What the parent prometheus sets for it.
    "prometheus-node-exporter": ["rbac", "containerSecurityContext"],
    # service.nodePort is in its template and in no default.
    "grafana": ["grafana.ini", "grafana.ini.*", "dashboardsConfigMaps", "service"],
    # Settings of the broker itself: the chart passes them on.
    "redpanda": ["config.*"],
}
_COMMENTED = re.compile(r"^(?P<before>\s*)#+(?P<after>\s*)(?P<key>[A-Za-z_][\w./-]*):(?:\s|$)")


@cache
def sources() -> dict[str, dict[str, dict[str, Any]]]:
    """tests/data/charts/sources.yml: chart -> version -> origin."""
    loaded: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((DATA / "sources.yml").read_text(encoding="utf-8"))
    return loaded


@dataclass(frozen=True)
class Chart:
    """One chart's defaults, schemas (its own, and what parents add) and commented keys, with its sub-charts by name."""

    name: str
    version: str
    defaults: dict[str, Any]
    schema: dict[str, Any]
    commented: dict[str, set[str]]
    children: dict[str, Chart] = field(default_factory=dict)


@cache
def load(name: str, version: str) -> Chart:
    """The chart's data. Raises LookupError where the tests have none for that version."""
    known = sources().get(name, {})
    found = next((key for key, row in known.items() if version in (key, *map(str, row.get("stands_for", [])))), None)
    if found is None:
        raise LookupError(
            f"no data of chart {name} {version} in {DATA} (there is {sorted(known)}): add it to sources.yml"
        )
    folder = DATA / name / found
    text = (folder / "values.yaml").read_text(encoding="utf-8")
    schema = folder / "values.schema.json"
    about = yaml.safe_load((folder / "Chart.yaml").read_text(encoding="utf-8"))
    children = {}
    for dependency in about.get("dependencies") or []:
        versions = list(sources().get(dependency["name"], {}))
        if versions:
            children[dependency.get("alias") or dependency["name"]] = load(dependency["name"], versions[0])
    return Chart(
        name, found, yaml.safe_load(text) or {}, json.loads(schema.read_text("utf-8")) if schema.is_file() else {},
        commented_keys(text), children,
    )  # fmt: skip


def commented_keys(text: str) -> dict[str, set[str]]:
    """Keys that the comments of a values file show, by the path of the map that they would belong to ('' is the top).

    Both ways of writing them count: ``# key:`` at its own indentation, and ``#   key:`` indented behind the sign.
    """
    stack: list[tuple[int, str]] = []
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        example = _COMMENTED.match(line)
        plain = re.match(r"^(\s*)([A-Za-z_][\w./-]*):(?:\s|$)", line)
        if plain:
            indent, key = len(plain[1]), plain[2]
            stack = [(depth, name) for depth, name in stack if depth < indent]
            stack.append((indent, key))
        elif example:
            for indent in {len(example["before"]), len(example["before"]) + max(0, len(example["after"]) - 1)}:
                above = [name for depth, name in stack if depth < indent]
                found.setdefault(".".join(above), set()).add(example["key"])
    return found


def coalesce(defaults: Any, values: Any) -> Any:
    """Helm's merge: maps are merged, everything else replaces, null removes the key."""
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return copy.deepcopy(values)
    merged = copy.deepcopy(defaults)
    for key, value in values.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = coalesce(merged.get(key), value)
    return merged


def problems(chart: Chart, values: dict[str, Any]) -> list[str]:
    """What is wrong with a role's values: unknown keys, other kinds than the defaults', the schema's complaints."""
    found = [*_unknown(chart, values, [chart.schema], chart.defaults, ""), *_schema_errors(chart, values)]
    for name, child in chart.children.items():
        if isinstance(values.get(name), dict):
            inner = coalesce(chart.defaults.get(name) or {}, values[name])
            if inner.get("enabled", True):
                found += [
                    f"{name}.{line}" for line in problems(child, {k: v for k, v in inner.items() if k != "enabled"})
                ]
    return found


def _schema_errors(chart: Chart, values: dict[str, Any]) -> Iterator[str]:
    if chart.schema:
        # A schema of draft "schema#" without a number means whatever is newest; the charts' words are the same in all.
        for error in jsonschema.Draft202012Validator(chart.schema).iter_errors(coalesce(chart.defaults, values)):
            yield f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def _unknown(chart: Chart, values: dict[str, Any], schemas: list[Any], defaults: Any, path: str) -> Iterator[str]:
    """Problems of one map of the values, and of those below it."""
    schemas = [node for schema in schemas for node in _resolved(schema, chart.schema)]
    free = _free(chart, schemas, defaults, path)
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        if not path and (key in chart.children or key == "global"):
            continue
        below = [node for schema in schemas for node in _below(schema, key)]
        default = defaults.get(key) if isinstance(defaults, dict) else None
        declared = below or (isinstance(defaults, dict) and key in defaults) or key in chart.commented.get(path, ())
        if not declared and not free:
            yield f"{here}: unknown to chart {chart.name} {chart.version}"
        elif isinstance(value, dict):
            if default is not None and not isinstance(default, dict):
                yield f"{here}: a map, where the default is {default!r}"
            elif declared:
                yield from _unknown(chart, value, below, default, here)
        elif isinstance(default, dict) and value is not None:
            yield f"{here}: {value!r}, where the default is a map"
        elif isinstance(default, list) != isinstance(value, list) and default not in (None, "") and value is not None:
            yield f"{here}: {value!r}, where the default is {default!r}"
        elif isinstance(value, list):
            items = [node["items"] for schema in below for node in _resolved(schema, chart.schema)
                     if isinstance(node.get("items"), dict)]  # fmt: skip
            for number, item in enumerate(value):
                if isinstance(item, dict) and items:
                    yield from _unknown(chart, item, items, None, f"{here}.{number}")


def _free(chart: Chart, schemas: list[Any], defaults: Any, path: str) -> bool:
    """Whether a map takes keys of the user's own."""
    if not path:
        return False
    if any(fnmatch.fnmatchcase(path, pattern) for pattern in OPEN["*"] + OPEN.get(chart.name, [])):
        return True
    structured = any(schema.get("properties") or schema.get("additionalProperties") is False for schema in schemas)
    return not defaults and not structured and not chart.commented.get(path)


def _resolved(schema: Any, root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema with references followed and alternatives side by side."""
    if not isinstance(schema, dict):
        return
    yield schema
    reference = schema.get("$ref", "")
    if reference.startswith("#/"):
        node: Any = root
        for part in reference[2:].split("/"):
            node = node[part]
        yield from _resolved(node, root)
    for word in ("allOf", "anyOf", "oneOf"):
        for node in schema.get(word, []):
            yield from _resolved(node, root)


def _below(schema: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """Schemas of a key."""
    if key in schema.get("properties", {}):
        yield schema["properties"][key]
        return
    for pattern, node in schema.get("patternProperties", {}).items():
        if re.search(pattern, key):
            yield node
    if isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"]


def folders() -> list[Path]:
    """All folders of chart data."""
    return sorted(path.parent for path in DATA.glob("*/*/values.yaml"))
