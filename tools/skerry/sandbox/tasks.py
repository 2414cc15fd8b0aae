"""What the action plugin `skerry.edge.sandbox` runs: the states of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.sandbox import clean, linking, prepare, spec
from skerry.sandbox.docker_api import Docker


def run(
    state: str,
    name: str,
    subnet: str,
    keys: str,
    hosts: Mapping[str, Mapping[str, Any]],
    chosen: list[str],
    check: bool,
) -> dict[str, Any]:
    """Bring the ``chosen`` hosts of a sandbox to ``state`` (prepared, linked, absent); Ansible's result."""
    sandbox = spec.parse(name, subnet, keys, hosts)
    if state == "absent":
        return clean.remove(sandbox, chosen, Docker(), check)
    if check:
        return {"changed": False, "skipped": True, "msg": "nothing is prepared in check mode"}
    if state == "prepared":
        return prepare.prepare(sandbox, chosen)
    changed = linking.apply(sandbox, [host for host in chosen if host in sandbox.hosts], Docker())
    return {"changed": bool(changed), "linked": changed}
