"""`skerry deploy` of one workload to sandbox hosts without k3s: first time, unchanged, one changed module.

    .venv/bin/python benchmarks/deploy.py [--hosts 3 10 30] [--runs 3] [--size 1000000] [--keep]

Each run is a whole process from cold, inventory read and service ready on every host included; the module is a service
with that many bytes that cannot be packed; the hosts are in three zones. Sent is what their bridge carried to them,
ssh's own share included. Beside each: the aim, and the ratio to a floor (one ssh a host that starts Python as root and
ends, 32 at once); for comparison the cheapest module of Ansible with its connections open. All of one session.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from checkout import BIN, ROOT
from hosts import playbook, sandbox, write_edges

from skerry.targets import inventory as inventories
from skerry.targets import ssh

SOURCE = """
#include <stdio.h>
#include <unistd.h>
int main(void) { puts("ready"); fflush(stdout); for (;;) sleep(60); }
"""
#: Aims in seconds: for the command, and for each host.
AIMS = {"first": (3.0, 0.3), "unchanged": (1.0, 0.1)}
ZONES = 3
ROLES = "wasm_runtime_install,wasm_runtime_configure,wasm_runtime_run,workload_install,workload_configure,workload_run"


def build(folder: Path, size: int) -> list[Path]:
    """Two modules of ``size`` bytes that differ, the same service with other bytes in a custom section."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service.c").write_text(SOURCE)
    plain = folder / "service.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s"]
    subprocess.run([*command, "-o", str(plain), str(folder / "service.c")], check=True)
    found = []
    for number in range(2):
        path = folder / f"module-{number}.wasm"
        path.write_bytes(padded(plain.read_bytes(), size))
        found.append(path)
    return found


def padded(module: bytes, size: int) -> bytes:
    """A module with a custom section of random bytes (core specification, 5.5.3), so that it has about ``size``."""
    content = b"\x03pad" + os.urandom(max(0, size - len(module)))
    length, number = b"", len(content)
    while True:
        length += bytes([number & 0x7F | (0x80 if number > 0x7F else 0)])
        number >>= 7
        if not number:
            return module + b"\0" + length + content


class Site:
    """Hosts, and one workload file that names one of two modules."""

    def __init__(self, inventory: Path, modules: list[Path]) -> None:
        self.inventory, self.modules = inventory, modules
        self.file = modules[0].with_name("deploy.yml")
        self.targets = inventories.read([str(inventory)], None)
        name = json.loads(self._docker("network", "inspect", inventory.name))[0]["Id"][:12]
        self._counter = Path(f"/sys/class/net/br-{name}/statistics/tx_bytes")

    @staticmethod
    def _docker(*words: str) -> str:
        return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout

    def measured(self, work: Callable[[], None]) -> tuple[float, int]:
        """Seconds and bytes towards the hosts."""
        before, began = int(self._counter.read_text()), time.monotonic()
        work()
        return time.monotonic() - began, int(self._counter.read_text()) - before

    def skerry(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        command = [str(ROOT / "skerry"), *words, "-i", str(self.inventory), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in codes:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def deploy(self, module: int, expected: str) -> Callable[[], None]:
        """A run of `skerry deploy` after which every host must have done the same."""
        document = {"name": "bench", "kind": "service", "module": str(self.modules[module]),
                    "readiness": {"line": "ready"}}

        def work() -> None:
            said = [json.loads(line)["action"] for line in self.skerry("deploy", str(self.file)).splitlines()]
            if said != [expected] * len(self.targets):
                sys.exit(f"not {expected} on every host: {said}")

        self.file.write_text(json.dumps(document))
        return work

    def floor(self) -> None:
        """The least that a login costs."""

        def login(target: Any) -> None:
            how = ssh.login(target)
            command = [*how.command, *how.become, "python3", "-IS", "-c", "pass"]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(login, self.targets))

    def ansible(self) -> None:
        """The cheapest module of Ansible, all hosts at once."""
        command = [str(BIN / "ansible"), "all", "-m", "ansible.builtin.ping", "-i", str(self.inventory), "-b"]
        settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORKS": str(len(self.targets))}
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **settings})


def measure(site: Site, runs: int) -> None:
    """All ways, turn by turn; a row each."""
    found: dict[str, list[tuple[float, int]]] = {}
    site.skerry("undeploy", "bench", codes=(0, 1))  # of a run that was ended half-way
    for _ in range(runs):
        ways = {"login": site.floor, "ansible": site.ansible, "first": site.deploy(0, "created"),
                "unchanged": site.deploy(0, "unchanged")}  # fmt: skip
        for name, work in ways.items():
            found.setdefault(name, []).append(site.measured(work))
        found.setdefault("changed", []).append(site.measured(site.deploy(1, "changed")))
        site.skerry("undeploy", "bench")
    hosts = len(site.targets)
    floor = statistics.median(seconds for seconds, _ in found["login"])
    for name, runs_of in found.items():
        seconds, sent = (statistics.median(values) for values in zip(*runs_of, strict=True))
        base, each = AIMS.get(name, (0.0, 0.0))
        aim = f"{base + each * hosts:.1f}" if base else ""
        print(f"{hosts:>5} {name:<10} {seconds:>8.2f} {aim:>6} {seconds / floor:>9.2f} {sent / 1e6:>8.3f}"
              f" {sent / hosts / 1e3:>9.1f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[3, 10, 30], help="numbers of hosts to try")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median is shown")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of the module")
    parser.add_argument("--subnet", default="10.213.96.0/24", help="of the sandbox hosts")
    parser.add_argument("--keep", action="store_true", help="leave the hosts up, for the inner loop")
    asked = parser.parse_args()
    modules = build(ROOT / ".skerry" / "benchmarks" / "deploy", asked.size)
    print(f"{'hosts':>5} {'what':<10} {'seconds':>8} {'aim':>6} {'/ login':>9} {'MB sent':>8} {'kB a host':>9}")
    for number in asked.hosts:
        inventory = write_edges(f"skerry-deploy{number}", asked.subnet, number, ZONES)
        with ExitStack() as stack:
            if asked.keep:
                playbook("playbooks/sandbox_up.yml", inventory)
            else:
                stack.enter_context(sandbox(inventory))
            playbook("playbooks/hosts.yml", inventory, "--tags", ROLES, "-f", str(min(number, 10)))
            measure(Site(inventory, modules), asked.runs)


if __name__ == "__main__":
    main()
