"""Docker Engine: used when it runs; otherwise, as root, installed from Debian's packages and started."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skerry import debian
from skerry.errors import Exit, SkerryError
from skerry.sandbox.docker_api import Docker, engine_log

#: State about this machine (not this checkout): the daemon that we started, kernel settings to put back. Gone after a
#: restart of the machine, and so is everything that it describes.
RUN = Path("/run/skerry")
PID_FILE = RUN / "dockerd.pid"
START_SECONDS = 60.0


@contextmanager
def machine_lock() -> Iterator[None]:
    """Serialises what two commands must not do to this machine at once (start the engine, import an image)."""
    place = RUN if os.geteuid() == 0 else Path(f"/tmp/skerry-{os.geteuid()}")
    place.mkdir(mode=0o755, exist_ok=True)
    with (place / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _not_root(reason: str) -> SkerryError:
    return SkerryError(
        "SANDBOX_002",
        f"Docker Engine does not run and cannot be started: {reason}",
        "start it (sudo systemctl start docker), or install it: sudo apt-get install docker.io mmdebstrap; "
        "or run this command as root, which does both; without either: skerry demo --local",
        Exit.PREREQUISITE,
    )


def answers(docker: Docker) -> bool:
    """Whether the engine runs and this user may use it.

    Raises:
        SkerryError: SANDBOX_003, it is there and this user may not use it.
    """
    try:
        return docker.ping()
    except PermissionError as error:
        raise SkerryError(
            "SANDBOX_003",
            f"this user may not talk to Docker Engine at {docker.path}",
            "run as root, or join the group: sudo adduser $USER docker (then log in again)",
            Exit.PREREQUISITE,
        ) from error


def _start_daemon() -> subprocess.Popen[bytes] | None:
    """Start the engine: through systemd where that is PID 1, else in the background (its init script fails there)."""
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], check=False)
        return None
    daemon = shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if daemon is None:
        raise _not_root("dockerd is not installed")
    with engine_log().open("ab") as log:
        process = subprocess.Popen(
            [daemon], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    PID_FILE.write_text(f"{process.pid}\n", encoding="ascii")
    return process


def ensure() -> bool:
    """Make sure that the engine answers; True when it had to be started.

    Raises:
        SkerryError: SANDBOX_002 (not there, not root), SANDBOX_003 (no right to use it), SANDBOX_005 (does not start).
    """
    docker = Docker()
    if answers(docker):
        return False
    if os.geteuid() != 0:
        raise _not_root("this is not root")
    with machine_lock():
        if answers(docker):  # another command started it meanwhile
            return False
        try:
            debian.ensure("sandbox")
        except debian.PackagesMissingError as error:
            raise SkerryError("SANDBOX_002", str(error), error.command, Exit.PREREQUISITE) from error
        process = _start_daemon()
        deadline = time.monotonic() + START_SECONDS
        while not answers(docker):
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = engine_log().read_text(errors="replace")[-600:] if engine_log().exists() else ""
                raise SkerryError(
                    "SANDBOX_005",
                    f"Docker Engine does not come up: {tail.strip()}",
                    f"read {engine_log()} (or journalctl -u docker)",
                    Exit.PREREQUISITE,
                )
            time.sleep(0.1)
    return True


def started_by_us() -> int | None:
    """The process id of the daemon that `ensure` started, while it lives."""
    try:
        pid = int(PID_FILE.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"dockerd" in command else None


def stop() -> bool:
    """Stop the daemon that we started; True when there was one. A daemon of somebody else's is left alone."""
    pid = started_by_us()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + START_SECONDS
    while started_by_us() is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    PID_FILE.unlink(missing_ok=True)
    return True
