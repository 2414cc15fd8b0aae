"""Ansible's own view of an inventory: which hosts and groups there are, and what each host's variables come to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry import paths

#: What Ansible prints when an encrypted file is in its way; anything else is a real failure.
_VAULT = re.compile(r"vault (secrets?|password)", re.IGNORECASE)
TIMEOUT = 120


@dataclass
class Effective:
    """Hosts and groups as Ansible merges them. ``failure`` is what it said when it could not, ``locked`` why."""

    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    failure: str = ""
    locked: bool = False

    def members(self, name: str) -> set[str]:
        """Hosts of the group ``name``, children included."""
        return set(self.groups.get(name, ()))


class Asking:
    """One ``ansible-inventory --list`` under way; `answer` waits for it."""

    def __init__(self, path: Path) -> None:
        beside = Path(sys.executable).with_name("ansible-inventory")
        program = str(beside) if beside.exists() else "ansible-inventory"
        root = paths.root()
        self._process = subprocess.Popen(
            [program, "-i", str(path), "--list", "--playbook-dir", str(root)],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
                "ANSIBLE_CACHE_PLUGIN": "memory",  # facts of earlier runs are no part of the inventory
                "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true",
                "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
                "ANSIBLE_NOCOLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> Effective:
        """What Ansible said."""
        try:
            out, err = self._process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return Effective(failure=f"ansible-inventory did not end within {TIMEOUT} s")
        if self._process.returncode != 0:
            said = [line for line in err.splitlines() if line.strip()]
            errors = [line for line in said if "ERROR" in line] or said[-1:]
            text = " ".join(errors).replace("[ERROR]:", "").replace("ERROR!", "").strip()
            return Effective(failure=text[:600], locked=_VAULT.search(err) is not None)
        return parse(json.loads(out))


def parse(listed: dict[str, Any]) -> Effective:
    """The output of ``ansible-inventory --list``: members of a group include those of its children."""
    variables = listed.get("_meta", {}).get("hostvars", {})
    direct = {name: set(group.get("hosts", ())) for name, group in listed.items() if name != "_meta"}
    children = {name: group.get("children", ()) for name, group in listed.items() if name != "_meta"}

    def members(name: str, seen: frozenset[str]) -> set[str]:
        if name in seen:
            return set()
        found = set(direct.get(name, ()))
        for child in children.get(name, ()):
            found |= members(child, seen | {name})
        return found

    groups = {name: sorted(members(name, frozenset())) for name in direct}
    names = sorted({host for hosts in groups.values() for host in hosts} | set(variables))
    return Effective({name: variables.get(name, {}) for name in names}, groups)
