"""Checks an inventory: reads it, asks Ansible meanwhile, applies every rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from skerry.inventory import findings as f
from skerry.inventory import rules_files, rules_hosts, rules_variables
from skerry.inventory.context import Context
from skerry.inventory.effective import Asking, Effective
from skerry.inventory.findings import Finding, Severity
from skerry.inventory.model import Inventory, load
from skerry.inventory.specs import load_roles, site_options

#: Rules that need nothing but the files, then those that look at hosts together.
RULES: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    rules_files.faults,
    rules_files.empty,
    rules_files.host_names,
    rules_files.unknown_hosts,
    rules_files.unknown_owners,
    rules_files.unknown_groups,
    rules_variables.unknown,
    rules_variables.values,
    rules_variables.secrets,
    rules_variables.overridden,
    rules_hosts.addresses,
    rules_hosts.connections,
    rules_hosts.cluster,
    rules_hosts.places,
)


@dataclass
class Report:
    """What a check found. ``context`` is what it looked at."""

    context: Context
    findings: list[Finding]
    seconds: float

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(1 for item in self.findings if item.rule.severity is severity)


def examine(inventory: Inventory, effective: Effective | None) -> Context:
    """The context of an inventory, with the variables of this checkout's roles."""
    return Context(inventory, effective, load_roles(), site_options())


def check(path: Path, ask_ansible: bool = True) -> Report:
    """Every finding about the inventory at ``path``, in the order of its files.

    Raises:
        SkerryError: INVENTORY_001 when there is nothing to read at ``path``.
    """
    started = time.monotonic()
    inventory_exists = path.exists()
    asking = Asking(path) if ask_ansible and inventory_exists else None
    try:
        inventory = load(path)
    finally:
        effective = asking.answer() if asking else None
    usable = effective if effective is not None and not effective.failure else None
    context = examine(inventory, usable)
    found = [finding for rule in RULES for finding in rule(context)]
    if effective is not None and effective.failure:
        found += _refused(context, effective)
    unique = {(item.order, item.cause): item for item in found}
    return Report(context, sorted(unique.values(), key=lambda item: item.order), time.monotonic() - started)


def _refused(context: Context, effective: Effective) -> Iterator[Finding]:
    """Ansible's refusal: about vault passwords, or, where our own reading found no reason, its own words."""
    if effective.locked:
        cause = f"{len(context.inventory.encrypted) or 'some'} encrypted files, no vault password"
        yield context.finding(f.VAULT, context.inventory.path, "", cause)
    elif not any(fault.what in ("syntax", "structure") for _, fault in context.inventory.faults):
        yield context.finding(f.ANSIBLE, context.inventory.path, "", effective.failure)
