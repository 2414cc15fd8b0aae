"""Sandbox hosts that a test makes for itself, in a network of their own: inventories of them, and shells in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from playbooks import play

from skerry import paths
from skerry.sandbox import k3s_source


def playbook(name: str, inventory: Path, *words: str) -> str:
    """Run one of the checkout's playbooks, which must succeed; what it printed."""
    done = play(Path("playbooks") / name, inventory, *words, timeout=600)
    assert done.code == 0, done.output[-6000:]
    return done.output


@contextmanager
def up(inventory: Path) -> Iterator[None]:
    """The hosts of an inventory, made and removed; SKERRY_KEEP_HOSTS=1 leaves them up, for the inner loop."""
    playbook("sandbox_up.yml", inventory)
    try:
        yield
    finally:
        if not os.environ.get("SKERRY_KEEP_HOSTS"):
            playbook("sandbox_down.yml", inventory)


@dataclass(frozen=True)
class Sandbox:
    """Hosts by the name of their sandbox; ``prefix`` is the first three numbers of their addresses."""

    name: str
    prefix: str

    @property
    def keys(self) -> Path:
        """The folder of the sandbox's keys."""
        return paths.state() / "sandbox" / self.name

    def address(self, last: str) -> str:
        """An address in the sandbox's network."""
        return f"{self.prefix}.{last}"

    def on(self, host: str, script: str, check: bool = True) -> str:
        """Run a shell script as root on a host, past ssh, sudo and Python; what it printed."""
        command = ["docker", "exec", "-i", f"{self.name}-{host}", "sh", "-e"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=300, check=False)
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def inventory(
        self, folder: Path, hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Iterable[str]], **common: Any
    ) -> Path:
        """Write an inventory: each host's variables, who is in which group, variables of all. Returns its folder."""
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / "group_vars"
        if not link.exists():
            link.symlink_to(paths.root() / "inventories" / "sandbox" / "group_vars")
        known = f"-o UserKnownHostsFile={self.keys / 'known_hosts'} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        reached = {
            "sandbox_name": self.name,
            "sandbox_subnet": f"{self.prefix}.0/24",
            "sandbox_keys": str(self.keys),
            "ansible_ssh_private_key_file": str(self.keys / "id_ed25519"),
            "ansible_ssh_common_args": known,
            **common,
        }
        named = {host: dict(variables) for host, variables in hosts.items()}
        children: dict[str, Any] = {"skerry_sandbox": {"hosts": named, "vars": reached}}
        for group, members in groups.items():
            children[group] = {"hosts": {member: {} for member in members}}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}))
        return folder

    def cluster(self, inventory: Path, server: str) -> None:
        """Make the k3s cluster that an inventory describes (its variables: `k3s_source.variables`)."""
        k3s_source.provide("amd64")
        # The role host_tuning's part; the setting has no namespace, all hosts share the machine's.
        self.on(server, "echo 8192 > /proc/sys/fs/inotify/max_user_instances")
        playbook("cluster.yml", inventory)
