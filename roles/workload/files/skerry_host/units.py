"""systemd units of a desired workload: pure text, so that what is there can be compared with what should be."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from . import argv, places, store
from .calendar import on_calendar
from .systemd import quoted

Desired = dict[str, Any]
#: Room for the process that counts a job's output, beside the workload's own limit.
COUNTER_BYTES = 16 << 20

#: What every workload is kept from; systemd.exec(5). Memory stays executable: runtimes compile.
SANDBOX = """\
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
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
RemoveIPC=yes
KeyringMode=private
UMask=0077
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
LimitCORE=0
"""


def service(desired: Desired) -> str:
    """Name of the unit that runs it. A service's carries its revision: old and new run beside each other at times."""
    if desired["kind"] == "service":
        return f"skerry-{desired['name']}.{desired['revision'][:8]}.service"
    return f"skerry-{desired['name']}.service"


def timer(desired: Desired) -> str:
    """Name of the timer of a schedule."""
    return f"skerry-{desired['name']}.timer"


def secrets(desired: Desired) -> Path:
    """Folder of a revision's secrets (0700); a rolled-back revision has those of its time."""
    return places.folder(str(desired["name"])) / "secrets" / str(desired["revision"])[:16]


def _environment(desired: Desired) -> list[str]:
    lines = []
    if any(not one["mount"] for one in desired["secrets"]):
        lines.append(f"EnvironmentFile={secrets(desired)}/environment")
    for one in desired["secrets"]:
        if one["mount"]:
            name = PurePosixPath(one["mount"]).name
            lines.append(f"LoadCredential={name}:{secrets(desired)}/{one['name']}")
    return lines


def _limits(desired: Desired) -> list[str]:
    limits = desired["limits"]
    lines = [f"LimitNOFILE={limits['open_files']}", f"TasksMax={limits['processes']}"]
    if limits["memory"] is not None:
        extra = 0 if desired["kind"] == "service" else COUNTER_BYTES
        lines += [f"MemoryMax={limits['memory'] + extra}", "MemorySwapMax=0"]
    if limits["cpu"] is not None:
        lines.append(f"CPUQuota={max(1, round(limits['cpu'] * 100))}%")
    if limits["time"] is not None:
        lines.append(f"RuntimeMaxSec={limits['time']:g}")
    if limits["file_size"] is not None:
        lines.append(f"LimitFSIZE={limits['file_size']}")
    return lines


def _network(desired: Desired) -> list[str]:
    if desired["network"]:
        return ["RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"]
    return ["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"]


def _start(desired: Desired) -> list[str]:
    words = argv.command(desired)
    if desired["kind"] != "service":
        words = [places.COMMAND, "exec", str(desired["limits"]["output"] or 0), *words]
    line = " ".join(word if word.startswith(argv.CREDENTIALS) else quoted(word) for word in words)
    line = line.replace("$" + argv.CREDENTIALS, argv.CREDENTIALS)  # the one variable that systemd is to fill in
    return [f"ExecStartPre=+{places.COMMAND} verify {desired['name']} {desired['revision']}", f"ExecStart={line}",
            f"ExecStopPost=+{places.COMMAND} ended {desired['name']} {desired['revision']}"]  # fmt: skip


def _restart(desired: Desired) -> list[str]:
    policy = {"always": "always", "on-failure": "on-failure", "never": "no"}[desired["restart"]]
    return [f"Restart={policy}", "RestartSec=2s", "TimeoutStartSec=60s", "TimeoutStopSec=10s", "KillMode=mixed"]


def user(desired: Desired) -> str:
    """The dynamic user: the same for all revisions of a workload, and at most 31 characters long."""
    return "skerry-" + hashlib.sha256(desired["name"].encode()).hexdigest()[:12]


def service_text(desired: Desired) -> str:
    """The unit that runs a workload on the rung process."""
    writable = [entry["host"] for entry in desired["directories"] if not entry["read_only"]]
    wait = ["StartLimitIntervalSec=5min", "StartLimitBurst=20"]
    if desired["network"]:
        wait += ["After=network-online.target", "Wants=network-online.target"]
    lines = ["[Unit]", f"Description=Skerry workload {desired['name']} ({desired['kind']})", *wait, "", "[Service]",
             "Type=exec", f"SyslogIdentifier=skerry-{desired['name']}", "LogRateLimitIntervalSec=30s",
             "LogRateLimitBurst=10000", *_start(desired), *_restart(desired), *_limits(desired), *_network(desired),
             *_environment(desired), f"User={user(desired)}"]  # fmt: skip
    if desired["stdin"] is not None:
        lines.append(f"StandardInput=file:{store.path(desired['stdin'])}")
    lines += [f"ReadWritePaths={quoted(path)}" for path in writable]
    return places.MARK + "\n".join(lines) + "\n" + SANDBOX


def timer_text(desired: Desired) -> str:
    """The timer of a schedule."""
    schedule = desired["schedule"]
    about = f"Description=Skerry schedule {desired['name']} ({schedule['cron']} {schedule['time_zone']})"
    lines = ["[Unit]", about, "", "[Timer]", f"Unit={service(desired)}", "AccuracySec=1s",
             f"Persistent={'yes' if schedule['missed'] else 'no'}"]  # fmt: skip
    lines += [f"OnCalendar={entry}" for entry in on_calendar(schedule["cron"], schedule["time_zone"])]
    return places.MARK + "\n".join(lines) + "\n"


def files(desired: Desired) -> dict[str, str]:
    """Unit name -> text of everything that this revision needs on the rung process."""
    found = {service(desired): service_text(desired)}
    if desired["kind"] == "schedule":
        found[timer(desired)] = timer_text(desired)
    return found


def wanted(desired: Desired) -> str:
    """The unit that starts with the host; "" for a job, which runs when it is told to."""
    return {"service": service(desired), "schedule": timer(desired)}.get(desired["kind"], "")
