"""What the tests of the scenario share: where they can run, and the scenario's playbook for another run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skerry import paths

ROOT = paths.root()
PLAY = Path(__file__).parents[1] / "converge.yml"
SERVER = "cloud-1"


@pytest.fixture(scope="module", autouse=True)
def _issuer_or_reason(host):
    if host.backend.hostname != SERVER:
        pytest.skip("asked on the server")
    section = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string).get("k3s", {})
    if "role" not in section:
        pytest.skip(section.get("reason", "there is no k3s on the hosts"))
    if not host.file("/var/lib/rancher/k3s/server/static/charts/cert-manager.tgz").exists:
        pytest.skip("the mirror lacks cert-manager's chart, its images or that of k3s's Helm job")


@pytest.fixture(scope="session")
def role():
    """Runs the scenario's playbook once more: (exit code, output)."""

    def run(*words):
        inventory = ROOT / "molecule" / "inventory"
        command = [str(Path(sys.executable).parent / "ansible-playbook"), str(PLAY), "-i", str(inventory), *words]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
                       "ANSIBLE_ROLES_PATH": str(ROOT / "roles")}  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        return done.returncode, done.stdout + done.stderr

    return run
