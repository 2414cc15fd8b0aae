#!/usr/bin/env python3
"""Print how long `skerry inventory check` takes, start included, for an inventory of many hosts (default 1,000).

    benchmarks/inventory_check.py [HOSTS] [--broken]

--broken adds a mistake to every tenth host, so that there is something to report.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from checkout import ROOT


def write(folder: Path, count: int, broken: bool) -> None:
    """An inventory of ``count`` hosts in ten zones, with a host_vars file for every fifth."""
    hosts = "".join(
        f"        edge-{n:04}:\n          ansible_host: 10.{n // 65536}.{n // 256 % 256}.{n % 256}\n"
        + ("          k3s_node_lables: {a: b}\n" if broken and n % 10 == 0 else "")
        for n in range(count)
    )
    zones = "".join(
        f"        zone_{z}:\n          vars:\n            skerry_zone: z{z}\n          hosts:\n"
        + "".join(f"            edge-{n:04}:\n" for n in range(z, count, 10))
        for z in range(10)
    )
    (folder / "hosts.yml").write_text(
        "all:\n  children:\n    skerry_servers:\n      hosts:\n        core:\n          ansible_host: 192.0.2.1\n"
        "          skerry_zone: core\n"
        f"    skerry_agents:\n      hosts:\n{hosts}    region_eu:\n      children:\n{zones}"
    )
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "all.yml").write_text("skerry_region: eu\n")
    (folder / "host_vars").mkdir()
    for n in range(0, count, 5):
        (folder / "host_vars" / f"edge-{n:04}.yml").write_text(f"k3s_node_labels:\n  example.org/rack: r{n % 40}\n")


def main() -> int:
    """Write the inventory, check it three times, print each time and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hosts", nargs="?", type=int, default=1000)
    parser.add_argument("--broken", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.hosts, arguments.broken)
        for _ in range(3):
            started = time.monotonic()
            command = [str(ROOT / "skerry"), "inventory", "check", "-i", name, "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
            seconds = time.monotonic() - started
            if done.returncode not in (0, 1):
                sys.exit(done.stderr)
            found = json.loads(done.stdout)
            print(f"{found['hosts']} hosts: {seconds:.2f} s, {found['errors']} errors, {found['warnings']} warnings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
