"""A look at many hosts at once: one ssh exchange each, nothing written there, a deadline each.

The modules of `skerry.look` are sent over standard input and one JSON document comes back. A host that does not answer
is unknown, with the reason, and holds nobody up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from skerry.errors import Exit, SkerryError
from skerry.targets.api import Fault, Target
from skerry.targets.connect import diagnose, launch
from skerry.targets.ssh import login

#: Exchanges under way at once.
AT_ONCE = 24
_MARK = b"SKERRY-LOOK "
#: Modules in the order in which they may be loaded.
_MODULES = ("system", "services", "network", "k3s", "storage", "report")

#: Takes the line with the sizes, then the modules and the request; `bootstrap.BOOT` says the same of an old Python.
_BOOT = r"""
import sys,os
def out(s):
    sys.stdout.write(s+"\n"); sys.stdout.flush(); os._exit(9)
if sys.version_info<(3,9): out("SKERRY-OLD %d.%d %s"%(sys.version_info[0],sys.version_info[1],sys.executable))
import json,time,types,zlib
f=sys.stdin.buffer
w=f.readline().split()
while not w or w[0]!=b"SKERRY-SEND":
    w=f.readline()
    if not w: os._exit(9)
    w=w.split()
d=json.loads(zlib.decompress(f.read(int(w[1]))))
for name in ("skerry","skerry.look"):
    m=types.ModuleType(name); m.__path__=[]; sys.modules[name]=m
for name,text in d["modules"]:
    full="skerry.look."+name
    m=types.ModuleType(full); m.__package__="skerry.look"; sys.modules[full]=m
    setattr(sys.modules["skerry.look"],name,m)
    exec(compile(text,full,"exec"),m.__dict__)
a=sys.modules["skerry.look.report"].collect(d["request"])
a["time"]=time.time()
b=zlib.compress(json.dumps(a).encode(),1)
sys.stdout.buffer.write(b"SKERRY-LOOK %d\n"%len(b)+b); sys.stdout.flush()
os._exit(0)
"""


@dataclass(frozen=True)
class Look:
    """What is known of one host.

    Attributes:
        target: the host.
        report: what `skerry.look.report.collect` gave; {} when the host is unknown.
        fault: why it is unknown.
        skew: seconds that the host's clock is ahead of this machine's (negative: behind), to some 50 ms.
        seconds: for the whole exchange.
    """

    target: Target
    report: Mapping[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    skew: float | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The inventory's name of the host."""
        return self.target.name

    def part(self, name: str) -> dict[str, Any]:
        """A part of the report; {} when it is not there."""
        found = self.report.get(name)
        return found if isinstance(found, dict) else {}


@lru_cache(maxsize=1)
def _modules() -> list[tuple[str, str]]:
    package = Path(__file__).resolve().parents[1] / "look"
    return [(name, (package / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]


def _exchange(target: Target, request: Mapping[str, Any], seconds: float) -> Look:
    start = time.monotonic()
    how = login(target)
    data = zlib.compress(json.dumps({"modules": _modules(), "request": dict(request)}).encode(), 9)
    first = b"" if how.password is None else how.password.encode() + b"\n"
    process = launch(target, how, _BOOT)
    try:
        said, words = process.communicate(first + b"SKERRY-SEND %d\n" % len(data) + data, seconds)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)  # ssh and what it may have started, such as a ProxyCommand
        with contextlib.suppress(subprocess.TimeoutExpired):  # somebody else holds the pipe: it is left to them
            process.communicate(timeout=1)
        raise SkerryError(
            "TARGET_022",
            f"host {target.name}: no answer within {seconds:.0f} s",
            "check the host, its link and its load; --host-timeout gives it more time",
            Exit.UNREACHABLE,
        ) from error
    now = time.time()
    _, mark, rest = said.partition(_MARK)
    if not mark:
        text, errors = said.decode("utf-8", "replace"), words.decode("utf-8", "replace")
        raise diagnose(target, how, text, errors, process.returncode)
    size, _, body = rest.partition(b"\n")
    report = json.loads(zlib.decompress(body[: int(size)]))
    return Look(target, report, None, report["time"] - now, time.monotonic() - start)


def look(target: Target, request: Mapping[str, Any], seconds: float) -> Look:
    """A look at one host; a failure is in the result.

    Args:
        request: see `skerry.look.report.collect`; its ``seconds`` are set from the deadline.
        seconds: for the login and the look together.
    """
    start = time.monotonic()
    try:
        return _exchange(target, {**request, "seconds": max(1.0, seconds - 2.0)}, seconds)
    except SkerryError as error:
        return Look(target, {}, Fault(error.code, error.cause, error.remedy), None, time.monotonic() - start)


def look_at(targets: Iterable[Target], request: Mapping[str, Any], each: float, together: float) -> dict[str, Look]:
    """A look at many hosts, by name, in their order.

    Args:
        each: seconds for a host.
        together: seconds for all of them; those not done by then are unknown.
    """
    chosen = list(targets)
    deadline = time.monotonic() + together
    pool = ThreadPoolExecutor(max_workers=AT_ONCE)

    def attempt(target: Target) -> Look:
        left = deadline - time.monotonic()
        return look(target, request, min(each, left)) if left > 0.2 else _late(target, together)

    futures: dict[Future[Look], Target] = {pool.submit(attempt, target): target for target in chosen}
    pending = set(futures)
    while pending and (left := deadline + 1.0 - time.monotonic()) > 0:
        _, pending = wait(pending, left, FIRST_COMPLETED)
    pool.shutdown(wait=False, cancel_futures=True)
    return {target.name: one.result() if one not in pending else _late(target, together)
            for one, target in futures.items()}  # fmt: skip


def _late(target: Target, seconds: float) -> Look:
    fault = Fault(
        "TARGET_023",
        f"host {target.name}: not asked within the {seconds:.0f} s that all hosts have together",
        "choose fewer hosts with --on, or give more time with --deadline",
    )
    return Look(target, {}, fault)
