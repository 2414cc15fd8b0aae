"""Runs of site.yml whose controller is killed: the next run converges, the one after it changes nothing.

A few kills; benchmarks/kill_and_rerun.py has all task boundaries and as many random moments as one likes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_hosts import ROOT, OwnHosts
from sandboxes import playbook

pytestmark = [pytest.mark.hosts, pytest.mark.own_hosts]

HOST = "cut"
#: Docker's packages take longest and are installed by the same module as those of the wasm runtimes.
QUICK = ("--skip-tags", "docker_install,docker_configure,docker_run")


@pytest.fixture
def bare(own_hosts: OwnHosts, tmp_path: Path) -> Iterator[Path]:
    """An inventory of one edge host that was made this moment."""
    inventory = own_hosts.inventory(
        "kill", {HOST: {}}, {"skerry_edge": [HOST]},
        wasm_runtime_wanted=[{"name": "crun", "required": True}, {"name": "wasmedge", "required": True}],
    )  # fmt: skip
    whole = own_hosts.inventory("all", {"good": {}, "bad": {}, HOST: {}})
    playbook("sandbox_down.yml", whole, "--limit", HOST)
    playbook("sandbox_up.yml", whole, "--limit", HOST)
    yield inventory


def cut(inventory: Path, task: int, delay: float = 0.0) -> int:
    """Exit status of a run that is killed at the start of its task number ``task``, or ``delay`` seconds later."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "plugins" / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "kill_at",
        "SKERRY_KILL_AT_TASK": str(task),
        "SKERRY_KILL_DELAY": str(delay),
    }
    command = ["ansible-playbook", str(ROOT / "site.yml"), "-i", str(inventory), *QUICK]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    return process.wait(timeout=600)


def converges(hosts: OwnHosts, inventory: Path) -> None:
    """The next run ends well, the one after it changes nothing, and everything is there."""
    first = hosts.provision(inventory, *QUICK)
    assert first.code == 0, first.told
    again = hosts.provision(inventory, *QUICK)
    assert again.code == 0, again.told
    assert again.host(HOST)["changed"] == 0, again.log()
    fact = json.loads(hosts.on(HOST, "cat /etc/ansible/facts.d/skerry.fact"))
    assert {"host_tuning", "wasm_runtime"} <= set(fact)
    assert fact["wasm_runtime"]["runtimes"]["wasmedge"]["proved"]
    assert hosts.on(HOST, "dpkg --audit") == ""
    # No half-written file was left beside another.
    assert hosts.on(HOST, "ls /etc/ansible/facts.d").split() == ["skerry.fact"]


def test_killed_before_three_tasks(own_hosts: OwnHosts, bare: Path) -> None:
    tasks = (4, 9, 13)
    for task in tasks:
        assert cut(bare, task) == -signal.SIGKILL, f"the run has fewer than {task} tasks"
    converges(own_hosts, bare)


def test_killed_at_two_random_moments(own_hosts: OwnHosts, bare: Path) -> None:
    seed = int(os.environ.get("SKERRY_TEST_SEED") or time.time())
    print(f"SKERRY_TEST_SEED={seed}")
    chance = random.Random(seed)
    for _ in range(2):
        task, delay = chance.randint(6, 13), chance.uniform(0.05, 2.0)
        print(f"killed {delay:.2f} s after the start of task {task}: exit {cut(bare, task, delay)}")
    converges(own_hosts, bare)
