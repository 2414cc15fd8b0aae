"""What this machine has and its hosts inherit: capabilities, name servers, proxies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from skerry.errors import Exit, SkerryError

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
