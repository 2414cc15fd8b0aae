"""The controller's own notes: which hosts of an inventory were given which workload.

Hosts themselves are the truth; this is what is known of them while they cannot be asked.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skerry import paths

#: owner -> workload -> the hosts that it was given to. Two owners may use one name, on different hosts.
Notes = dict[str, dict[str, list[str]]]


def path(inventory: Sequence[str]) -> Path:
    """Where the notes of an inventory lie."""
    key = "\0".join(str(Path(source).resolve()) for source in inventory)
    return paths.state() / "deployments" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def read(inventory: Sequence[str]) -> Notes:
    """The notes; {} where there are none."""
    try:
        found: Notes = json.loads(path(inventory).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


@contextmanager
def locked(inventory: Sequence[str]) -> Iterator[None]:
    """One writer of an inventory's notes at a time."""
    with _held(path(inventory).with_suffix(".lock")):
        yield


@contextmanager
def at_work(inventory: Sequence[str]) -> Iterator[None]:
    """One change of an inventory's workloads at a time, from this controller: a second one waits for the first."""
    with _held(path(inventory).with_suffix(".work"), "another change of this inventory is under way here; waiting"):
        yield


@contextmanager
def _held(place: Path, waiting: str = "") -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(place: Path, value: Any) -> None:
    """Write JSON for the owner's eyes alone, beside its place, and rename it there."""
    part = place.with_suffix(f".{os.getpid()}")
    part.touch(0o600)
    part.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")
    part.replace(place)


@contextmanager
def changing(inventory: Sequence[str]) -> Iterator[Notes]:
    """The notes for a change; written when the block ends."""
    with locked(inventory):
        notes = read(inventory)
        yield notes
        write(path(inventory), notes)
