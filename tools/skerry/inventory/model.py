"""An inventory as its files have it: hosts, groups, and every assignment of a variable with its place."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from skerry.inventory.files import Document, Fault, Kind, read, sources, variable_files

_RANGE = re.compile(r"\[([0-9]+|[a-z]|[A-Z]):([0-9]+|[a-z]|[A-Z])(?::([0-9]+))?\]")


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    path: Path
    line: int


@dataclass(frozen=True)
class Assignment:
    """A variable that is set for a host or a group.

    Attributes:
        owner: `host:<name>` or `group:<name>`.
        node, document: where the value was read from, for the lines of what is inside it (None in INI files).
    """

    owner: str
    key: str
    value: Any
    place: Place
    node: yaml.Node | None = None
    document: Document | None = None


@dataclass
class Group:
    """A group: members and children with the places where they are named."""

    name: str
    hosts: dict[str, Place] = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    has_vars: bool = False


@dataclass
class Inventory:
    """What the files of an inventory say, without what only Ansible can know (scripts, plugins)."""

    path: Path
    groups: dict[str, Group] = field(default_factory=dict)
    hosts: dict[str, Place] = field(default_factory=dict)
    assignments: list[Assignment] = field(default_factory=list)
    faults: list[tuple[Path, Fault]] = field(default_factory=list)
    variable_files: list[tuple[Kind, str, Path]] = field(default_factory=list)
    dynamic: list[Path] = field(default_factory=list)
    encrypted: list[Path] = field(default_factory=list)

    def group(self, name: str, place: Place | None = None) -> Group:
        """The group ``name``, made when it is new."""
        found = self.groups.setdefault(name, Group(name))
        if place:
            found.places.append(place)
        return found

    def members(self, name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        """Hosts of a group and of its children; a group that contains itself is entered once."""
        if name == "all":
            return set(self.hosts)
        if name not in self.groups or name in seen:
            return set()
        found = set(self.groups[name].hosts)
        for child in self.groups[name].children:
            found |= self.members(child, seen | {name})
        return found


def expand(pattern: str) -> list[str]:
    """Host names of a pattern with ranges: ``web[01:03]`` is web01, web02, web03."""
    found = _RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last, step = found[1], found[2], int(found[3] or 1)
    if first.isdigit() != last.isdigit() or step < 1:
        return [pattern]
    if first.isdigit():
        width = len(first) if first.startswith("0") else 0
        middle = [str(number).zfill(width) for number in range(int(first), int(last) + 1, step)]
    else:
        middle = [chr(number) for number in range(ord(first), ord(last) + 1, step)]
    return [name for part in middle for name in expand(pattern[: found.start()] + part + pattern[found.end() :])]


def load(path: Path) -> Inventory:
    """Read all files of the inventory at ``path`` (a folder or a file).

    Raises:
        SkerryError: INVENTORY_001 when there is nothing to read there.
    """
    inventory = Inventory(path)
    for kind, file in sources(path):
        if kind is Kind.DYNAMIC:
            inventory.dynamic.append(file)
        elif kind is Kind.INI:
            _read_ini(inventory, file)
        else:
            document = _document(inventory, file)
            if document.node is not None:
                _read_groups(inventory, document, document.node)
    for kind, owner, file in variable_files(path):
        inventory.variable_files.append((kind, owner, file))
        document = _document(inventory, file)
        if document.node is not None:
            prefix = "group" if kind is Kind.GROUP else "host"
            _read_vars(inventory, document, document.node, f"{prefix}:{owner}")
    return inventory


def _document(inventory: Inventory, file: Path) -> Document:
    document = read(file)
    inventory.faults += [(file, fault) for fault in document.faults]
    if document.encrypted:
        inventory.encrypted.append(file)
    return document


def _fault(inventory: Inventory, document: Document, line: int, key: str, text: str) -> None:
    inventory.faults.append((document.path, Fault("structure", line, key, text)))


def _null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _mapping(
    inventory: Inventory, document: Document, node: yaml.Node, what: str
) -> Iterator[tuple[str, int, yaml.Node]]:
    if _null(node):
        return
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        _fault(inventory, document, line, what, f"{what} has to be a mapping (each name with a colon after it)")
        return
    yield from document.pairs(node)


def _read_groups(inventory: Inventory, document: Document, node: yaml.Node) -> None:
    for name, line, value in _mapping(inventory, document, node, "an inventory"):
        _read_group(inventory, document, name, line, value)


def _read_group(inventory: Inventory, document: Document, name: str, line: int, node: yaml.Node) -> None:
    group = inventory.group(name, Place(document.path, line))
    for key, at, value in _mapping(inventory, document, node, f"group {name}"):
        if key == "hosts":
            for pattern, host_line, variables in _mapping(inventory, document, value, f"hosts of {name}"):
                for host in expand(pattern):
                    place = Place(document.path, host_line)
                    inventory.hosts.setdefault(host, place)
                    group.hosts.setdefault(host, place)
                    _read_vars(inventory, document, variables, f"host:{host}")
        elif key == "vars":
            group.has_vars = True
            _read_vars(inventory, document, value, f"group:{name}")
        elif key == "children":
            for child, child_line, inner in _mapping(inventory, document, value, f"children of {name}"):
                group.children.setdefault(child, Place(document.path, child_line))
                _read_group(inventory, document, child, child_line, inner)
        else:
            _fault(inventory, document, at, key, f"group {name} has a key {key}; it may have hosts, vars and children")


def _read_vars(inventory: Inventory, document: Document, node: yaml.Node, owner: str) -> None:
    for key, line, value in _mapping(inventory, document, node, f"the variables of {owner.split(':', 1)[1]}"):
        place = Place(document.path, line)
        inventory.assignments.append(Assignment(owner, key, document.value(value), place, value, document))


def _read_ini(inventory: Inventory, path: Path) -> None:
    """Ansible's INI form: [group], [group:vars], [group:children]; hosts with key=value pairs."""
    section, kind = "ungrouped", "hosts"
    for number, raw in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        line, place = raw.strip(), Place(path, number)
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section, _, kind = line[1:-1].partition(":")
            kind = kind or "hosts"
            inventory.group(section, place)
            continue
        try:
            _read_ini_line(inventory, section, kind, line, place)
        except ValueError as error:
            inventory.faults.append((path, Fault("syntax", number, "", f"{error} in: {line}")))


def _read_ini_line(inventory: Inventory, section: str, kind: str, line: str, place: Place) -> None:
    group = inventory.group(section)
    if kind == "children":
        child = line.split(maxsplit=1)[0]
        group.children.setdefault(child, place)
        inventory.group(child)
    elif kind == "vars":
        group.has_vars = True
        key, _, value = line.partition("=")
        inventory.assignments.append(Assignment(f"group:{section}", key.strip(), _literal(value.strip()), place))
    else:
        words = shlex.split(line, comments=True)
        for host in expand(words[0]):
            inventory.hosts.setdefault(host, place)
            group.hosts.setdefault(host, place)
            for word in words[1:]:
                key, sign, value = word.partition("=")
                if not sign:
                    raise ValueError(f"{word} is no key=value")
                inventory.assignments.append(Assignment(f"host:{host}", key, _literal(value), place))


def _literal(text: str) -> Any:
    """A value of an INI file as Ansible reads it: a Python literal where it is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
