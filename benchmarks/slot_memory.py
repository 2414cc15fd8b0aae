#!/usr/bin/env python3
"""Print what the probe takes of a host's memory: the session, and each slot that waits between two samples.

    benchmarks/slot_memory.py

On this machine, as proportional set sizes (smaps_rollup), once for each slot more; the ratio is to a Python process of
its own that has loaded the same modules. A host of 512 MB keeps some ten slots ready at once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from checkout import ROOT, commit

from skerry.probe import memory
from skerry.report import stats, units
from skerry.targets import api, inventory
from skerry.targets.sessions import open_sessions
from skerry.workloads import build, manifest

#: Loads the probe as a host does, without the package's own dependencies, and says that it has.
_ALONE = """
import sys, types
package = types.ModuleType("skerry"); package.__path__ = [sys.argv[1]]; sys.modules["skerry"] = package
import skerry.probe.guard
print("loaded", flush=True); sys.stdin.read()
"""


def alone() -> int:
    """Bytes of a process of its own."""
    command = [sys.executable, "-c", _ALONE, str(ROOT / "tools" / "skerry")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        size = memory.pss(process.pid) or 0
        process.communicate()
    return size


def probe() -> int:
    """Bytes of all processes of the session."""
    time.sleep(0.3)  # compilers of the last slot have ended
    return memory.total(memory.descendants(os.getpid()))


def main() -> int:
    """Prepare one slot after another and print what each has added."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    hello = manifest.load_all(["hello"])[0]
    wasm = build.build_one(hello, "wasm").path
    own = alone()
    sessions, faults = open_sessions([inventory.this_machine()])
    try:
        for fault in faults.values():
            print(f"{fault.code} {fault.cause}", file=sys.stderr)
            return 1
        session = next(iter(sessions.values()))
        digest = session.put(wasm)
        found = [one.key for one in session.capabilities() if one.available]
        ways = [key for key in found if key.startswith(("process", "embedded"))]
        before = session_alone = probe()
        added = []
        for number in range(10):
            key = ways[number % len(ways)]
            session.prepare(api.SampleSpec(api.RunSpec(key, digest, name=f"hello-{number}")))
            now = probe()
            added.append(float(now - before))
            before = now
    finally:
        for session in sessions.values():
            session.close()
    slot = stats.summarise(added)
    print(f"checkout {commit()}")
    print(f"of its own  {units.size(own):>9}  one process with the same modules")
    print(f"session     {units.size(session_alone):>9}  {units.ratio(session_alone / own)} as much")
    ratio = units.ratio(slot.median / own)
    print(f"each slot   {units.size(slot.median):>9}  {ratio} as much; p95 {units.size(slot.p95)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
