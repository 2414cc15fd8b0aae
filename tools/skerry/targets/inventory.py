"""The hosts of an inventory, as ``ansible-inventory`` gives them, and a choice of them by Ansible's own patterns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target

_TIMEOUT = 120


def this_machine() -> Target:
    """This machine alone: no inventory, no SSH, no root asked for."""
    return Target("localhost", {"ansible_connection": "local"}, (), _labels({}))


def _labels(variables: Mapping[str, Any]) -> dict[str, str]:
    names = {
        "host_type": "skerry_host_type",
        "region": "skerry_region",
        "zone": "skerry_zone",
        "sandbox": "sandbox_name",
    }
    labels = {label: str(variables.get(name) or "") for label, name in names.items()}
    arch = str(variables.get("sandbox_arch") or "amd64")
    labels["emulated"] = "yes" if labels["sandbox"] and arch != "amd64" else ""
    return labels


def _listing(sources: Sequence[str], pattern: str | None) -> dict[str, Any]:
    """The output of ``ansible-inventory --list``."""
    beside = Path(sys.executable).with_name("ansible-inventory")
    command = [
        str(beside) if beside.exists() else "ansible-inventory",
        "--list",
        "--playbook-dir",
        str(paths.root() / "playbooks"),
    ]
    for source in sources:
        command += ["-i", source]
    if pattern:
        command += ["--limit", pattern]
    environment = {**os.environ, "ANSIBLE_DEPRECATION_WARNINGS": "False", "ANSIBLE_LOCALHOST_WARNING": "False"}
    environment |= {
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true",
    }
    environment.setdefault("ANSIBLE_CONFIG", str(paths.root() / "ansible.cfg"))
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise SkerryError(
            "TARGET_014",
            "ansible-inventory is not there",
            "start Skerry with ./skerry, which installs it",
            Exit.PREREQUISITE,
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SkerryError(
            "TARGET_015",
            f"ansible-inventory did not end within {_TIMEOUT} s",
            "look for an inventory plugin or script that waits for something",
        ) from error
    if done.returncode != 0:
        raise _refused(done.stderr, sources, pattern)
    listing: dict[str, Any] = json.loads(done.stdout)
    if missing := re.search(r"Could not match supplied host pattern, ignoring: (\S+)", done.stderr):
        raise _unknown(missing.group(1), sources)
    return listing


def _unknown(pattern: str, sources: Sequence[str]) -> SkerryError:
    return SkerryError(
        "TARGET_001",
        f"no host or group {pattern!r} in {', '.join(sources)}",
        f"skerry inventory graph -i {sources[0]} shows the names",
    )


def _refused(said: str, sources: Sequence[str], pattern: str | None) -> SkerryError:
    if pattern and ("no hosts to target" in said or "Could not match" in said or "host pattern" in said):
        return _unknown(pattern, sources)
    text = " ".join(line.strip() for line in said.splitlines() if line.strip() and "WARNING" not in line)
    return SkerryError(
        "TARGET_016",
        f"Ansible cannot read {', '.join(sources)}: {text[:400]}",
        f"skerry inventory check -i {sources[0]} says where and why",
    )


def _members(listing: Mapping[str, Any]) -> dict[str, list[str]]:
    """host -> its groups, farthest first, ``all`` left out."""
    parents: dict[str, list[str]] = {}
    for group, content in listing.items():
        if isinstance(content, dict) and group != "_meta":
            for child in content.get("children", ()):
                parents.setdefault(child, []).append(group)

    def above(group: str) -> list[str]:
        found: list[str] = []
        for parent in parents.get(group, ()):
            found += [*above(parent), parent]
        return found

    groups: dict[str, list[str]] = {}
    for group, content in listing.items():
        if isinstance(content, dict) and group != "_meta":
            for host in content.get("hosts", ()):
                groups.setdefault(host, []).extend([*above(group), group])
    ignored = ("all", "ungrouped")
    return {host: [g for g in dict.fromkeys(names) if g not in ignored] for host, names in groups.items()}


def _plain(value: Any) -> Any:
    """Values that Ansible marks as unsafe to template, without the mark."""
    if isinstance(value, dict):
        if set(value) == {"__ansible_unsafe"}:
            return value["__ansible_unsafe"]
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def read(sources: Sequence[str], pattern: str | None = None) -> list[Target]:
    """The hosts of one or several inventories, in Ansible's order.

    Args:
        sources: files or directories (``-i``).
        pattern: Ansible's host pattern (``--limit``), None for all hosts.

    Raises:
        SkerryError: TARGET_001 (unknown host or group), TARGET_014 to TARGET_017.
    """
    for source in sources:
        if "," not in source and not Path(source).exists():
            raise SkerryError("TARGET_017", f"there is no inventory {source}", "name a file or a directory with -i")
    listing = _listing(sources, pattern)
    hostvars = {name: _plain(values) for name, values in listing.get("_meta", {}).get("hostvars", {}).items()}
    targets = [
        Target(name, hostvars.get(name, {}), tuple(groups), _labels(hostvars.get(name, {})))
        for name, groups in _members(listing).items()
    ]
    if not targets:
        raise _unknown(pattern or "all", sources)
    return targets
