"""The hosts that all Molecule scenarios share, for tests that break something on them, run a role, and mend it.

``SKERRY_TEST_INVENTORY`` names the inventory of other hosts of the same names.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import yaml
from playbooks import Played, play

from skerry import paths

INVENTORY = Path(os.environ.get("SKERRY_TEST_INVENTORY") or paths.root() / "molecule/inventory")
_SANDBOX = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["children"]["skerry_sandbox"]
#: The hosts by name, with their addresses.
HOSTS: dict[str, str] = {name: host["ansible_host"] for name, host in _SANDBOX["hosts"].items()}


def on(host: str, script: str) -> str:
    """Run a shell script as root on a host; its output. A script that fails fails the test."""
    config = paths.state() / "sandbox" / _SANDBOX["vars"]["sandbox_name"] / "ssh_config"
    command = ["ssh", "-F", str(config), host, "sudo", "sh", "-e"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{host}: {script}\n{done.stdout}{done.stderr}"
    return done.stdout


def run(playbook: str, *words: str, timeout: float | None = None, **environment: str) -> Played:
    """Run a playbook of the checkout on the shared hosts; ``environment`` is added to what Molecule would set."""
    settings = {"MOLECULE_PROJECT_DIRECTORY": str(paths.root()), **environment}
    return play(playbook, INVENTORY, *words, timeout=timeout, **settings)


def converge(role: str, *words: str, **variables: object) -> Played:
    """Run the role on the shared hosts, as its scenario does."""
    scenario = {
        "MOLECULE_SCENARIO_DIRECTORY": str(paths.root() / "molecule" / role),
        "MOLECULE_SCENARIO_NAME": role,
    }
    return run("molecule/converge.yml", *words, "-e", json.dumps(variables), timeout=300, **scenario)
