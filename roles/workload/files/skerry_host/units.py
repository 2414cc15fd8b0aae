"""systemd units of a desired workload: pure text, so that what is there can be compared with what should be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from . import argv, places, ports, store, systemd
from .calendar import on_calendar
from .systemd import quoted

Desired = dict[str, Any]
#: Room for the process that watches a run, beside the workload's own limit.
COUNTER_BYTES = 16 << 20

#: What every workload is kept from; systemd.exec(5). Memory stays executable: runtimes compile. In a slice of their own
#: all of them together weigh as much as all of the host's services, and they go first where it has no memory left.
SANDBOX = systemd.HARDENED + """\
DynamicUser=yes
CapabilityBoundingSet=
PrivateTmp=yes
ProtectHome=yes
ProtectProc=invisible
RemoveIPC=yes
SystemCallFilter=~@privileged @resources
Slice=skerry.slice
CPUWeight=100
OOMScoreAdjust=500
"""


def service(desired: Desired) -> str:
    """Name of the unit that runs it. A service's carries its revision: old and new run beside each other at times.
    That of a service with ports carries its slot as well: so do two instances of one revision."""
    which = ports.slot(desired) or ports.SLOTS[0] if ports.of(desired) else ""
    return template(desired).replace("@.", f"@{which}.")


def template(desired: Desired) -> str:
    """The file of that unit: one for all instances of a service with ports."""
    if desired["kind"] == "service":
        return f"skerry-{desired['name']}.{desired['revision'][:8]}{'@' if ports.of(desired) else ''}.service"
    return f"skerry-{desired['name']}.service"


def hook(desired: Desired) -> str:
    """How the unit tells our own commands whose unit it is."""
    return f"{desired['name']} {desired['revision']}{' %i' if ports.of(desired) else ''}"


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


def writable(desired: Desired) -> list[str]:
    """Directories of the host that it may write to."""
    return [entry["host"] for entry in desired["directories"] if not entry["read_only"]]


def counted(desired: Desired) -> bool:
    """Whether a process of ours stays beside it (`counting`): not with a service that can fill no directory."""
    return desired["kind"] != "service" or bool(writable(desired))


def watched(desired: Desired) -> dict[str, Any]:
    """The limits that `counting` ends it at. A service's output is journald's to bound."""
    limits = desired["limits"]
    return {"output": None if desired["kind"] == "service" else limits["output"], "open_files": limits["open_files"],
            "disk": limits.get("disk"), "file_size": limits["file_size"], "directories": writable(desired)}


def _limits(desired: Desired) -> list[str]:
    limits = desired["limits"]
    lines = [f"LimitNOFILE={limits['open_files']}", f"TasksMax={limits['processes']}"]
    if limits["memory"] is not None:
        extra = COUNTER_BYTES if counted(desired) else 0
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
    families = "AF_INET AF_INET6 AF_UNIX" if ports.of(desired) else "AF_UNIX"
    return ["PrivateNetwork=yes", f"RestrictAddressFamilies={families}"]


def _start(desired: Desired) -> str:
    words = argv.command(desired)
    if counted(desired):
        words = [places.COMMAND, "exec", json.dumps(watched(desired)), *words]
    line = " ".join(word if word.startswith(argv.CREDENTIALS) else quoted(word) for word in words)
    # What systemd is to fill in.
    return "ExecStart=" + line.replace("$" + argv.CREDENTIALS, argv.CREDENTIALS).replace(ports.SLOT, "%i")


def _restart(desired: Desired) -> list[str]:
    policy = {"always": "always", "on-failure": "on-failure", "never": "no"}[desired["restart"]]
    return [f"Restart={policy}", "RestartSec=2s", "TimeoutStartSec=60s", "TimeoutStopSec=10s", "KillMode=mixed"]


def user(desired: Desired) -> str:
    """The dynamic user: the same for all revisions of a workload, and at most 31 characters long."""
    return "skerry-" + hashlib.sha256(desired["name"].encode()).hexdigest()[:12]


def process_lines(desired: Desired) -> list[str]:
    """What differs on the rung process (see `rungs.Rung`)."""
    lines = ["Type=exec", _start(desired), *_limits(desired), *_network(desired), *_environment(desired),
             f"User={user(desired)}"]  # fmt: skip
    if desired["stdin"] is not None:
        lines.append(f"StandardInput=file:{store.path(desired['stdin'])}")
    # The sign lets a start go on without one: `verify` makes it, in the mount namespace that this line shapes.
    return [*lines, *(f"ReadWritePaths={quoted('-' + path)}" for path in writable(desired)), *SANDBOX.splitlines()]


def service_text(desired: Desired) -> str:
    """The unit that runs a workload."""
    from . import rungs  # which needs the names given here

    wait = ["StartLimitIntervalSec=5min", "StartLimitBurst=20"]
    if desired["network"]:
        wait += ["After=network-online.target", "Wants=network-online.target"]
    if desired["rung"] == "container":
        wait += ["After=docker.service", "Wants=docker.service"]
    if ports.of(desired):
        wait += [f"{key}={ports.relay(desired)}" for key in ("After", "Wants")]
        wait += [f"JoinsNamespaceOf={ports.relay(desired)}"] if ports.apart(desired) else []
    lines = ["[Unit]", f"Description=Skerry workload {desired['name']} ({desired['kind']})", *wait, "", "[Service]",
             f"SyslogIdentifier=skerry-{desired['name']}", "LogRateLimitIntervalSec=30s", "LogRateLimitBurst=10000",
             f"ExecStartPre=+{places.COMMAND} verify {hook(desired)}",
             f"ExecStopPost=+{places.COMMAND} ended {hook(desired)}", *_restart(desired),
             *rungs.of(desired).lines(desired)]  # fmt: skip
    if ports.of(desired) and not ports.apart(desired):  # its address may be another one after each start
        lines.append(f"ExecStartPost=+{places.COMMAND} point {hook(desired)}")
    return places.MARK + "\n".join(lines) + "\n"


def timer_text(desired: Desired) -> str:
    """The timer of a schedule."""
    schedule = desired["schedule"]
    about = f"Description=Skerry schedule {desired['name']} ({schedule['cron']} {schedule['time_zone']})"
    lines = ["[Unit]", about, "", "[Timer]", f"Unit={service(desired)}", "AccuracySec=1s",
             f"Persistent={'yes' if schedule['missed'] else 'no'}"]  # fmt: skip
    lines += [f"OnCalendar={entry}" for entry in on_calendar(schedule["cron"], schedule["time_zone"])]
    return places.MARK + "\n".join(lines) + "\n"


def files(desired: Desired) -> dict[str, str]:
    """Unit name -> text of everything that this revision needs."""
    found = {template(desired): service_text(desired), **ports.files(desired)}
    if desired["kind"] == "schedule":
        found[timer(desired)] = timer_text(desired)
    return found


def wanted(desired: Desired) -> str:
    """The unit that starts with the host; "" for a job, which runs when it is told to."""
    return {"service": service(desired), "schedule": timer(desired)}.get(desired["kind"], "")


def active(desired: Desired) -> list[str]:
    """Units that run all the time; [] for a job."""
    relay = [ports.relay(desired)] if ports.of(desired) else []
    return [unit for unit in (wanted(desired), *ports.sockets(desired), *relay) if unit]
