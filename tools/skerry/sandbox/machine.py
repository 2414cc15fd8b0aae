"""What this machine has and its hosts inherit: capabilities, name servers, proxies; kernel settings to put back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from skerry.errors import Exit, SkerryError
from skerry.sandbox.engine import RUN

#: Linux capabilities in the order of their bits (include/uapi/linux/capability.h).
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
# fmt: on
SYSCTLS = RUN / "sysctls.json"
#: Counters and one-way switches: nothing to put back.
_VOLATILE = re.compile(
    r"kernel/(random/|ns_last_pid|hostname|domainname|pty/nr|perf_event|sched_domain|osrelease|version|tainted|"
    r"cap_last_cap|modules_disabled|kexec_load_disabled|usermodehelper/)|fs/(dentry-state|file-nr|inode-|quota/|binfmt_misc/|"
    r"mqueue/|aio-nr)|vm/(stat_refresh|drop_caches|compact_memory|nr_hugepages)"
)


def lacking_capabilities(status: str | None = None) -> list[str]:
    """Names of the capabilities that this machine's bounding set lacks (``status``: text of /proc/self/status)."""
    text = Path("/proc/self/status").read_text(encoding="ascii") if status is None else status
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", text, re.MULTILINE)
    mask = int(found[1], 16) if found else 0
    return [name for bit, name in enumerate(CAPABILITIES) if not mask >> bit & 1]


def name_servers() -> str:
    """A resolv.conf for hosts: this machine's, unless it names a resolver that only this machine reaches ('')."""
    for place in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        text = place.read_text(encoding="utf-8") if place.exists() else ""
        servers = re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE)
        if servers and not any(server.startswith("127.") or server == "::1" for server in servers):
            return text
    return ""


def apt_proxies() -> str:
    """apt settings for the proxies that this machine's apt or environment uses ('' for none).

    Raises:
        SkerryError: SANDBOX_025 where apt cannot read its own settings.
    """
    lines = []
    apt = shutil.which("apt-config")  # elsewhere the environment decides
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY") or ""
        if apt is not None:
            command = [apt, "shell", "PROXY", f"Acquire::{scheme}::Proxy"]
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
            if asked.returncode:
                raise SkerryError(
                    "SANDBOX_025",
                    f"apt-config fails on this machine, whose proxies the hosts would get: {asked.stderr.strip()}",
                    "correct what it names in /etc/apt",
                    Exit.PREREQUISITE,
                )
            found = re.search(r"PROXY='([^']*)'", asked.stdout)
            proxy = found[1] if found else proxy
        if proxy and proxy != "DIRECT":
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";\n')
    return "".join(lines)


def read_sysctls() -> dict[str, str]:
    """Settings under kernel, fs and vm that a host could change for the whole machine: path below /proc/sys -> text."""
    base, values = Path("/proc/sys"), {}
    for family in ("kernel", "fs", "vm"):
        for path in sorted((base / family).rglob("*")):
            name = str(path.relative_to(base))
            if (
                _VOLATILE.match(name)
                or not path.is_file()
                or not path.stat().st_mode & 0o200
                or not path.stat().st_mode & 0o400
            ):
                continue
            try:
                values[name] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):  # some refuse to be read: nothing to note
                continue
    return values


def note_sysctls() -> None:
    """Note the settings before the first sandbox changes any; only root can put them back, so only root notes them."""
    if os.geteuid() != 0 or SYSCTLS.exists():
        return
    RUN.mkdir(mode=0o755, exist_ok=True)
    beside = SYSCTLS.with_suffix(".new")
    beside.write_text(json.dumps(read_sysctls(), indent=1), encoding="utf-8")
    beside.rename(SYSCTLS)


def restore_sysctls() -> list[str]:
    """Put back what differs from the note and drop the note; ``name: now -> before`` for each, for people to read."""
    if not SYSCTLS.exists():
        return []
    before: dict[str, str] = json.loads(SYSCTLS.read_text(encoding="utf-8"))
    restored = []
    for name, now in read_sysctls().items():
        if name in before and before[name] != now:
            try:
                (Path("/proc/sys") / name).write_text(before[name], encoding="utf-8")
                restored.append(f"{name.replace('/', '.')}: {now.strip()} -> {before[name].strip()}")
            except OSError as error:
                restored.append(f"{name.replace('/', '.')}: stays {now.strip()} ({error.strerror})")
    SYSCTLS.unlink()
    return restored
