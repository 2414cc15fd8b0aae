"""Directories of the host that a workload may use: made, handed over, and never followed to where a module points."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import places
from .faults import HostError

Desired = dict[str, Any]
#: As many symbolic links on one path as the kernel follows.
_LINKS = 40


def opened(path: str) -> int:
    """A descriptor of a directory, opened step by step from the root; what is missing of it is made.

    Symbolic links are followed when root made them. Any other may be a module's, made in a directory that it may write
    to, so that at its next start it is given what the link leads to.

    Raises:
        HostError: HOST_040 for such a link; HOST_041 for what is no directory.
    """
    rest, links = [part for part in reversed(path.split("/")) if part], 0
    at = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    stack = [at]
    try:
        while rest:
            part = rest.pop()
            if part == "..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            try:
                about = os.stat(part, dir_fd=stack[-1], follow_symlinks=False)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=stack[-1])
                os.chmod(part, 0o755, dir_fd=stack[-1])  # whatever the unit's mask is: its user has to come through
                about = os.stat(part, dir_fd=stack[-1], follow_symlinks=False)
            if (about.st_mode & 0o170000) == 0o120000:
                links += 1
                if about.st_uid != 0 or links > _LINKS:
                    raise HostError("HOST_040", f"{path}: {part} is a symbolic link that root did not make",
                                    "a module may have made it: look at where it leads, then remove it")
                target = os.readlink(part, dir_fd=stack[-1])
                if target.startswith("/"):
                    while len(stack) > 1:
                        os.close(stack.pop())
                rest += [one for one in reversed(target.split("/")) if one and one != "."]
                continue
            stack.append(os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=stack[-1]))
        return os.dup(stack[-1])
    except OSError as error:
        raise HostError("HOST_041", f"{path}: {error.strerror}", "name a directory of the host") from error
    finally:
        for fd in stack:
            os.close(fd)


def _hand_over(top: int, former: int, uid: int) -> None:
    """Give what a former user left to the one that comes after it, as another rung has another user. A second name that
    a module made of somebody else's file is not its to give."""
    for _, folders, files, at in os.fwalk(dir_fd=top):
        for name in (*folders, *files):
            if os.stat(name, dir_fd=at, follow_symlinks=False).st_uid == former:
                os.chown(name, uid, uid, dir_fd=at, follow_symlinks=False)


def own(desired: Desired, user: Callable[[], int | None]) -> None:
    """Make the directories that a workload may use. Writable ones that were made here are handed to its user."""
    note = places.folder(desired["name"]) / "directories"
    made = note.read_text().splitlines() if note.exists() else []
    for entry in desired["directories"]:
        host = entry["host"]
        if not os.path.lexists(host):
            made.append(host)
            places.write(note, "\n".join(made) + "\n")
        fd = opened(host)
        try:
            uid = user() if host in made and not entry["read_only"] else None
            former = os.fstat(fd).st_uid
            if uid is not None and former != uid:
                os.fchown(fd, uid, uid)
                if former:  # what root put there stays root's
                    _hand_over(fd, former, uid)
        finally:
            os.close(fd)
