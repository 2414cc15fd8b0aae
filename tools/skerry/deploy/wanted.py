"""What an inventory is to have, kept on the controller so that it can be brought about on another day.

Beside the notes (`skerry.deploy.record`) lies one more file for each inventory (0600): every workload as it was
submitted, resolved, with digests; the files themselves lie once in ``deployments/files`` (0600). Values of secrets are
not kept: they are read from their sources again when a host needs them, and compared with what was submitted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skerry.deploy import record
from skerry.deploy.desired import desired
from skerry.deploy.load import Module, Submitted, digest, fingerprint
from skerry.deploy.model import Workload
from skerry.deploy.placement import Assignment
from skerry.errors import Exit, SkerryError

FORMAT = 1
#: Submissions of a workload that are kept, newest first: as many as hosts keep revisions.
KEPT = 5
Document = dict[str, Any]


@dataclass
class Wanted:
    """What should be where.

    Attributes:
        submitted: owner -> workload -> its submissions, newest first.
        by_hand: owner -> workloads that were rolled back since: hosts' own revision is the one that is wanted.
        apart: owner -> workloads that were deployed to some hosts only (--on): each host's own is what is wanted there.
        pins: owner -> workload -> hosts that it was moved to by hand.
        leaving: owner -> workload -> hosts that could not be asked when it was taken away.
        dead: host -> when a person declared it dead.
    """

    submitted: dict[str, dict[str, list[Document]]] = field(default_factory=dict)
    by_hand: dict[str, list[str]] = field(default_factory=dict)
    apart: dict[str, list[str]] = field(default_factory=dict)
    pins: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    leaving: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)

    def take(self, one: Submitted) -> None:
        """A workload was submitted, and hosts have it."""
        document = _document(one)
        former = self.submitted.setdefault(one.owner, {}).get(one.name, [])
        kept = [old for old in former if old != document]
        self.submitted[one.owner][one.name] = [document, *kept][:KEPT]
        self._unmark(one.owner, one.name)
        self.leaving.get(one.owner, {}).pop(one.name, None)

    def drop(self, owner: str, name: str, left: Sequence[str]) -> None:
        """A workload was taken away; ``left``: hosts that could not be asked."""
        self.submitted.get(owner, {}).pop(name, None)
        self.pins.get(owner, {}).pop(name, None)
        self._unmark(owner, name)
        self.leaving.setdefault(owner, {})[name] = sorted(left)
        if not left:
            del self.leaving[owner][name]

    def _unmark(self, owner: str, name: str) -> None:
        for marked in (self.by_hand, self.apart):
            marked[owner] = [other for other in marked.get(owner, []) if other != name]

    def of_hosts(self, owner: str, name: str) -> bool:
        """Whether hosts know better than the newest submission."""
        return name in self.by_hand.get(owner, []) or name in self.apart.get(owner, [])

    def pinned(self, owner: str, name: str) -> frozenset[str]:
        """Hosts that a workload was moved to by hand."""
        return frozenset(self.pins.get(owner, {}).get(name, []))

    def digests(self) -> set[str]:
        """Files that any submission needs."""
        found: set[str] = set()
        for names in self.submitted.values():
            for documents in names.values():
                found |= {key for one in documents for key in _files(one)}
        return found


def _files(kept: Mapping[str, Any]) -> list[str]:
    return [key for key in (kept["module"]["digest"], *kept["files"].values(), kept["stdin"]) if key]


def path(inventory: Sequence[str]) -> Path:
    """Where it lies."""
    return record.path(inventory).with_suffix(".wanted.json")


def _folder() -> Path:
    return record.path([]).parent / "files"


def read(inventory: Sequence[str]) -> Wanted:
    """What is wanted; nothing where nothing was submitted from here.

    Raises:
        SkerryError: DEPLOY_100 for a file of a later Skerry.
    """
    place = path(inventory)
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Wanted()
    if found.pop("format") != FORMAT:
        raise SkerryError("DEPLOY_100", f"{place} is of another version of Skerry", "use that version", Exit.FAILED)
    return Wanted(**found)


@contextmanager
def changing(inventory: Sequence[str]) -> Iterator[Wanted]:
    """What is wanted, for a change; written when the block ends, and files that nothing needs any more are removed."""
    with record.locked(inventory):
        found = read(inventory)
        yield found
        record.write(path(inventory), {"format": FORMAT, **asdict(found)})
        _collect()


def _collect() -> None:
    used: set[str] = set()
    for place in _folder().parent.glob("*.wanted.json"):
        known = json.loads(place.read_text(encoding="utf-8"))
        known.pop("format")
        used |= Wanted(**known).digests()
    for entry in _folder().iterdir() if _folder().is_dir() else ():
        if entry.name not in used:
            entry.unlink()


def _document(one: Submitted) -> Document:
    """A submission as it is kept; its files are put by."""
    sources: dict[str, dict[str, Any]] = {}
    for name, source in one.workload.secrets.items():
        file = None if source.file is None else str((one.folder / source.file).resolve())
        sources[name] = {"file": file, "env": source.env, "fingerprint": one.fingerprint(name)}
    for key, source_path in one.blobs.items():
        _put(key, source_path)
    module = asdict(one.module)
    del module["path"]
    return {"workload": one.workload.model_dump(mode="json"), "module": module, "files": dict(one.files),
            "stdin": one.stdin, "secrets": sources}


def _put(key: str, source: Path) -> None:
    place = _folder() / key
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.parent.chmod(0o700)
    part = place.with_name(f".{key}.{os.getpid()}")
    try:
        part.touch(0o600)
        shutil.copyfile(source, part)
        if digest(part) == key:  # else it was changed after it was sent: hosts have it, this one is of no use
            part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def restore(owner: str, kept: Mapping[str, Any]) -> Submitted:
    """A kept submission, with those values of secrets that their sources still have."""
    workload = Workload.model_validate(kept["workload"])
    there = {key: _folder() / key for key in _files(kept)}
    blobs = {key: place for key, place in there.items() if place.exists()}
    secrets = {name: value for name, source in kept["secrets"].items()
               if (value := _value(source)) is not None and fingerprint(name, value) == source["fingerprint"]}
    module = Module(**kept["module"], path=blobs.get(kept["module"]["digest"]))
    known = {name: source["fingerprint"] for name, source in kept["secrets"].items()}
    return Submitted(workload, owner, module, kept["files"], kept["stdin"], blobs, secrets, known)


def _value(source: Mapping[str, Any]) -> bytes | None:
    if source["env"] is not None:
        return os.environb.get(source["env"].encode())
    with suppress(OSError):
        return Path(source["file"]).read_bytes().removesuffix(b"\n")
    return None


def in_force(owner: str, documents: Sequence[Document], own: Sequence[Mapping[str, Any]]) -> Submitted | None:
    """The submission that a host's own revision came from; None where none of those kept did.

    Args:
        own: what hosts say that they have of the workload.
    """
    for kept in documents:
        one = restore(owner, kept)
        for there in own:
            place = Assignment("", there["rung"], there["runtime"], "", there.get("pods"))
            if desired(one, place)["revision"] == there["revision"]:
                return one
    return None
