"""Sandbox hosts for tests that ruin hosts, and `skerry provision` on them (fixture own_hosts of tests/e2e)."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandboxes import Sandbox

ROOT = Path(__file__).resolve().parents[1]
SANDBOX = Sandbox("skerry-e2e", "10.213.79")
#: `good` must get its due whatever happens to `bad`; `cut` is what runs are killed on.
HOSTS = {"good": ("11", "debian13"), "bad": ("12", "debian12"), "cut": ("13", "debian13")}


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
        return SANDBOX.on(host, script, check)

    def inventory(
        self, name: str, hosts: dict[str, dict[str, Any]], groups: dict[str, list[str]] | None = None, **variables: Any
    ) -> Path:
        """An inventory of some of the hosts with variables for each and for all; plain ones, if no group says else."""
        known = {
            host: {"ansible_host": SANDBOX.address(HOSTS[host][0]), "sandbox_image": HOSTS[host][1], **more}
            for host, more in hosts.items()
        }
        return SANDBOX.inventory(self.folder / name, known, groups or {}, **variables)

    def provision(self, inventory: Path, *words: str) -> Told:
        """`skerry provision --json`, as its users start it."""
        command = [str(ROOT / "skerry"), "provision", "-i", str(inventory), "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return Told(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)
