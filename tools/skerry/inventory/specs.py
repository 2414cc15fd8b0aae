"""The argument specs of our roles as data: what variables there are, of which type, with which choices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from skerry import paths
from skerry.errors import SkerryError

#: The C loader is ten times as fast; PyYAML's wheels have it, a source build may not.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Option:
    """One variable of a role, or one key of a nested option, as its argument spec describes it.

    Attributes:
        type: an argument spec type (str, int, float, bool, list, dict, path, raw).
        elements: the type of a list's members, or None.
        options: keys of a dict (or of a list's dicts); empty means free keys.
        default: what the spec says; None for "none given".
    """

    name: str
    type: str = "str"
    description: tuple[str, ...] = ()
    required: bool = False
    choices: tuple[Any, ...] = ()
    elements: str | None = None
    default: Any = None
    no_log: bool = False
    aliases: tuple[str, ...] = ()
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class EntryPoint:
    """One way into a role: ``main``, or another tasks file with a spec of its own."""

    name: str
    short_description: str
    description: tuple[str, ...]
    options: dict[str, Option]


@dataclass(frozen=True)
class RoleSpec:
    """A role's name, folder and entry points; ``defaults`` are the raw values of defaults/main.yml."""

    name: str
    path: Path
    entry_points: dict[str, EntryPoint]
    defaults: dict[str, Any]
    meta: dict[str, Any]

    @property
    def options(self) -> dict[str, Option]:
        """Options of all entry points; the same name in two of them is the same variable (``main`` wins)."""
        merged: dict[str, Option] = {}
        for entry in sorted(self.entry_points.values(), key=lambda e: e.name != "main"):
            for name, option in entry.options.items():
                merged.setdefault(name, option)
        return merged


def _strings(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(item).strip() for item in (value if isinstance(value, list) else [value]))


def option_from(name: str, raw: dict[str, Any]) -> Option:
    """An `Option` from its mapping in an argument spec."""
    nested = raw.get("options") or {}
    return Option(
        name=name,
        type=str(raw.get("type", "str")),
        description=_strings(raw.get("description")),
        required=bool(raw.get("required", False)),
        choices=tuple(raw.get("choices") or ()),
        elements=raw.get("elements"),
        default=raw.get("default"),
        no_log=bool(raw.get("no_log", False)),
        aliases=tuple(raw.get("aliases") or ()),
        options={key: option_from(key, value or {}) for key, value in nested.items()},
    )


def read_yaml(path: Path) -> Any:
    """The content of a YAML file that belongs to the project; an empty mapping when there is no such file.

    Raises:
        SkerryError: SPEC_001 when the file is no YAML.
    """
    if not path.exists():
        return {}
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader) or {}
    except yaml.YAMLError as error:
        cause = f"{path} is not valid YAML: {error}"
        raise SkerryError("SPEC_001", cause, "mend the file, or restore it from git") from error


def load_role(path: Path) -> RoleSpec:
    """The spec of the role in folder ``path``.

    Raises:
        SkerryError: SPEC_001 when a file of it is no YAML.
    """
    raw = read_yaml(path / "meta" / "argument_specs.yml").get("argument_specs") or {}
    entries = {
        name: EntryPoint(
            name=name,
            short_description=str(entry.get("short_description", "")).strip(),
            description=_strings(entry.get("description")),
            options={key: option_from(key, value or {}) for key, value in (entry.get("options") or {}).items()},
        )
        for name, entry in raw.items()
    }
    defaults, meta = read_yaml(path / "defaults" / "main.yml"), read_yaml(path / "meta" / "main.yml")
    return RoleSpec(path.name, path, entries, defaults, meta)


def role_folders(root: Path | None = None) -> Iterator[Path]:
    """Folders of the project's roles, in the order of their names."""
    for path in sorted(((root or paths.root()) / "roles").glob("*/meta/argument_specs.yml")):
        yield path.parent.parent


def load_roles(root: Path | None = None) -> dict[str, RoleSpec]:
    """Every role of the checkout ``root`` (default: this one) by name; read once a process."""
    return _roles_of(root or paths.root())


@cache
def _roles_of(root: Path) -> dict[str, RoleSpec]:
    return {path.name: load_role(path) for path in role_folders(root)}


@cache
def site_options() -> dict[str, Option]:
    """Variables of the site (``skerry_*``) and of sandbox hosts, described in site_variables.yml here."""
    raw = read_yaml(Path(__file__).with_name("site_variables.yml"))
    return {name: option_from(name, value) for name, value in raw.items()}
