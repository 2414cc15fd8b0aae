"""What is measured of a child is the program's, not what was there before it began or after it ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skerry import paths
from skerry.probe.podgroup import PodGroup

#: A child that dawdles before it becomes the program, while its memory is a copy of this process's with a ballast.
SLOW = """
import json, os, sys, time
from skerry.probe import procs, trace
if sys.argv[1] == "untraced":
    trace.seize = lambda pid: False
class Slow(procs.Program):
    def __call__(self, report):
        time.sleep(0.1)
        super().__call__(report)
ballast = b"x" * (64 << 20)
null = os.open(os.devnull, os.O_RDONLY)
program = Slow("/bin/sleep", ["sleep", "0.2"], {})
ended = procs.execute(program, null, procs.Limits(), None, lambda *_: None, 0.001)
print(json.dumps([ended.exit_code, ended.pss, ended.maxrss]))
"""


@pytest.mark.parametrize("mode", ["traced", "untraced"])
def test_memory_before_a_program_begins_is_not_the_programs(mode: str) -> None:
    environment = {"PYTHONPATH": str(paths.root() / "tools"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", SLOW, mode], capture_output=True, text=True, check=True,
                          env=environment, timeout=60)  # fmt: skip
    code, pss, maxrss = json.loads(done.stdout)
    assert code == 0
    assert 4096 <= pss < 8 << 20
    assert maxrss == 0  # the kernel's peak is the ballast's


def test_a_process_that_has_ended_leads_to_no_control_group() -> None:
    group = PodGroup()
    child = subprocess.Popen(["true"])  # a zombie until it is waited for: version 1 shows it in the root
    try:
        while "Z (zombie)" not in Path(f"/proc/{child.pid}/status").read_text():
            time.sleep(0.01)
        group.of_process(child.pid, "e62b7f876f93f3ca")
        assert group.group is None
        assert group.pids() == []
    finally:
        child.wait()
