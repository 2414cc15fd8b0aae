"""lxcfs: hosts see the memory and cores that they may use, in /proc, as real machines do.

Without it a host of 512 MB reads this machine's memory, and what sizes itself by memory (kubelet, sysctls) is wrong.
It needs root and FUSE; where it cannot be had, hosts see this machine's figures and nothing else changes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from skerry import debian
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.engine import RUN, machine_lock

VIEW = RUN / "lxcfs"
PID_FILE = RUN / "lxcfs.pid"
#: Debian's own service mounts it here; on a machine with systemd that one is used.
SYSTEM_VIEW = Path("/var/lib/lxcfs")


def _works(view: Path) -> bool:
    try:
        return (view / "proc" / "meminfo").read_text(encoding="ascii").startswith("MemTotal")
    except OSError:
        return False


def _start() -> bool:
    try:
        debian.ensure("host-limits")
    except debian.PackagesMissingError:
        return _works(SYSTEM_VIEW)
    if _works(SYSTEM_VIEW):  # installing it started its service
        return True
    command = shutil.which("lxcfs", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
    if command is None:
        return False
    subprocess.run(["umount", "--lazy", str(VIEW)], capture_output=True, check=False)  # of a daemon that died
    VIEW.mkdir(parents=True, exist_ok=True)
    with Path("/var/log/skerry-lxcfs.log").open("wb") as log:
        process = subprocess.Popen(
            [command, "--foreground", "--enable-cfs", "--pidfile", str(RUN / "lxcfs.own"), str(VIEW)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    PID_FILE.write_text(f"{process.pid}\n", encoding="ascii")
    deadline = time.monotonic() + 10
    while not _works(VIEW) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return _works(VIEW)


def ensure(docker: Docker, sandbox: str) -> str:
    """Folder to mount into hosts, or '' where this machine cannot have it.

    Hosts of ``sandbox`` that run on the mount of a daemon that died are stopped: they start again on the new one.
    """
    for view in (VIEW, SYSTEM_VIEW):
        if _works(view):
            return str(view)
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        return ""
    with machine_lock():
        if _works(VIEW):
            return str(VIEW)
        if not _start():
            return ""
    for container in docker.by_label("containers", f"dev.skerry.sandbox={sandbox}"):
        if container["State"] == "running" and any(
            m["Destination"] == "/var/skerry/lxcfs" for m in container["Mounts"]
        ):
            docker.call("POST", f"/containers/{container['Id']}/stop", {"t": "5"})
    return str(VIEW if _works(VIEW) else SYSTEM_VIEW)


def stop() -> None:
    """End the daemon that we started; for the last sandbox's end."""
    try:
        pid = int(PID_FILE.read_text(encoding="ascii"))
        ours = b"lxcfs" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if ours:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 5
    while _works(VIEW) and time.monotonic() < deadline:
        time.sleep(0.05)
    subprocess.run(["umount", "--lazy", str(VIEW)], capture_output=True, check=False)
    PID_FILE.unlink(missing_ok=True)
    VIEW.rmdir()
