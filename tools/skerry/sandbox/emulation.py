"""Programs of other architectures on this machine: qemu's user mode through the kernel's binfmt_misc."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from skerry import debian
from skerry.errors import Exit, SkerryError
from skerry.sandbox.engine import RUN

BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: Debian's names of architectures -> the kernel's of machines, as qemu's handlers are called.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_MOUNTED_BY_US = RUN / "binfmt-mounted"


def native(arch: str) -> bool:
    """Whether this machine's processor runs ``arch`` itself."""
    return platform.machine() == MACHINES[arch]


def _handler(arch: str) -> str:
    """The kernel's handler for ``arch``, as text; '' where there is none."""
    try:
        return (BINFMT / f"qemu-{MACHINES[arch]}").read_text(encoding="ascii")
    except OSError:
        return ""


def works(arch: str) -> bool:
    """Whether programs of ``arch`` start here, also in containers (the handler's flag F: qemu is opened beforehand)."""
    text = _handler(arch)
    return native(arch) or (
        "enabled" in text
        and any(line.startswith("flags:") and "F" in line.partition(":")[2] for line in text.splitlines())
    )


def ensure(arch: str) -> None:
    """Make programs of ``arch`` start.

    Raises:
        SkerryError: SANDBOX_030, they do not, and why.
    """
    if works(arch):
        return
    if os.geteuid() != 0:
        raise SkerryError(
            "SANDBOX_030",
            f"this machine runs no {arch} programs, and this is not root",
            "as root: apt-get install qemu-user-static binfmt-support arch-test",
            Exit.PREREQUISITE,
        )
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], capture_output=True, check=False)
        RUN.mkdir(mode=0o755, exist_ok=True)
        _MOUNTED_BY_US.touch()
    try:
        debian.ensure("emulation")
    except debian.PackagesMissingError as error:
        raise SkerryError("SANDBOX_030", str(error), error.command, Exit.PREREQUISITE) from error
    if not works(arch):
        # Installed earlier, when binfmt_misc was not mounted: nobody has told the kernel.
        handler = f"qemu-{MACHINES[arch]}"
        for word in ("--import", "--enable"):
            subprocess.run(["update-binfmts", word, handler], capture_output=True, check=False)
    if not works(arch):
        raise SkerryError(
            "SANDBOX_030",
            f"the kernel does not start {arch} programs (handler: {_handler(arch) or 'none'})",
            f"check that {BINFMT} can be mounted and that update-binfmts --display knows qemu-{MACHINES[arch]}",
            Exit.PREREQUISITE,
        )


def stop() -> None:
    """Take binfmt_misc away again where `ensure` mounted it; for the last sandbox's end."""
    if _MOUNTED_BY_US.exists():
        subprocess.run(["umount", str(BINFMT)], capture_output=True, check=False)
        _MOUNTED_BY_US.unlink()
