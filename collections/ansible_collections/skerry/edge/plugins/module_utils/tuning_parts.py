"""The smaller parts of host_tuning: kernel modules, limits, journald, time, swap, kernel command line.

Each part has a function that applies it to a ``Context``; what it wrote is undone through the context's journal. Pure
Python, 3.8 or later.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.host import cgroup, mount_of, on_sd_card
from ansible_collections.skerry.edge.plugins.module_utils.kernel_features import configuration, module_names
from ansible_collections.skerry.edge.plugins.module_utils.tuning_state import Context, TuningError

MODULES_FILE = "/etc/modules-load.d/90-skerry.conf"
MANAGER_FILE = "/etc/systemd/system.conf.d/90-skerry.conf"
LIMITS_FILE = "/etc/security/limits.d/90-skerry.conf"
JOURNALD_FILE = "/etc/systemd/journald.conf.d/90-skerry.conf"
TIMESYNCD_FILE = "/etc/systemd/timesyncd.conf.d/90-skerry.conf"
ZRAM_FILE = "/etc/systemd/zram-generator.conf.d/90-skerry.conf"
SWAPPINESS_FILE = "/etc/sysctl.d/91-skerry-swap.conf"
HEADER = "# Made by the role host_tuning.\n"
BEGIN, END = "# BEGIN skerry host_tuning", "# END skerry host_tuning"
CAP_SYS_RESOURCE = 24
# Service, the command that shows it is installed, its configuration's way to take servers.
TIME_SERVICES = (
    ("chronyd", "chronyd"),
    ("chrony", "chronyd"),
    ("ntpsec", "ntpd"),
    ("ntpd", "ntpd"),
    ("openntpd", "ntpd"),
    ("systemd-timesyncd", ""),
)
CMDLINE_FILES = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt")


def apply_modules(context: Context, modules: list[str]) -> None:
    """Load kernel modules now and at every boot; one that is built in needs nothing, one that is absent is noted."""
    host = context.host
    context.write(MODULES_FILE, HEADER + "".join(f"{name}\n" for name in modules))
    release = host.read("/proc/sys/kernel/osrelease").strip()
    loaded = {line.split()[0] for line in host.read("/proc/modules").splitlines()}
    files = module_names(host, release)
    for name in modules:
        if name in loaded or host.exists(f"/sys/module/{name}"):
            continue
        if files is None or name not in files:
            # Without module files the kernel has it built in or not at all; preflight tells which.
            if configuration(host, release)[1].get(_option(name)) != "y":
                context.notes.append(f"kernel module {name} is not available")
            continue
        context.change(f"kernel module {name} loaded")
        if context.check:
            continue
        code, _out, error = host.run("modprobe", name)
        if code:
            context.changes.pop()
            context.notes.append(f"kernel module {name} cannot be loaded: {error.strip()}")
        else:
            context.journal.setdefault("modules", []).append(name)


def _option(module: str) -> str:
    return {"br_netfilter": "BRIDGE_NETFILTER", "overlay": "OVERLAY_FS"}.get(module, module.upper())


def apply_limits(context: Context, soft: int, hard: int) -> None:
    """Open files for services (systemd's default) and for logins (pam_limits), never lowered.

    A hard limit above the present one needs CAP_SYS_RESOURCE, which a container may lack: there pam_limits would
    refuse every login, so the limit stays at what process 1 has.
    """
    host = context.host
    found = re.search(r"^Max open files\s+(\S+)\s+(\S+)", host.read("/proc/1/limits"), re.MULTILINE)
    have = int(found.group(2)) if found and found.group(2).isdigit() else hard
    bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)", host.read("/proc/1/status"), re.MULTILINE)
    free = bounding is None or bool(int(bounding.group(1), 16) >> CAP_SYS_RESOURCE & 1)
    if hard > have and not free:
        context.notes.append(f"the limit of open files stays at {have}: this container may not raise it")
        hard = have
    ceiling = host.read("/proc/sys/fs/nr_open").strip()
    hard = max(min(hard, int(ceiling)) if ceiling.isdigit() else hard, have)
    soft = min(soft, hard)
    context.write(MANAGER_FILE, f"{HEADER}[Manager]\nDefaultLimitNOFILE={soft}:{hard}\n", then="daemon-reload")
    lines = "".join(
        f"{who} {kind} nofile {value}\n" for who in ("*", "root") for kind, value in (("soft", soft), ("hard", hard))
    )
    context.write(LIMITS_FILE, HEADER + lines)


def apply_journald(context: Context, use_mb: int, storage: str, settings: dict[str, str]) -> None:
    """Bound the journal; ``storage`` auto keeps it in memory where the log lies on an SD card."""
    log = mount_of(context.host, "/var/log")
    if storage == "auto":
        storage = "volatile" if on_sd_card(context.host, log["device"]) else ""
    lines = {"SystemMaxUse": f"{use_mb}M", "RuntimeMaxUse": f"{max(16, use_mb // 4)}M"}
    if storage:
        lines["Storage"] = storage
    lines.update(settings)
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    context.write(JOURNALD_FILE, f"{HEADER}[Journal]\n{text}", then="systemd-journald")


def look_at_time(context: Context, servers: list[str]) -> dict[str, Any]:
    """The time service of this host: ``{"service", "active"}``; service '' where none is installed.

    ``servers`` (empty: leave) are written into a drop-in of that service, or a marked block of its one file.
    """
    host = context.host
    container = host.in_container()
    units = host.run(
        "systemctl", "list-unit-files", "--no-legend", "--plain", *[f"{name}.service" for name, _ in TIME_SERVICES]
    )
    present = {
        line.split()[0].rpartition(".")[0]: line.split()[1] for line in units[1].splitlines() if len(line.split()) > 1
    }
    usable = [name for name, _command in TIME_SERVICES if present.get(name, "masked") not in ("masked", "alias")]
    states = host.run("systemctl", "is-active", *usable)[1].split() if usable else []
    active = [name for name, state in zip(usable, states) if state == "active"]
    service = active[0] if active else usable[0] if usable else ""
    if servers and service:
        _time_servers(context, service, servers)
    if container and not active:
        context.notes.append(f"time comes from the machine around this container ({container}); no service is started")
    return {"service": service, "active": bool(active)}


def _time_servers(context: Context, service: str, servers: list[str]) -> None:
    if service == "systemd-timesyncd":
        context.write(TIMESYNCD_FILE, f"{HEADER}[Time]\nNTP={' '.join(servers)}\n", then=service)
        return
    lines = "".join(f"server {server} iburst\n" for server in servers)
    for folder in re.findall(r"^sourcedir\s+(/etc/\S+)", context.host.read("/etc/chrony/chrony.conf"), re.MULTILINE):
        context.write(f"{folder}/90-skerry.sources", HEADER + lines, then=service)
        return
    for name in (
        "/etc/chrony/chrony.conf",
        "/etc/chrony.conf",
        "/etc/ntpsec/ntp.conf",
        "/etc/ntp.conf",
        "/etc/openntpd/ntpd.conf",
    ):
        text = context.host.read(name, None)
        if text is not None:
            plain = lines.replace(" iburst", "") if "openntpd" in name else lines
            context.write(name, without_block(text) + f"{BEGIN}\n{plain}{END}\n", then=service)
            return


def without_block(text: str) -> str:
    """Text without the block that is marked as ours."""
    return re.sub(rf"{BEGIN}\n.*?{END}\n", "", text, flags=re.DOTALL)


def apply_swap(context: Context, policy: str, swappiness: int | None) -> None:
    """Swap: ``keep`` leaves it; ``off`` ends it now and in fstab; ``zram`` replaces it by compressed memory."""
    if context.host.in_container():
        if policy != "keep":
            context.notes.append("swap belongs to the machine around this container")
        return
    if swappiness is not None:
        context.write(SWAPPINESS_FILE, f"{HEADER}vm.swappiness = {swappiness}\n", then="swappiness")
    if policy == "zram":
        context.write(ZRAM_FILE, f"{HEADER}[zram0]\nzram-size = ram / 2\ncompression-algorithm = zstd\n")
    if policy in ("off", "zram"):
        _end_disk_swap(context)


def _end_disk_swap(context: Context) -> None:
    host = context.host
    fstab = host.read("/etc/fstab")
    quiet = re.sub(r"^(?!#)(\S+\s+\S+\s+swap\s)", r"#skerry# \1", fstab, flags=re.MULTILINE)
    if quiet != fstab:
        context.write("/etc/fstab", quiet)
    active = [line.split()[0] for line in host.read("/proc/swaps").splitlines()[1:] if "zram" not in line]
    for device in active:
        context.change(f"swap on {device} ended")
        if not context.check:
            code, _out, error = host.run("swapoff", device, timeout=120)
            if code:
                raise TuningError(
                    f"HOST_TUNING_002 swap on {device} cannot be ended: {error.strip()} | remedy: free "
                    "memory, or set host_tuning_swap: keep"
                )
            swaps = context.journal.setdefault("swaps", [])
            if device not in swaps:
                swaps.append(device)


def apply_cmdline(context: Context, file: str, arguments: list[str]) -> bool:
    """Add arguments to the one line that a Raspberry Pi's firmware reads; True when a reboot is due.

    ``file`` '' looks for it, on such boards only. A reboot is due while the running kernel was not started with the
    line; after one reboot with the line in place and still no memory controller, there is no second: that is an error.
    """
    host = context.host
    if host.in_container():
        return False  # the kernel and its command line are the machine's, whatever board shows here
    if not file:
        if "Raspberry Pi" not in host.board():
            return False
        file = next((name for name in CMDLINE_FILES if host.exists(name)), "")
        if not file:
            raise TuningError(
                f"HOST_TUNING_003 no {' or '.join(CMDLINE_FILES)} on this {host.board()} | remedy: set "
                "host_tuning_cmdline_file"
            )
    text = host.read(file)
    line = " ".join(text.split("\n")).strip()
    missing = [argument for argument in arguments if argument not in line.split()]
    entry = context.journal.setdefault("cmdline", {"file": file, "added": [], "boot": ""})
    boot = host.read("/proc/sys/kernel/random/boot_id").strip()
    if missing:
        entry["added"] = sorted({*entry["added"], *missing})
        entry["boot"] = boot
        context.write(file, " ".join([line, *missing]) + "\n")
    in_force = set(arguments) <= set(host.read("/proc/cmdline").split())
    if in_force and "memory" not in cgroup(host)["controllers"]:
        raise TuningError(
            "HOST_TUNING_004 the kernel was started with " + " ".join(arguments) + " and still has no memory controller"
            " | remedy: look for cgroup_disable=memory in the firmware's own arguments (cat /proc/cmdline) "
            "and update the firmware"
        )
    if in_force:
        return False
    if entry["boot"] and entry["boot"] != boot:
        raise TuningError(
            f"HOST_TUNING_005 the host has rebooted, and {file} was not used | remedy: set "
            "host_tuning_cmdline_file to the file that this"
            " board's firmware reads"
        )
    entry["boot"] = boot
    return True


def undo_cmdline(context: Context) -> bool:
    """Take our arguments out of the line again; True when that is a change (in force after the next reboot)."""
    entry = context.journal.pop("cmdline", None)
    if not entry or not entry["added"]:
        return False
    line = context.host.read(entry["file"]).strip()
    context.journal.get("files", {}).pop(entry["file"], None)
    changed = context.write(entry["file"], " ".join(word for word in line.split() if word not in entry["added"]) + "\n")
    context.journal.get("files", {}).pop(entry["file"], None)
    return changed


def undo_files(context: Context) -> None:
    """Put every file back; a file that others edit too only loses what is ours."""
    services = {MANAGER_FILE: "daemon-reload", JOURNALD_FILE: "systemd-journald", TIMESYNCD_FILE: "systemd-timesyncd"}
    for name in sorted(context.journal.get("files", {})):
        text = context.host.read(name, None)
        if name in services:
            context.later(services[name])
        if name == "/etc/fstab" and text is not None:
            context.write(name, text.replace("#skerry# ", ""))
        elif text is not None and BEGIN in text:
            context.write(name, without_block(text))
        else:
            context.forget(name)
    context.journal.pop("files", None)


def undo_swap(context: Context) -> None:
    """Switch on again what was switched off."""
    for device in context.journal.pop("swaps", []):
        context.change(f"swap on {device} on again")
        if not context.check:
            code, _out, error = context.host.run("swapon", device)
            if code:
                context.notes.append(f"swap on {device} cannot be switched on: {error.strip()}")


def _installed(context: Context, package: str) -> bool:
    if context.host.command("dpkg-query"):
        return "ok installed" in context.host.run("dpkg-query", "-W", "-f", "${Status}", package)[1]
    return context.host.run("rpm", "-q", package)[0] == 0


def note(context: Context, packages: list[str], services: list[str]) -> None:
    """Remember packages that are not installed yet and services that are not enabled yet: they are ours to take
    back."""
    for name in packages:
        known = context.journal.setdefault("packages", [])
        if name not in known and not _installed(context, name):
            known.append(name)
    for name in services:
        known = context.journal.setdefault("services", [])
        if name not in known and context.host.run("systemctl", "is-enabled", name)[1].strip() != "enabled":
            known.append(name)


def take_back(context: Context) -> dict[str, list[str]]:
    """Packages and services that are still there because of us; what is gone already is forgotten."""
    packages = [name for name in context.journal.get("packages", []) if _installed(context, name)]
    enabled = [
        name
        for name in context.journal.get("services", [])
        if context.host.run("systemctl", "is-enabled", name)[1].strip() == "enabled"
    ]
    for part, left in (("packages", packages), ("services", enabled)):
        if not left:
            context.journal.pop(part, None)
    return {"packages": packages, "services": enabled}


def finish(context: Context) -> None:
    """Tell the services what has changed; what fails stays pending and is an error."""
    commands = {
        "daemon-reload": ("systemctl", "daemon-reload"),
        "swappiness": ("sysctl", "-q", "-p", SWAPPINESS_FILE),
    }
    if context.check:
        return
    context.save()
    for what in list(context.journal.get("pending", [])):
        if not context.changes:
            context.change(f"{what}: done now, an earlier run ended before it")
        command = commands.get(what, ("systemctl", "try-restart", what))
        code, _out, error = context.host.run(*command, timeout=60)
        if code:
            raise TuningError(
                f"HOST_TUNING_006 {' '.join(command)}: {error.strip()} | remedy: see journalctl -u {what}, "
                "then run again"
            )
        context.journal["pending"].remove(what)
    if not context.journal.get("pending"):
        context.journal.pop("pending", None)
