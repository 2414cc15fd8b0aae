"""What this host was told to have: one folder a workload, its last revisions, the name of the one in force."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import places

#: How many revisions a workload keeps; ``rollback`` goes to any of them.
KEPT = 5
Desired = dict[str, Any]


@contextmanager
def locked() -> Iterator[None]:
    """One change at a time on this host."""
    places.STATE.mkdir(parents=True, exist_ok=True)
    fd = os.open(places.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def names() -> list[str]:
    """Workloads that this host has."""
    if not places.WORKLOADS.is_dir():
        return []
    return sorted(entry.name for entry in places.WORKLOADS.iterdir() if (entry / "current").exists())


def current(name: str) -> Desired | None:
    """The revision in force; None when there is none."""
    return read(name, in_force(name))


def in_force(name: str) -> int:
    """The number of the revision in force; 0 when there is none."""
    try:
        return int((places.folder(name) / "current").read_text())
    except FileNotFoundError:
        return 0


def revisions(name: str) -> list[int]:
    """Numbers of the revisions that are kept, oldest first."""
    return sorted(int(entry.stem) for entry in (places.folder(name) / "revisions").glob("[0-9]*.json"))


def read(name: str, number: int) -> Desired | None:
    """A revision by its number."""
    try:
        found: Desired = json.loads((places.folder(name) / "revisions" / f"{number}.json").read_text())
    except FileNotFoundError:
        return None
    return found


def find(name: str, revision: str) -> int | None:
    """The number of a revision named by its number or by the beginning of its digest or its module's."""
    for number in reversed(revisions(name)):
        found = read(name, number)
        if found is None:
            continue
        module = found["module"]["digest"]
        if revision in (str(number), f"r{number}") or (
            len(revision) >= 6 and (found["revision"].startswith(revision) or module.startswith(revision))
        ):
            return number
    return None


def keep(desired: Desired) -> int:
    """Write a revision; its number. It is not in force before `enforce`."""
    name = desired["name"]
    known = revisions(name)
    if known and (read(name, known[-1]) or {}).get("revision") == desired["revision"]:
        return known[-1]
    number = (known[-1] if known else 0) + 1
    place = places.folder(name) / "revisions"
    place.mkdir(parents=True, exist_ok=True)
    os.chmod(place, 0o700)
    places.write(place / f"{number}.json", json.dumps(desired, indent=1, sort_keys=True), 0o600)
    return number


def enforce(name: str, number: int) -> None:
    """Make a revision the one in force, and forget those that are too old."""
    places.write(places.folder(name) / "current", str(number))
    for old in [one for one in revisions(name) if one != number][: -(KEPT - 1) or None]:
        (places.folder(name) / "revisions" / f"{old}.json").unlink()


def drop(name: str, number: int) -> None:
    """Forget a revision that never came into force."""
    if number != in_force(name):
        (places.folder(name) / "revisions" / f"{number}.json").unlink(missing_ok=True)


def forget(name: str) -> None:
    """Remove everything of a workload but its units."""
    (places.folder(name) / "current").unlink(missing_ok=True)
    shutil.rmtree(places.folder(name), ignore_errors=True)


def digests(desired: Desired) -> set[str]:
    """Digests of all files that a revision needs."""
    found = {entry["digest"] for entry in desired["files"]}
    if desired["module"]["form"] != "image":  # which Docker keeps
        found.add(desired["module"]["digest"])
    if desired["stdin"] is not None:
        found.add(desired["stdin"])
    return found


def _kept() -> Iterator[Desired]:
    for name in names():
        for number in revisions(name):
            kept = read(name, number)
            if kept is not None:
                yield kept


def used() -> set[str]:
    """Digests of all files that any kept revision of any workload needs."""
    return {digest for kept in _kept() for digest in digests(kept)}


def used_images() -> set[str]:
    """References of all images that any kept revision of any workload needs."""
    return {kept["module"]["name"] for kept in _kept() if kept["module"]["form"] == "image"}
