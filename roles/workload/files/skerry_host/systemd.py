"""systemd, asked through its command: a handful of calls whatever the number of workloads."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from .faults import HostError

#: What is asked of a unit.
PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "ExecMainCode", "MainPID", "NRestarts",
    "ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic", "MemoryCurrent", "InvocationID", "ControlGroup",
    "NextElapseUSecRealtime", "LastTriggerUSec",
)  # fmt: skip

#: What every unit of ours is kept from; systemd.exec(5).
HARDENED = """\
NoNewPrivileges=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
UMask=0077
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
LimitCORE=0
"""


def call(*words: str, check: bool = True) -> str:
    """``systemctl``; its output. Raises HostError (HOST_010) when it fails and ``check`` is set."""
    command = ["systemctl", "--no-ask-password", *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if check and done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise HostError("HOST_010", f"systemctl {' '.join(words)} failed: {said}", "journalctl -xe says more there")
    return done.stdout


def show(units: Iterable[str]) -> dict[str, dict[str, str]]:
    """unit -> its properties, in one call; a unit that is not loaded has LoadState=not-found."""
    asked: list[str] = list(units)
    if not asked:
        return {}
    found: dict[str, dict[str, str]] = {}
    for block in call("show", "--property", ",".join(PROPERTIES), "--", *asked).split("\n\n"):
        entry = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in entry:
            found[entry["Id"]] = entry
    return found


def quoted(word: str) -> str:
    """A word of a command line in a unit file (systemd.service(5), "Command lines"): no specifier, no variable."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
    return f'"{escaped}"'
