"""How a run ended: written down by the unit's own ExecStopPost=, while its control group is still there."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from . import places, processes, store
from .counting import SIGNALS

Desired = dict[str, Any]
#: How many runs are remembered.
KEPT = 20
#: wasmtime's exit code after a trap (128 + SIGABRT), and WasmEdge's last words after one.
_TRAPPED = 134
#: Part of a limit of memory that counts as all of it: the kernel charges it in batches of 64 pages a core.
_FULL = 0.98
_REFUSED = re.compile(r"HOST_\d\d\d ")
_WASMEDGE = re.compile(r"\[error\].*execution failed: (.*)")


def _group(controller: str) -> Path | None:
    """The unit's control group of a controller; this process is in it, or below it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        relative = path.removesuffix("/.control").lstrip("/")
        if controllers == "":
            unified = Path("/sys/fs/cgroup", relative)
            if (unified / f"{controller}.max").exists():
                return unified
        elif controller in controllers.split(","):
            return Path("/sys/fs/cgroup", controller, relative)
    return None


def _number(path: Path) -> int:
    try:
        text = path.read_text().split()
        return int(text[0]) if text and text[0].isdigit() else 0
    except OSError:
        return 0


def _memory(desired: Desired) -> dict[str, int]:
    """Peak and limit in bytes, as the kernel counted them; 0 where it does not say. A container's group is gone."""
    group = _group("memory") if desired["rung"] == "process" else None
    if group is None:
        return {"peak": 0, "limit": 0}
    peak = _number(group / "memory.peak") or _number(group / "memory.max_usage_in_bytes")
    return {"peak": peak, "limit": _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")}


def _refused() -> bool:
    """Whether the kernel refused it a process or a thread, as it had as many as it may."""
    group = _group("pids")
    try:
        return group is not None and int((group / "pids.events").read_text().split()[1]) > 0
    except (OSError, IndexError):  # no such file in its group: it never had one more than it may
        return False


def _limit(result: str, code: str, status: str, memory: dict[str, int]) -> str | None:
    """Which limit ended it."""
    for limit, number in SIGNALS.items():
        if code in ("killed", "dumped") and status == number.name[3:]:
            return limit
    if result == "timeout":
        return "time"
    full = memory["limit"] and memory["peak"] >= _FULL * memory["limit"]
    if result == "oom-kill" or (full and status in ("KILL", "137", "9")):
        return "memory"
    if code == "exited" and status == str(128 + signal.SIGXFSZ):
        return "file_size"
    if (code != "exited" or status != "0") and result != "success" and _refused():
        return "processes"
    return None


def _last_words(runtime: str, status: int, lines: list[str]) -> str:
    """The runtime's own words about a trap, for the controller to name it; "" when the module itself ended so."""
    if runtime == "wasmtime":
        return "\n".join(lines)[-2000:] if status == _TRAPPED else ""
    return next((found[1] for found in map(_WASMEDGE.search, reversed(lines)) if found), "")


def _code_lost(desired: Desired) -> bool:
    """Whether its exit code does not reach us: some runtimes in containers tell 0 whatever code a module ends with."""
    if desired["runtime"].get("exit_codes", True):
        return False
    path = store.path(desired["module"]["digest"])
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as module:
        return module.find(b"\x09proc_exit") >= 0  # mapped: it may be larger than this unit's memory


def record(desired: Desired, environment: dict[str, str]) -> dict[str, Any]:
    """One run's end, from what systemd says to ExecStopPost= (systemd.exec(5), SERVICE_RESULT and others)."""
    result, code = environment.get("SERVICE_RESULT", ""), environment.get("EXIT_CODE", "")
    status, invocation = environment.get("EXIT_STATUS", ""), environment.get("INVOCATION_ID", "")
    memory = _memory(desired)
    limit = _limit(result, code, status, memory)
    entry: dict[str, Any] = {"invocation": invocation, "revision": desired["revision"], "ended": time.time(),
                             "limit": limit, "exit_code": None, "trap": None, "signal": None,
                             "memory_bytes": memory["peak"] or None}  # fmt: skip
    if limit is None and code == "exited":
        entry["exit_code"] = int(status)
        if entry["exit_code"]:
            said = _last_words(desired["runtime"]["name"], int(status), processes.output_of(invocation, 10))
            entry["trap"] = said or None
            entry["exit_code"] = None if said else entry["exit_code"]
        elif _code_lost(desired):
            entry.update(exit_code=None, code_lost=True)
    elif limit is None:
        entry["signal"] = "SIG" + status if status else None
        # It never began: our own words about it say why.
        ours = [] if status or result == "success" else processes.output_of(invocation, 10)
        entry["refused"] = next((line for line in ours if _REFUSED.match(line)), None)
    return entry


def note(desired: Desired) -> None:
    """Append this run's end to the workload's list."""
    lines = [json.dumps(one) for one in processes.runs(desired["name"])][-(KEPT - 1) :]
    lines.append(json.dumps(record(desired, dict(os.environ))))
    places.write(places.folder(desired["name"]) / "runs", "\n".join(lines) + "\n")
