"""Finds and reads the files of an inventory, with the line of every key."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from skerry.errors import SkerryError
from skerry.inventory.specs import Loader

#: Endings that Ansible passes over in an inventory folder.
IGNORED = (".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry")
VAULT_HEADER = "$ANSIBLE_VAULT"


class Kind(StrEnum):
    """What a file is to Ansible."""

    YAML = "yaml"  #: an inventory in YAML
    INI = "ini"
    DYNAMIC = "dynamic"  #: a script or the configuration of an inventory plugin: only Ansible knows what is in it
    GROUP = "group"  #: variables of a group
    HOST = "host"


class Vaulted(str):
    """A value that Ansible Vault keeps; its text is the cipher text."""

    __slots__ = ()


class _Reader(Loader):  # type: ignore[misc]
    """Reads YAML as Ansible does: ``!vault`` and ``!unsafe`` are values."""


_Reader.add_constructor("!vault", lambda loader, node: Vaulted(loader.construct_scalar(node)))
_Reader.add_constructor("!vault-encrypted", lambda loader, node: Vaulted(loader.construct_scalar(node)))
_Reader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


@dataclass(frozen=True)
class Fault:
    """A place where a file cannot be understood. ``what`` is `syntax`, `duplicate` or `structure`."""

    what: str
    line: int
    key: str
    text: str


@dataclass
class Document:
    """One YAML file: its root node and a constructor that turns nodes into values."""

    path: Path
    node: yaml.Node | None = None
    faults: list[Fault] = field(default_factory=list)
    encrypted: bool = False
    _reader: Any = None

    def value(self, node: yaml.Node) -> Any:
        """The Python value of a node."""
        return self._reader.construct_object(node, deep=True)

    def pairs(self, node: yaml.Node) -> Iterator[tuple[str, int, yaml.Node]]:
        """Key, line and value node of a mapping, merge keys resolved; nothing for other nodes."""
        if not isinstance(node, yaml.MappingNode):
            return
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            self._reader.flatten_mapping(node)
        for key, value in node.value:
            yield str(key.value), key.start_mark.line + 1, value


def read(path: Path) -> Document:
    """Read a YAML file; what is wrong with it stands in its ``faults``.

    Raises:
        SkerryError: INVENTORY_001 when the file cannot be opened.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    if text.lstrip().startswith(VAULT_HEADER):
        return Document(path, encrypted=True)
    try:
        reader = _Reader(text)
        document = Document(path, reader.get_single_node(), _reader=reader)
        if document.node is not None:
            document.faults = list(_duplicates(document.node))
            document.value(document.node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        return Document(path, faults=[Fault("syntax", mark.line + 1 if mark else 1, "", said)])
    except yaml.YAMLError as error:
        return Document(path, faults=[Fault("syntax", 1, "", str(error).split("\n", maxsplit=1)[0])])
    return document


def _duplicates(node: yaml.Node) -> Iterator[Fault]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if key.value in seen:
                    yield Fault("duplicate", line, key.value, f"{key.value} stands in line {seen[key.value]} already")
                seen[key.value] = line
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicates(value)


def unreadable(path: Path, reason: str) -> SkerryError:
    """The error of an inventory that cannot be opened at all."""
    return SkerryError("INVENTORY_001", f"cannot read the inventory {path}: {reason}",
                       "name a folder or file that exists, such as -i inventories/lab")


def sources(path: Path) -> Iterator[tuple[Kind, Path]]:
    """Inventory files below ``path`` (a file, or a folder as Ansible walks it), in Ansible's order.

    Raises:
        SkerryError: INVENTORY_001 when there is no such path, or it may not be read.
    """
    try:
        if path.is_dir():
            for item in sorted(path.iterdir()):
                if item.name.startswith(".") or item.name.endswith(IGNORED):
                    continue
                if item.is_dir():
                    if item.name not in ("group_vars", "host_vars", "vars_plugins"):
                        yield from sources(item)
                else:
                    yield kind_of(item), item
        elif path.is_file():
            yield kind_of(path), path
        else:
            raise unreadable(path, "there is no such file or folder")
    except PermissionError as error:
        raise unreadable(path, error.strerror or "not permitted") from error


def kind_of(path: Path) -> Kind:
    """What an inventory file is, from its name, mode and first lines."""
    if os.access(path, os.X_OK) and stat.S_ISREG(path.stat().st_mode) and path.suffix not in (".yml", ".yaml", ".ini"):
        return Kind.DYNAMIC
    if path.suffix in (".yml", ".yaml", ".json"):
        with path.open(encoding="utf-8", errors="replace") as lines:
            return Kind.DYNAMIC if any(re.match(r"plugin:\s", line) for line in lines) else Kind.YAML
    return Kind.INI


def variable_files(path: Path) -> Iterator[tuple[Kind, str, Path]]:
    """Files of group_vars and host_vars beside the inventory ``path``: kind, name of the group or host, file."""
    base = path if path.is_dir() else path.parent
    for kind, folder in ((Kind.GROUP, base / "group_vars"), (Kind.HOST, base / "host_vars")):
        for item in sorted(folder.iterdir()) if folder.is_dir() else ():
            if item.name.startswith(".") or item.name.endswith(IGNORED):
                continue
            if item.is_dir():
                for inner in sorted(item.rglob("*")):
                    if inner.is_file() and inner.suffix in ("", ".yml", ".yaml", ".json"):
                        yield kind, item.name, inner
            elif item.suffix in (".yml", ".yaml", ".json"):
                yield kind, item.stem, item
            else:  # a name without an ending, possibly with dots of its own (a host's domain)
                yield kind, item.name, item
