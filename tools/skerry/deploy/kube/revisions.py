"""Which revisions of a workload a cluster has: one Secret a workload, with the last five in the hosts' own format.

A Secret, since a revision holds fingerprints of secrets; one object, so that it changes as a whole; its resource
version lets one of two controllers win.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

from skerry.deploy.kube import render
from skerry.deploy.kube.cluster import NAMESPACE, Cluster, Object, RefusedError
from skerry.errors import Exit, SkerryError

#: How many revisions are kept, as on hosts; rollback goes to any of them.
KEPT = 5
#: Seconds for which a node's own list of images may lag behind what was just brought.
_LAG = 60.0
_CURRENT, _BROUGHT = "skerry.dev/current", "skerry.dev/brought"
_TYPE = "skerry.dev/revisions"
Desired = dict[str, Any]


@dataclass
class History:
    """What a cluster knows of one workload.

    Attributes:
        number: of the revision in force, 0 before there is one.
        revisions: those that are kept, by number.
        version: of the Secret, "" before there is one.
        brought: image, hosts and time of what was brought last.
    """

    name: str
    number: int = 0
    revisions: dict[int, Desired] = field(default_factory=dict)
    version: str = ""
    brought: dict[str, Any] = field(default_factory=dict)

    @property
    def current(self) -> Desired | None:
        """The revision in force."""
        return self.revisions.get(self.number)

    @property
    def owner(self) -> str:
        """Whose workload it is; "" when nothing is in force."""
        return str(self.current["owner"]) if self.current else ""

    def find(self, revision: str) -> int | None:
        """The number of a revision named by its number or by the beginning of its digest or its module's; the one
        before the present one when none is named."""
        for number in sorted(self.revisions, reverse=True):
            one = self.revisions[number]
            digests = one["revision"], one["module"]["digest"]
            if not revision:
                if number < self.number and one["revision"] != (self.current or {}).get("revision"):
                    return number
            elif revision in (str(number), f"r{number}") or (
                len(revision) >= 6 and any(digest.startswith(revision) for digest in digests)
            ):
                return number
        return None

    def given(self, image: str) -> set[str]:
        """Hosts that were brought an image when it was brought last."""
        return set(self.brought["hosts"]) if self.brought.get("image") == image else set()

    @property
    def fresh(self) -> bool:
        """Whether that was just now, so that nodes may not tell it yet."""
        return bool(time.time() - self.brought.get("at", 0) < _LAG)

    def note_brought(self, image: str, hosts: set[str]) -> None:
        """Remember what was brought; written with the next `write`."""
        self.brought = {"image": image, "hosts": sorted(hosts), "at": round(time.time())}


def _read(item: Object) -> History:
    meta = item["metadata"]
    notes = meta.get("annotations") or {}
    kept = {int(key[1:]): json.loads(base64.b64decode(value)) for key, value in (item.get("data") or {}).items()}
    return History(meta["labels"][render.INSTANCE], int(notes.get(_CURRENT) or 0), kept, meta["resourceVersion"],
                   json.loads(notes.get(_BROUGHT) or "{}"))


def every(cluster: Cluster) -> dict[str, History]:
    """All workloads of a cluster, by name."""
    found = [_read(item) for item in cluster.every("Secret", **{render.PART: "revisions"})]
    return {one.name: one for one in found}


def write(cluster: Cluster, history: History, desired: Desired, number: int) -> None:
    """Put a revision into force, and forget those that are too old.

    Raises:
        SkerryError: DEPLOY_085 when another controller changed the workload in between.
    """
    history.revisions[number] = desired
    history.number = number
    old = sorted(one for one in history.revisions if one != number)
    for one in old[: -(KEPT - 1)]:
        del history.revisions[one]
    meta: Object = {
        "name": f"{history.name}.revisions", "namespace": NAMESPACE,
        "labels": {**render.labels(desired), render.PART: "revisions"},
        "annotations": {_CURRENT: str(number), _BROUGHT: json.dumps(history.brought)},
    }  # fmt: skip
    if history.version:
        meta["resourceVersion"] = history.version
    data = {f"r{key}": base64.b64encode(json.dumps(one, sort_keys=True).encode()).decode()
            for key, one in sorted(history.revisions.items())}
    item = {"apiVersion": "v1", "kind": "Secret", "type": _TYPE, "metadata": meta, "data": data}
    try:
        done = cluster.replace(item) if history.version else cluster.create(item)
    except RefusedError as error:
        if error.status != 409:
            raise
        raise SkerryError("DEPLOY_085", f"{history.name} in cluster {cluster.name} was changed by somebody else at the "
                          "same time", "look at it with skerry ps, then deploy again", Exit.FAILED) from error
    history.version = done["metadata"]["resourceVersion"]
