"""The hosts that all Molecule scenarios share, for tests that break something on them, run a role, and mend it.

``SKERRY_TEST_INVENTORY`` names the inventory of other hosts of the same names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from skerry import paths

INVENTORY = Path(os.environ.get("SKERRY_TEST_INVENTORY") or paths.root() / "molecule/inventory")
_SANDBOX = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["children"]["skerry_sandbox"]
#: The hosts by name, with their addresses.
HOSTS: dict[str, str] = {name: host["ansible_host"] for name, host in _SANDBOX["hosts"].items()}


@dataclass(frozen=True)
class Played:
    """One run of a playbook: Ansible's exit code and all that it printed."""

    code: int
    output: str

    def recap(self, host: str) -> dict[str, int]:
        """The host's line of the recap, by word (ok, changed, unreachable, failed)."""
        line = next(line for line in reversed(self.output.splitlines()) if line.startswith(f"{host} "))
        return {word.partition("=")[0]: int(word.partition("=")[2]) for word in line.split() if "=" in word}

    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by host."""
        found = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", self.output, re.MULTILINE)
        return {host: int(count) for host, count in found}


def on(host: str, script: str) -> str:
    """Run a shell script as root on a host; its output. A script that fails fails the test."""
    config = paths.state() / "sandbox" / _SANDBOX["vars"]["sandbox_name"] / "ssh_config"
    command = ["ssh", "-F", str(config), host, "sudo", "sh", "-e"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{host}: {script}\n{done.stdout}{done.stderr}"
    return done.stdout


def run(playbook: str, *words: str, timeout: float | None = None, **environment: str) -> Played:
    """Run a playbook of the checkout on the shared hosts; ``environment`` is added to what Molecule would set."""
    root = paths.root()
    settings = {"ANSIBLE_CONFIG": str(root / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
                "MOLECULE_PROJECT_DIRECTORY": str(root), **environment}  # fmt: skip
    command = [str(Path(sys.executable).parent / "ansible-playbook"), playbook, "-i", str(INVENTORY), *words]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, **settings}, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Played(done.returncode, done.stdout + done.stderr)


def converge(role: str, *words: str, **variables: object) -> Played:
    """Run the role on the shared hosts, as its scenario does."""
    scenario = {
        "MOLECULE_SCENARIO_DIRECTORY": str(paths.root() / "molecule" / role),
        "MOLECULE_SCENARIO_NAME": role,
    }
    return run("molecule/converge.yml", *words, "-e", json.dumps(variables), timeout=300, **scenario)
