"""The controller's own notes: which hosts of an inventory were given which workload.

Hosts themselves are the truth; this is what is known of them while they cannot be asked.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
def changing(inventory: Sequence[str]) -> Iterator[Notes]:
    """The notes for a change; written when the block ends, one writer at a time."""
    place = path(inventory)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        notes = read(inventory)
        yield notes
        part = place.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(notes, indent=1, sort_keys=True), encoding="utf-8")
        part.replace(place)
