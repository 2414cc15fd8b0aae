#!/usr/bin/env python3
"""Print the embedded cold start of `hello` compiled ahead of time, on this machine: load, instance, run, by phases.

    benchmarks/embedded_cold_start.py [--samples 300]

The aim is a 95th percentile of 0.15 ms from "go" to the end. The native program is sampled in turn with it, in one run.
"""

from __future__ import annotations

import argparse
import sys

from checkout import commit

from skerry.report import stats, units
from skerry.targets import api, inventory
from skerry.targets.sessions import open_session
from skerry.workloads import build, manifest

AIM = 0.15e-3


def main() -> int:
    """Sample both in turn and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=300)
    count = parser.parse_args().samples
    hello = manifest.load_all(["hello"])[0]
    found: dict[str, list[float]] = {}
    phases: dict[str, list[float]] = {}
    with open_session(inventory.this_machine()) as session:
        specs = {}
        for key, target in (("embedded/wasmtime/aot", "wasm"), ("native/native/native", build.own_architecture())):
            digest = session.put(build.build_one(hello, target).path)
            specs[key] = api.SampleSpec(api.RunSpec(key, digest, name="hello"))
            session.prepare(specs[key])
        for turn in range(count + 5):
            for key, spec in specs.items():
                sample = session.sample(spec)
                if sample.exit_code != 0 or sample.stdout_digest != hello.sizes["full"].expected_sha256:
                    print(f"{key}: wrong result: {sample}", file=sys.stderr)
                    return 1
                if turn >= 5:
                    found.setdefault(key, []).append(sample.run_seconds)
                    for name, value in sample.phases.items() if key.startswith("embedded") else ():
                        phases.setdefault(name, []).append(value)
    print(f"checkout {commit()}")
    for key, values in found.items():
        one = stats.summarise(values)
        print(f"{key:<24} n {one.count}  least {units.seconds(one.least)}  median {units.seconds(one.median)}  "
              f"p95 {units.seconds(one.p95)}  greatest {units.seconds(one.greatest)}")
    for name, values in phases.items():
        one = stats.summarise(values)
        print(f"  {name:<22} median {units.seconds(one.median)}  p95 {units.seconds(one.p95)}")
    p95 = stats.summarise(found["embedded/wasmtime/aot"]).p95
    print(f"aim: p95 <= {units.seconds(AIM)}: {'met' if p95 <= AIM else 'missed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
