"""Sandbox hosts for tests that ruin hosts, and `skerry provision` on them (fixture own_hosts of tests/e2e)."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from skerry import paths

ROOT = Path(__file__).resolve().parents[1]
NAME, PREFIX = "skerry-e2e", "10.213.79"
#: `good` must get its due whatever happens to `bad`; `cut` is what runs are killed on.
HOSTS = {"good": ("11", "debian13"), "bad": ("12", "debian12"), "cut": ("13", "debian13")}


def playbook(name: str, inventory: Path, *words: str) -> str:
    """Run a playbook with stock ansible-playbook; what it printed."""
    command = ["ansible-playbook", str(ROOT / "playbooks" / name), "-i", str(inventory), *words]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@dataclass(frozen=True)
class Told:
    """One run of `skerry provision --json`."""

    code: int
    told: dict[str, Any]
    errors: str

    def host(self, name: str) -> dict[str, Any]:
        """What the run says of one host."""
        found: dict[str, Any] = self.told["hosts"][name]
        return found

    def codes(self, name: str) -> list[str]:
        """Codes of a host's failures."""
        return [str(failure["code"]) for failure in self.host(name)["failures"]]

    def remedy(self, name: str) -> str:
        """The remedy of a host's only failure."""
        (failure,) = self.host(name)["failures"]
        return str(failure["remedy"])

    def log(self) -> str:
        """All that Ansible printed."""
        return Path(self.told["log"]).read_text(errors="replace")


@dataclass(frozen=True)
class OwnHosts:
    """Sandbox hosts that a test may ruin; whatever it does to one it undoes."""

    folder: Path

    def on(self, host: str, script: str, check: bool = True) -> str:
        """Run a shell script as root on a host, past ssh, sudo and Python; what it printed."""
        done = subprocess.run(
            ["docker", "exec", "-i", f"{NAME}-{host}", "sh", "-e"],
            input=script, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def inventory(
        self, name: str, hosts: dict[str, dict[str, Any]], groups: dict[str, list[str]] | None = None, **variables: Any
    ) -> Path:
        """An inventory of some of the hosts with variables for each and for all; plain ones, if no group says else."""
        keys = paths.state() / "sandbox" / NAME
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / "group_vars"
        if not link.exists():
            link.symlink_to(ROOT / "inventories" / "sandbox" / "group_vars")
        known = f"-o UserKnownHostsFile={keys / 'known_hosts'} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        everywhere = {
            "sandbox_name": NAME,
            "sandbox_subnet": f"{PREFIX}.0/24",
            "sandbox_keys": str(keys),
            "ansible_ssh_private_key_file": str(keys / "id_ed25519"),
            "ansible_ssh_common_args": known,
            **variables,
        }
        data: dict[str, Any] = {
            host: {"ansible_host": f"{PREFIX}.{HOSTS[host][0]}", "sandbox_image": HOSTS[host][1], **more}
            for host, more in hosts.items()
        }
        children: dict[str, Any] = {"skerry_sandbox": {"hosts": data, "vars": everywhere}}
        for group, members in (groups or {}).items():
            children[group] = {"hosts": {member: {} for member in members}}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}))
        return folder

    def provision(self, inventory: Path, *words: str) -> Told:
        """`skerry provision --json`, as its users start it."""
        command = [str(ROOT / "skerry"), "provision", "-i", str(inventory), "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return Told(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)
