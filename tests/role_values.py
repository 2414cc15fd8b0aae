"""The values that a role gives its charts, made by Ansible from its defaults and vars; none of its tasks runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from skerry import paths

CASES = paths.root() / "tests" / "unit" / "platform" / "cases"


@dataclass(frozen=True)
class Rendered:
    """Of one role: case -> releases, each ``{"chart", "version", "values"}`` and whatever else its file asks for."""

    role: str
    cases: dict[str, list[dict[str, Any]]]
    tried: set[str] = field(default_factory=set)
    not_values: set[str] = field(default_factory=set)


def render(name: str, folder: Path, role: Path | None = None, cases: dict[str, Any] | None = None) -> Rendered:
    """Render all cases in one run of Ansible: each case is a host, so that precedence is as in an inventory.

    ``role`` and ``cases`` default to roles/<name> and cases/<name>.yml. A release with ``when`` is left out where
    that is false. Raises AssertionError with Ansible's words where a template or a variable's type is wrong.
    """
    role = role or paths.root() / "roles" / name
    told = cases or yaml.safe_load((CASES / f"{name}.yml").read_text(encoding="utf-8"))
    copied = folder / "roles" / name
    (copied / "tasks").mkdir(parents=True)
    for part in ("defaults", "vars", "meta", "templates", "files"):
        if (role / part).exists():
            (copied / part).symlink_to(role / part)
    show = {"name": "Show", "ansible.builtin.debug": {"msg": told["releases"]}}
    (copied / "tasks" / "main.yml").write_text(yaml.safe_dump([show]))
    hosts = {f"case-{number}": variables or {} for number, variables in enumerate(told["cases"].values())}
    groups = {group: {"hosts": members} for group, members in (told.get("groups") or {}).items()}
    inventory = {"all": {
        "children": {"cases": {"hosts": hosts, "vars": told.get("vars") or {}}, **groups},
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    }}  # fmt: skip
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
    play = {"name": "Render", "hosts": "cases", "gather_facts": False, "roles": [name]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory.yml", "play.yml"],
        env={
            **os.environ, "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_FORKS": "4",
            "ANSIBLE_COLLECTIONS_PATH": str(paths.root() / "collections"),
            "ANSIBLE_ROLES_PATH": f"{folder / 'roles'}:{paths.root() / 'roles'}",
        },
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    tasks = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"]
    shown = {host: result["msg"] for host, result in tasks[-1]["hosts"].items()}
    return Rendered(
        name,
        {
            case: [item for item in shown[host] if item.get("when", True)]
            for case, host in zip(told["cases"], hosts, strict=True)
        },
        {variable for variables in told["cases"].values() for variable in variables or {}},
        set(told.get("not_values") or []),
    )


def charts_of(rendered: Rendered) -> set[tuple[str, str]]:
    """(chart, version) of all releases of all cases."""
    return {(release["chart"], release["version"]) for releases in rendered.cases.values() for release in releases}
