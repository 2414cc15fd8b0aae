"""Kept ssh connections (ControlPersist) to hosts that go away."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def _connections(addresses: set[str]) -> set[str]:
    """Inodes of this machine's TCP connections to the ssh ports of ``addresses``."""
    found = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        remote, _, port = fields[2].partition(":")
        address = ".".join(str(byte) for byte in reversed(bytes.fromhex(remote)))
        if int(port, 16) == 22 and address in addresses:
            found.add(f"socket:[{fields[9]}]")
    return found


def close(addresses: set[str]) -> None:
    """End the ssh masters that ControlPersist keeps for these hosts: their control sockets would outlive the hosts."""
    wanted = _connections(addresses)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes().rstrip(b"\0 ")
            if not (title.startswith(b"ssh: ") and title.endswith(b"[mux]")):
                continue
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                os.kill(int(process.name), signal.SIGTERM)  # ssh removes its control socket
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
