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


def _handler(name: str) -> dict[str, str]:
    """One of the kernel's handlers: ``state`` (enabled, disabled), ``interpreter``, ``flags:``, ``magic``, ``mask``."""
    try:
        first, *lines = (BINFMT / name).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return {}
    return {"state": first, **{key: value for key, _, value in (line.partition(" ") for line in lines)}}


def _good(handler: dict[str, str]) -> bool:
    """Whether it serves hosts: flag F (qemu is opened beforehand, so containers need not hold it) and flag C (programs
    keep their own credentials: sudo works)."""
    return handler.get("state") == "enabled" and set("FC") <= set(handler["flags:"])


def works(arch: str) -> bool:
    """Whether hosts of ``arch`` run here."""
    machine = MACHINES[arch]
    return native(arch) or any(_good(_handler(f"{owner}-{machine}")) for owner in ("skerry", "qemu"))


def registration(name: str, handler: dict[str, str]) -> str:
    """What makes the kernel take ``handler`` under ``name``, with the flags that hosts need added.

    Format: Documentation/admin-guide/binfmt-misc.rst (``:name:type:offset:magic:mask:interpreter:flags``). The newest
    handler for a kind of file is asked first.
    """
    quoted = ["".join(f"\\x{byte:02x}" for byte in bytes.fromhex(handler[key])) for key in ("magic", "mask")]
    flags = "".join(dict.fromkeys(handler["flags:"] + "OCF"))
    return f":{name}:M:{handler['offset']}:{quoted[0]}:{quoted[1]}:{handler['interpreter']}:{flags}"


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
    theirs, ours = f"qemu-{MACHINES[arch]}", f"skerry-{MACHINES[arch]}"
    if not _handler(theirs):
        # Installed earlier, when binfmt_misc was not mounted: nobody has told the kernel.
        for word in ("--import", "--enable"):
            subprocess.run(["update-binfmts", word, theirs], capture_output=True, check=False)
    if not works(arch) and _handler(theirs):
        (BINFMT / "register").write_text(registration(ours, _handler(theirs)), encoding="ascii")
    if not works(arch):
        raise SkerryError(
            "SANDBOX_030",
            f"the kernel does not start {arch} programs (handler: {_handler(theirs) or 'none'})",
            f"check that {BINFMT} can be mounted and that update-binfmts --display knows {theirs}",
            Exit.PREREQUISITE,
        )


def stop() -> None:
    """Take our handlers away, and binfmt_misc where `ensure` mounted it; for the last sandbox's end."""
    for handler in BINFMT.glob("skerry-*"):
        handler.write_text("-1", encoding="ascii")
    if _MOUNTED_BY_US.exists():
        subprocess.run(["umount", str(BINFMT)], capture_output=True, check=False)
        _MOUNTED_BY_US.unlink()
