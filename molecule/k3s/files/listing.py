"""Print what a host is, as far as k3s could change it: files, units, links, routes, mounts, packet filter, processes.

With a path it writes there instead, unless k3s is on the host already: an older listing then stays.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

#: Places that change by themselves, or by the test harness and package caches.
VOLATILE = re.compile(
    r"^/(?:proc|sys|dev|tmp|var/tmp|var/cache|var/log/journal|var/lib/systemd|var/lib/apt|var/lib/dpkg|var/lib/skerry|"
    r"run/(?:systemd|user|udev|sudo|log|lock|utmp|initctl|blkid|xtables\.lock)|home/[^/]+/\.ansible|root/\.ansible|"
    r"etc/ansible|run/(?:docker|containerd)|var/lib/(?:docker|containerd)|var/skerry)(?:/|$)"
)


def files() -> list[str]:
    """Every path of the host's own file systems."""
    found = []
    for folder, names, others in os.walk("/"):
        names[:] = [name for name in names if not VOLATILE.match(str(Path(folder, name)))]
        found += [str(Path(folder, name)) for name in [*names, *others]]
    # The roles share /etc/skerry; whichever leaves it empty takes it away, so it may be there before and not after.
    return sorted(
        path for path in found if not VOLATILE.match(path) and "__pycache__" not in path and path != "/etc/skerry"
    )


def lines(*command: str) -> list[str]:
    """A command's lines, without numbers that count packets, time or processes."""
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return []
    text = re.sub(
        r"\[\d+:\d+\]|^\d+: |@if\d+|(?m:^#.*$)|--(?:to-destination|sport|to-source) \S+", "", text, flags=re.MULTILINE
    )
    return sorted({line.strip() for line in text.splitlines() if line.strip()})


def rules(save: str) -> list[str]:
    """Chains and rules; a table that is empty says nothing."""
    return [line for line in lines(save) if line != "COMMIT" and line[0] != "*" and " ACCEPT" not in line]


def listing() -> dict[str, list[str]]:
    """The whole of it."""
    mounts = sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {
        "files": files(),
        "units": [line for line in lines("systemctl", "list-unit-files", "--no-legend") if "k3s" in line],
        "links": [re.sub(r" (?:qlen|link/).*", "", line).split(":")[0] for line in lines("ip", "-o", "link")],
        "routes": lines("ip", "route"),
        "mounts": [point for point in mounts if not VOLATILE.match(point)],
        "filter": rules("iptables-save") + rules("ip6tables-save"),
        "processes": [
            line for line in lines("ps", "-eo", "comm=") if re.search(r"k3s|containerd-shim|pause|flannel", line)
        ],
    }


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(json.dumps(listing(), indent=1))
    elif not Path("/etc/rancher/k3s").exists():
        Path(sys.argv[1]).write_text(json.dumps(listing(), indent=1))
