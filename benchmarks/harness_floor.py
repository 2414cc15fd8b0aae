#!/usr/bin/env python3
"""Print the harness's own floor on every rung: an empty program, on this machine or on the hosts of an inventory.

    benchmarks/harness_floor.py [-i INVENTORY] [--samples 30]
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict

from checkout import commit

from skerry.report import stats, units
from skerry.targets import api, inventory
from skerry.targets.sessions import open_sessions
from skerry.workloads import build, manifest


def main() -> int:
    """Sample all floors in a random order and print them as ratios to the native one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--inventory")
    parser.add_argument("--samples", type=int, default=30)
    options = parser.parse_args()
    wasm = build.build_one(manifest.load_all(["hello"])[0], "wasm").path
    hosts = inventory.read([options.inventory]) if options.inventory else [inventory.this_machine()]
    sessions, faults = open_sessions(hosts)
    for name, fault in faults.items():
        print(f"{name}: {fault.code} {fault.cause}", file=sys.stderr)
    specs = {}
    try:
        for name, session in sessions.items():
            digest = session.put(wasm)
            for one in session.capabilities():
                if one.available:
                    specs[(name, one.key)] = api.SampleSpec(api.RunSpec(one.key, digest, name="empty"), empty=True)
                    session.prepare(specs[(name, one.key)])
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for turn in range(options.samples + 1):
            for key in random.Random(turn).sample(sorted(specs), len(specs)):
                sample = sessions[key[0]].sample(specs[key])
                if sample.fault is None and turn:
                    found[key].append(sample.run_seconds)
    finally:
        for session in sessions.values():
            session.close()
    print(f"checkout {commit()}")
    for (name, way), values in sorted(found.items()):
        this, native = stats.summarise(values), stats.summarise(found[(name, "native/native/native")])
        print(f"{name:<12} {way:<34} median {units.seconds(this.median):>9}  p95 {units.seconds(this.p95):>9}  "
              f"{units.ratio(this.median / native.median)} native")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
