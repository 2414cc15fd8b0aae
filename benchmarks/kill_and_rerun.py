"""Kills runs of site.yml, runs them again, and looks whether they converge.

    .venv/bin/python benchmarks/kill_and_rerun.py boundaries [--first 1] [--last N] [--step 1]
    .venv/bin/python benchmarks/kill_and_rerun.py moments [--count 20] [--seed 1]

boundaries: one bare host; the controller is killed (SIGKILL, whole process group) just before task 1, then a new run
before task 2, and so on, until a run ends by itself; then a further run must change nothing.
moments: for each of `--count` random moments of a first run on bare hosts: kill, run again to the end, run once more;
the last must report changed=0. Prints one row a kill; exit status 1 when any did not converge.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from checkout import BIN, ROOT
from hosts import playbook, provision, sandbox, write_inventory

SUBNET = "10.213.89.0/24"
LOG = ROOT / ".skerry" / "benchmarks" / "killed.log"  # what the last run printed


def start(inventory: Path, extra: list[str], **environment: str) -> subprocess.Popen[bytes]:
    """site.yml as a process group of its own."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [str(BIN / "ansible-playbook"), str(ROOT / "site.yml"), "-i", str(inventory), *extra],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **environment},
        stdout=LOG.open("wb"),
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
    )


def converges(inventory: Path, extra: list[str]) -> str:
    """Run to the end, then once more; an empty string, or what is wrong."""
    first = provision(inventory, *extra)
    if first.told["status"] != "successful":
        return "; ".join(first.failures)[:400] or first.told["status"]
    second = provision(inventory, *extra)
    if second.told["status"] != "successful" or second.changed:
        return f"the run after it: {second.told['status']}, changed={second.changed}"
    return ""


def boundaries(first: int, last: int, step: int, extra: list[str]) -> int:
    inventory = write_inventory("skerry-kill", SUBNET, 1)
    callbacks = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "plugins" / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "kill_at",
    }
    with sandbox(inventory):
        for number in range(first, last + 1, step):
            started = time.monotonic()
            ended = start(inventory, extra, SKERRY_KILL_AT_TASK=str(number), **callbacks).wait()
            print(f"before task {number:>3}: exit {ended:>4} after {time.monotonic() - started:5.1f} s", flush=True)
            if ended >= 0:  # not killed: it came to its end by itself
                break
        wrong = converges(inventory, extra) if ended <= 0 else f"a run after kills ended with {ended}: see {LOG}"
    print("converged" if not wrong else f"DID NOT CONVERGE: {wrong}")
    return int(bool(wrong))


def moments(count: int, seed: int, extra: list[str]) -> int:
    chance = random.Random(seed)
    inventory = write_inventory("skerry-kill", SUBNET, 2)
    with sandbox(inventory):
        started = time.monotonic()
        if start(inventory, extra).wait() != 0:
            sys.exit(f"the first run, without any kill, failed: see {LOG}")
        whole = time.monotonic() - started
        print(f"a first run takes {whole:.1f} s; seed {seed}")
        bad = 0
        for number in range(1, count + 1):
            playbook("playbooks/sandbox_down.yml", inventory)
            playbook("playbooks/sandbox_up.yml", inventory)
            at = chance.uniform(0.5, whole)
            process = start(inventory, extra)
            time.sleep(at)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            wrong = converges(inventory, extra)
            bad += bool(wrong)
            print(f"{number:>3}: killed after {at:5.1f} s: {wrong or 'converged, then changed=0'}", flush=True)
    print(f"{count - bad} of {count} converged")
    return int(bad > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["boundaries", "moments"])
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--last", type=int, default=200)
    parser.add_argument("--step", type=int, default=1, help="2: every other boundary, and so on")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-e", "--extra-vars", action="append", default=[])
    asked = parser.parse_args()
    extra = [word for pair in asked.extra_vars for word in ("-e", pair)]
    if asked.what == "boundaries":
        sys.exit(boundaries(asked.first, asked.last, asked.step, extra))
    sys.exit(moments(asked.count, asked.seed, extra))


if __name__ == "__main__":
    main()
