"""What our roles apply: recorded from a run of Ansible, then brought to the tests' API server by our own modules.

A role is found by itself when one of its tasks applies objects (`skerry.edge.k3s_apply`) or installs a chart (role
helm_chart). It runs with its defaults, and with each case of ``tests/kube/cases/<role>.yml`` (a list: name, vars).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import Objects
from ansible_collections.skerry.edge.plugins.modules import helm_release, k3s_apply

from skerry import paths
from skerry.testing.kube.cluster import Cluster

APPLY, RELEASE = "skerry.edge.k3s_apply", "skerry.edge.helm_release"
APPLIES = re.compile(rf"{re.escape(APPLY)}:|{re.escape(RELEASE)}:|name: helm_chart\b")
CASES = Path(__file__).parent / "cases"
BYSTANDER = "bystander"
#: The common part needs a chart to do anything.
NOT_ALONE = {"helm_chart"}


@dataclass(frozen=True)
class Case:
    """One role with some variables."""

    role: str
    name: str = "defaults"
    variables: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.role}-{self.name}"


@dataclass
class Recorded:
    """What the tasks of a case were given, in their order; ``failure`` is what ended it early."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failure: str = ""


def cases() -> list[Case]:
    """Every role that applies objects, with its defaults and with the cases written down for it."""
    found = []
    for role in sorted(path for path in (paths.root() / "roles").iterdir() if path.name not in NOT_ALONE):
        tasks = [path.read_text(encoding="utf-8") for path in role.glob("tasks/**/*.yml")]
        if not any(APPLIES.search(text) for text in tasks):
            continue
        written = CASES / f"{role.name}.yml"
        further = yaml.safe_load(written.read_text(encoding="utf-8")) if written.exists() else []
        found += [Case(role.name), *(Case(role.name, item["name"], item["vars"]) for item in further)]
    return found


def record(wanted: list[Case], folder: Path) -> dict[Case, Recorded]:
    """Run the roles in check mode on hosts that are this machine, and note what they would apply."""
    names = {f"case-{number}": case for number, case in enumerate(wanted)}
    hosts = {name: {"case_role": case.role, **case.variables} for name, case in names.items()}
    local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    edges = {name: {"ansible_host": address} for name, address in (("edge-1", "192.0.2.11"), ("edge-2", "192.0.2.12"))}
    members = {"skerry_servers": hosts, "skerry_agents": edges, "others": {BYSTANDER: {}}}
    groups = {name: {"hosts": found} for name, found in members.items()}
    (folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": local}}))
    # A play for each case, since a role may leave the cluster's work to the first server of the play. One host has
    # nothing to do: a play whose hosts have all failed would end the run.
    task = {"name": "Apply a role", "ansible.builtin.include_role": {"name": "{{ case_role }}"},
            "when": f"inventory_hostname != '{BYSTANDER}'"}  # fmt: skip
    plays = [{"name": f"Record {name}", "hosts": f"{name}:{BYSTANDER}", "gather_facts": False, "tasks": [task]}
             for name in names]  # fmt: skip
    (folder / "play.yml").write_text(yaml.safe_dump(plays))
    record_file = folder / "record"
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(paths.root() / "tests" / "plugins" / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "recorded",
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "SKERRY_RECORD": str(record_file),
        "SKERRY_RECORD_MODULES": f"{APPLY},{RELEASE}",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--check", "-i", "inventory.yml", "play.yml"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = {case: Recorded() for case in wanted}
    for line in record_file.read_text(encoding="utf-8").splitlines() if record_file.exists() else []:
        noted = json.loads(line)
        case = found[names[noted["host"]]]
        if noted["failed"]:
            case.failure = f"{noted['task']}: {noted['failed']}"
        elif noted["arguments"]:
            case.calls.append((noted["module"], noted["arguments"]))
    for case in found.values():
        if done.returncode not in (0, 2) and not case.failure:
            case.failure = done.stdout[-2000:] + done.stderr[-500:]
    return found


class StrictApi(Api):  # type: ignore[misc]  # the collection has no types
    """The API as our modules speak with it, but for fields that no schema has: those are refused."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__("server", cluster.port, str(cluster.folder), timeout=30)

    def ask(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        if method in ("POST", "PUT", "PATCH"):
            path += ("&" if "?" in path else "?") + "fieldValidation=Strict"
        return super().ask(method, path, body, content_type)


@dataclass
class Module:
    """As much of AnsibleModule as the modules use here."""

    params: dict[str, Any]
    check_mode: bool


def _unmasked(value: Any, key: str = "") -> Any:
    """Arguments as they could be where Ansible has masked secrets: what should be a mapping is one again."""
    if isinstance(value, dict):
        return {name: _unmasked(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_unmasked(item) for item in value]
    masked = key in ("secret_values", "stringData", "data") and isinstance(value, str)
    return {"masked": "bWFza2Vk"} if masked else value


def bring(cluster: Cluster, module: str, arguments: dict[str, Any], check: bool = False) -> list[dict[str, Any]]:
    """Do what the module does, without waiting for what only a Helm controller could bring; returns the differences."""
    objects, deadline, arguments = Objects(StrictApi(cluster), check), time.monotonic() + 30, _unmasked(arguments)
    if module == APPLY:
        k3s_apply.bring(objects, {**arguments, "ready": []}, deadline)
    else:
        run = helm_release.Run(objects, arguments, deadline)
        run.wait = lambda specs: None
        run.release.wait = lambda deadline: None
        run.do()
    differences: list[dict[str, Any]] = objects.diff
    return differences
