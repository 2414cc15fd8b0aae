"""An HTTP service with two replicas under load while it is replaced, again and again: every request is to be answered.

    .venv/bin/python benchmarks/roll_out.py [--requests 10000] [--rounds 3] [--clients 4] [--keep]

Two sandbox hosts in two zones, one replica each, so that a roll-out takes them one after the other. Of the clients of
each replica one half keeps its connection, the other opens one for each request; none tries again. A round is a
deployment of the other module, a restart and a rollback; there are as many rounds as it takes to ask so often. Beside
it the same load at rest, and the same on wasmtime's server alone (the floor: no relay, no limits). Exits with 1 when a
request had no answer, or a kept connection was closed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from checkout import ROOT
from deploy import ROLES
from hosts import playbook, sandbox, write_edges

from skerry.targets import inventory as inventories
from skerry.testing import http_component, http_load

PORT, FLOOR = 8080, 8081
TEXTS = ("one", "two")


class Site:
    """Two hosts, the two modules, and what is done with them."""

    def __init__(self, inventory: Path, clients: int) -> None:
        self.inventory, self.clients = inventory, clients
        self.targets = inventories.read([str(inventory)], None)
        self.folder = ROOT / ".skerry" / "benchmarks" / "roll_out"
        self.folder.mkdir(parents=True, exist_ok=True)
        for text in TEXTS:
            (self.folder / f"{text}.wasm").write_bytes(http_component.component(text))
        self.commands: list[float] = []

    def skerry(self, *words: str) -> None:
        """A command, timed."""
        command = [str(ROOT / "skerry"), *words, "-i", str(self.inventory), "--json"]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        self.commands.append(time.monotonic() - began)

    def deploy(self, text: str) -> None:
        """Bring one of the modules into force."""
        document = {"name": "web", "kind": "service", "module": f"{text}.wasm", "ports": [{"port": PORT}],
                    "placement": {"replicas": len(self.targets)},
                    "readiness": {"http": {"port": PORT, "path": "/"}}}
        (self.folder / "deploy.yml").write_text(json.dumps(document))
        self.skerry("deploy", str(self.folder / "deploy.yml"))

    def floor(self, state: str) -> None:
        """Start or stop wasmtime's server alone on each host."""
        for target in self.targets:
            name = f"{target.variables['sandbox_name']}-{target.name}"
            if state == "start":
                subprocess.run(["docker", "cp", "-q", str(self.folder / "one.wasm"), f"{name}:/root/floor.wasm"],
                               check=True)
                what = ["systemd-run", "-q", "--unit=floor", "wasmtime", "serve", "-S", "cli",
                        "--addr", f"0.0.0.0:{FLOOR}", "/root/floor.wasm"]
            else:
                what = ["systemctl", "stop", "floor"]
            subprocess.run(["docker", "exec", name, *what], check=True)
        time.sleep(1)

    def load(self, port: int) -> Any:
        """Clients of both replicas."""
        places = [(str(target.variables["ansible_host"]), port) for target in self.targets]
        return http_load.Load(places, kept=self.clients // 2, fresh=self.clients - self.clients // 2)


def show(name: str, asked: http_load.Asked, seconds: float, rest: float | None) -> float:
    """A row; the median of a request's seconds."""
    times = sorted(asked.seconds)
    median, last = statistics.median(times), times[int(len(times) * 0.99)]
    ratio = f"{median / rest:.2f}" if rest else ""
    print(f"{name:<10} {len(times) + len(asked.faults):>8,} {asked.failed:>6} {asked.broken:>6}"
          f" {len(times) / seconds:>7,.0f} {median * 1e3:>8.2f} {last * 1e3:>8.2f} {times[-1] * 1e3:>8.1f} {ratio:>8}",
          flush=True)
    return median


def measured(site: Site, port: int, work: Callable[[Any], None]) -> tuple[Any, float]:
    """What came of the requests while something was done, and its seconds."""
    began = time.monotonic()
    with site.load(port) as load:
        work(load)
    return load.asked, time.monotonic() - began


def measure(site: Site, requests: int, rounds: int, rest: float) -> bool:
    """All three ways; whether every request of the service was answered."""
    print(f"{'what':<10} {'requests':>8} {'failed':>6} {'closed':>6} {'a s':>7} {'p50 ms':>8} {'p99 ms':>8}"
          f" {'max ms':>8} {'/ floor':>8}")
    site.floor("start")
    asked, seconds = measured(site, FLOOR, lambda _: time.sleep(rest))
    floor = show("floor", asked, seconds, None)
    site.floor("stop")
    site.deploy(TEXTS[0])
    asked, seconds = measured(site, PORT, lambda _: time.sleep(rest))
    show("at rest", asked, seconds, floor)
    site.commands.clear()
    done = 0

    def replace(load: Any) -> None:
        nonlocal done
        while done < rounds or load.count < requests:
            site.deploy(TEXTS[1])
            site.skerry("restart", "web")
            site.skerry("rollback", "web")
            done += 1

    asked, seconds = measured(site, PORT, replace)
    show("roll-outs", asked, seconds, floor)
    seen = {text for _, text in asked.answers}
    print(f"{done} rounds: {3 * done * len(site.targets)} instances replaced under load; a command took"
          f" {statistics.median(site.commands):.1f} s, at most {max(site.commands):.1f} s")
    site.skerry("undeploy", "web")
    return bool(asked.failed == 0 and asked.broken == 0 and seen == set(TEXTS) and len(asked.seconds) >= requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="the least number of requests during roll-outs")
    parser.add_argument("--rounds", type=int, default=3, help="the least number of rounds")
    parser.add_argument("--clients", type=int, default=4, help="clients of each replica")
    parser.add_argument("--rest", type=float, default=5.0, help="seconds of the floor and at rest")
    parser.add_argument("--subnet", default="10.213.97.0/24", help="of the sandbox hosts")
    parser.add_argument("--keep", action="store_true", help="leave the hosts up, for the inner loop")
    asked = parser.parse_args()
    inventory = write_edges("skerry-rollout", asked.subnet, 2, 2)
    with ExitStack() as stack:
        if asked.keep:
            playbook("playbooks/sandbox_up.yml", inventory)
        else:
            stack.enter_context(sandbox(inventory))
        playbook("playbooks/hosts.yml", inventory, "--tags", ROLES)
        fine = measure(Site(inventory, asked.clients), asked.requests, asked.rounds, asked.rest)
    sys.exit(0 if fine else "requests failed, or connections were closed")


if __name__ == "__main__":
    main()
