"""Playbooks run with stock ansible-playbook, and what their recaps say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from skerry import paths


@dataclass(frozen=True)
class Played:
    """One run: Ansible's exit code and all that it printed."""

    code: int
    output: str

    def recaps(self) -> dict[str, dict[str, int]]:
        """The recap: host -> {ok, changed, unreachable, failed, ...}."""
        lines = re.findall(r"^(\S+)\s+: (ok=.*)$", self.output.rpartition("PLAY RECAP")[2], re.MULTILINE)
        return {host: {k: int(v) for k, v in (word.split("=") for word in counts.split())} for host, counts in lines}

    def recap(self, host: str) -> dict[str, int]:
        """What the recap says of one host."""
        return self.recaps()[host]

    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by host."""
        return {host: counts["changed"] for host, counts in self.recaps().items()}


def play(
    playbook: str | Path, inventory: Path, *words: str, timeout: float | None = None, **environment: str
) -> Played:
    """Run a playbook, named relative to the checkout, with the checkout's ansible.cfg."""
    root = paths.root()
    settings = {"ANSIBLE_CONFIG": str(root / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory", **environment}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(root / playbook), "-i", str(inventory)]
    done = subprocess.run(
        [*command, *words],
        cwd=root, env={**os.environ, **settings}, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    return Played(done.returncode, done.stdout + done.stderr)
