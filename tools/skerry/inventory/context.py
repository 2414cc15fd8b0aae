"""What the rules look at: the files' own model, Ansible's view, and the variables that our roles know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from skerry import paths
from skerry.inventory.effective import Effective
from skerry.inventory.files import Document
from skerry.inventory.findings import Finding, Rule
from skerry.inventory.model import Assignment, Inventory, Place
from skerry.inventory.specs import Option, RoleSpec


@dataclass
class Context:
    """One inventory under examination.

    Attributes:
        effective: Ansible's view; None when Ansible was not asked or could not read the inventory.
        roles, site: the argument specs of the roles and the site-wide variables.
    """

    inventory: Inventory
    effective: Effective | None
    roles: dict[str, RoleSpec]
    site: dict[str, Option] = field(default_factory=dict)

    @cached_property
    def known(self) -> dict[str, Option]:
        """Every public variable by name, aliases included."""
        found = dict(self.site)
        for role in self.roles.values():
            found.update(role.options)
        return found

    @cached_property
    def by_owner(self) -> dict[str, list[Assignment]]:
        """Assignments by the host or group that they are for."""
        found: dict[str, list[Assignment]] = {}
        for assignment in self.inventory.assignments:
            found.setdefault(assignment.owner, []).append(assignment)
        return found

    @cached_property
    def hosts(self) -> dict[str, dict[str, Any]]:
        """Hosts with their variables as Ansible merges them; without Ansible's view, hosts with their own alone."""
        if self.effective is not None:
            return self.effective.hosts
        return {
            name: {item.key: item.value for item in self.by_owner.get(f"host:{name}", [])}
            for name in self.inventory.hosts
        }

    def members(self, group: str) -> set[str]:
        """Hosts of a group, children included."""
        return self.effective.members(group) if self.effective is not None else self.inventory.members(group)

    def place_of_host(self, name: str, key: str = "") -> Place | None:
        """Where ``key`` is set for the host, else where the host is named first."""
        for item in self.by_owner.get(f"host:{name}", []):
            if item.key == key:
                return item.place
        return self.inventory.hosts.get(name)

    def place_of_member(self, group: str, host: str) -> Place | None:
        """Where ``host`` is named in ``group`` itself, else where the group is."""
        found = self.inventory.groups.get(group)
        if found is None:
            return None
        return found.hosts.get(host) or (found.places[0] if found.places else None)

    def finding(self, rule: Rule, place: Place | Path | None, key: str, cause: str, remedy: str = "") -> Finding:
        """A finding of ``rule``; the rule's own remedy follows a closer one."""
        file = place.path if isinstance(place, Place) else place or self.inventory.path
        line = place.line if isinstance(place, Place) else None
        told = f"{remedy} {rule.remedy}".strip() if remedy.endswith("?") else remedy or rule.remedy
        return Finding(rule, relative(file), line, key, cause, told)


def relative(path: Path) -> str:
    """A path as a person typed it or would: below the working directory or the checkout where it is."""
    for base in (Path.cwd(), paths.root()):
        if path.is_absolute() and path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


def line_of(assignment: Assignment, path: tuple[str | int, ...]) -> int:
    """The line of what ``path`` leads to inside an assignment's value (its own line where that is unknown)."""
    node, line = assignment.node, assignment.place.line
    for step in path:
        if node is None or assignment.document is None:
            return line
        node, line = _inside(assignment.document, node, step, line)
    return line


def _inside(document: Document, node: yaml.Node, step: str | int, line: int) -> tuple[yaml.Node | None, int]:
    if isinstance(step, int) and isinstance(node, yaml.SequenceNode) and step < len(node.value):
        return node.value[step], node.value[step].start_mark.line + 1
    for key, at, value in _pairs(document, node):
        if key == str(step):
            return value, at
    return None, line


def _pairs(document: Document, node: yaml.Node) -> Iterator[tuple[str, int, yaml.Node]]:
    yield from document.pairs(node)
