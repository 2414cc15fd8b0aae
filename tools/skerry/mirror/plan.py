"""What a mirror for an inventory has to hold: asked of the roles themselves, by running playbooks/artifacts.yml.

The roles' own lists of artifacts are the one source of truth; nothing here knows a version or an address.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from skerry import paths
from skerry.errors import SkerryError
from skerry.inventory.effective import Asking, Effective
from skerry.mirror.charts import Chart
from skerry.mirror.reference import parse

#: Architecture in a mirror -> `uname -m` of such a host.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l"}
_ARCHS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm", "armv8l": "arm",
          "arm": "arm", "armhf": "arm"}
#: Variables that may say a host's architecture, in this order; `sandbox_arch` makes sandbox hosts.
_ARCH_VARIABLES = ("skerry_arch", "sandbox_arch")
#: Variables that say how a host is reached or made, not what it needs.
_IRRELEVANT = ("ansible_", "inventory_", "sandbox_", "group_names", "k3s_node_", "skerry_region", "skerry_zone")
TIMEOUT = 600


class Artifact(BaseModel):
    """One artifact as a role names it; keys that concern hosts only (dest, mode, links) are not read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    component: str
    version: str
    arch: str
    file: str
    url: str = ""
    checksum: str = ""
    optional: bool = False

    @property
    def path(self) -> str:
        """Its place below the mirror's directory."""
        return f"{self.component}/{self.version}/{self.arch}/{self.file}"


class ImageList(Artifact):
    """A file that lists images; ``without`` has patterns of references that are not wanted."""

    arch: str = "noarch"
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Need:
    """An artifact, and some host that needs it."""

    artifact: Artifact
    host: str


@dataclass
class Plan:
    """What an inventory needs, as its roles say: ``images`` has {(full reference, architecture): host}.

    ``lists`` and ``charts`` name further images once they are there, for the architectures of the hosts that need them.
    """

    artifacts: dict[str, Need] = field(default_factory=dict)
    lists: dict[str, tuple[ImageList, dict[str, str]]] = field(default_factory=dict)
    charts: list[tuple[Chart, dict[str, str]]] = field(default_factory=list)
    images: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def kubernetes(self) -> str:
        """The version of Kubernetes that charts are rendered for: that of k3s, or ""."""
        versions = [need.artifact.version for need in self.artifacts.values() if need.artifact.component == "k3s"]
        return versions[0].partition("+")[0] if versions else ""

    def take(self, answer: dict[str, Any], host: str, arch: str) -> None:
        """Note what one role of one host has answered."""
        for raw in answer.get("artifacts", []):
            artifact = Artifact.model_validate(raw)
            known = self.artifacts.get(artifact.path)
            # Wanted by one host and insisted on by another: it is needed.
            if known is None or known.artifact.optional:
                self.artifacts[artifact.path] = Need(artifact, host)
        for raw in answer.get("image_lists", []):
            listed = ImageList.model_validate(raw)
            self.lists.setdefault(listed.path, (listed, {}))[1].setdefault(arch, host)
        for raw in answer.get("charts", []):
            chart = Chart.model_validate(raw)
            known_chart = next((archs for other, archs in self.charts if other == chart), None)
            if known_chart is None:
                self.charts.append((chart, known_chart := {}))
            known_chart.setdefault(arch, host)
        for text in answer.get("images", []):
            self.images.setdefault((parse(text).text, arch), host)


def architectures(hosts: dict[str, dict[str, Any]], given: Iterable[str]) -> dict[str, set[str]]:
    """Hosts by architecture: {arch: hosts}.

    Args:
        hosts: variables by host.
        given: architectures of the command line; they hold for hosts whose inventory does not say it.

    Raises:
        SkerryError: MIRROR_006 when hosts are left whose architecture nobody says.
    """
    given = set(given)
    if unknown := given - set(MACHINES):
        raise SkerryError("MIRROR_003", f"architecture {sorted(unknown)[0]!r} is unknown", "use amd64, arm64 or arm")
    found: dict[str, set[str]] = {}
    silent: list[str] = []
    for host, variables in hosts.items():
        said = next((str(variables[name]) for name in _ARCH_VARIABLES if variables.get(name)), "")
        if said and said not in _ARCHS:
            raise SkerryError("MIRROR_006", f"{host}: architecture {said!r} is unknown", "use amd64, arm64 or arm")
        for arch in {_ARCHS[said]} if said else given:
            found.setdefault(arch, set()).add(host)
        if not said and not given:
            silent.append(host)
    if silent:
        raise SkerryError(
            "MIRROR_006",
            f"the inventory does not say the architecture of {', '.join(silent[:5])}"
            + (f" and {len(silent) - 5} more" if len(silent) > 5 else ""),
            "give --arch amd64 (repeatable: all that the hosts have), or set skerry_arch for hosts or groups",
        )
    return found


def representatives(effective: Effective, hosts: set[str]) -> list[str]:
    """One host for each different set of variables and k3s membership: the others need the same."""
    cluster = effective.members("skerry_servers") | effective.members("skerry_agents")
    chosen: dict[str, str] = {}
    for host in sorted(hosts):
        variables = effective.hosts[host]
        relevant = {key: value for key, value in variables.items() if not key.startswith(_IRRELEVANT)}
        chosen.setdefault(json.dumps([relevant, host in cluster], sort_keys=True, default=str), host)
    return list(chosen.values())


def _play(inventory: Path, arch: str, hosts: list[str]) -> dict[str, Any]:
    beside = Path(sys.executable).with_name("ansible-playbook")
    with tempfile.TemporaryDirectory(prefix="skerry-mirror-") as cache:
        (Path(cache) / "limit").write_text("\n".join(hosts) + "\n", encoding="utf-8")
        command = [
            str(beside) if beside.exists() else "ansible-playbook", str(paths.root() / "playbooks" / "artifacts.yml"),
            "-i", str(inventory), "--limit", f"@{cache}/limit", "-e", f"artifacts_machine={MACHINES[arch]}",
        ]
        environment = {
            **os.environ, "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    start = done.stdout.find("{")
    try:
        answer: dict[str, Any] = json.loads(done.stdout[start:]) if start >= 0 else {}
    except ValueError:
        answer = {}
    if not answer or done.returncode not in (0, 2):
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise SkerryError(
            "MIRROR_007",
            f"Ansible could not list the artifacts of {inventory}: {' '.join(said[-3:])[:600]}",
            f"run `skerry inventory check -i {inventory}`",
        )
    return answer


def _answers(answer: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    for play in answer.get("plays", []):
        for task in play.get("tasks", []):
            for host, result in task.get("hosts", {}).items():
                if result.get("failed"):
                    raise SkerryError(
                        "MIRROR_007", f"{host}: {result.get('msg', 'a task failed')}",
                        "correct the variables of that host (`skerry inventory check`)",
                    )
                yield host, result


def needs(inventory: Path, given: Iterable[str]) -> Plan:
    """What the hosts of an inventory need, each thing once.

    Raises:
        SkerryError: MIRROR_006 (architecture unknown), MIRROR_007 (Ansible refuses the inventory), MIRROR_011 (a
            reference that is none).
    """
    effective = Asking(inventory).answer()
    if effective.failure:
        raise SkerryError("MIRROR_007", effective.failure, f"run `skerry inventory check -i {inventory}`")
    if not effective.hosts:
        raise SkerryError("MIRROR_007", f"{inventory} has no hosts", "name another inventory with -i")
    plan = Plan()
    for arch, hosts in sorted(architectures(effective.hosts, given).items()):
        for host, result in _answers(_play(inventory, arch, representatives(effective, hosts))):
            plan.take(result, host, arch)
    return plan
