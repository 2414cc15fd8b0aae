"""The hosts that all Molecule scenarios share, for tests that break something on them, run a role, and mend it.

``SKERRY_TEST_INVENTORY`` names the inventory of other hosts of the same names.
"""

from __future__ import annotations

import json
import os
import subprocess
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
    """One run of molecule/converge.yml: Ansible's exit code and all that it printed."""

    code: int
    output: str

    def recap(self, host: str) -> dict[str, int]:
        """The host's line of the recap, by word (ok, changed, unreachable, failed)."""
        line = next(line for line in reversed(self.output.splitlines()) if line.startswith(f"{host} "))
        return {word.partition("=")[0]: int(word.partition("=")[2]) for word in line.split() if "=" in word}


def on(host: str, script: str) -> str:
    """Run a shell script as root on a host; its output. A script that fails fails the test."""
    config = paths.state() / "sandbox" / _SANDBOX["vars"]["sandbox_name"] / "ssh_config"
    command = ["ssh", "-F", str(config), host, "sudo", "sh", "-e"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{host}: {script}\n{done.stdout}{done.stderr}"
    return done.stdout


def converge(role: str, *words: str, **variables: object) -> Played:
    """Run the role on the shared hosts, as its scenario does."""
    root = paths.root()
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "MOLECULE_PROJECT_DIRECTORY": str(root),
        "MOLECULE_SCENARIO_DIRECTORY": str(root / "molecule" / role),
        "MOLECULE_SCENARIO_NAME": role,
    }
    command = [
        "ansible-playbook",
        "molecule/converge.yml",
        "-i",
        str(INVENTORY),
        *words,
        "-e",
        json.dumps(variables),
    ]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return Played(done.returncode, done.stdout + done.stderr)
