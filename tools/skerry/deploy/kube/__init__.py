"""Workloads as pods: a cluster of the inventory is one more side that is asked what hosts are asked (`side.Side`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.status import kubeconfig
from skerry.targets.api import Target

#: What a cluster is called where hosts have names: no host can have a slash in its name.
_PREFIX = "cluster/"
#: No registry has this name: what is not on a node comes from the controller or not at all.
_REGISTRY = "skerry.local/modules"


@dataclass(frozen=True)
class Place:
    """A cluster of the inventory. ``members``: those of its hosts that were selected."""

    name: str
    kubeconfig: Path
    members: tuple[Target, ...]

    @property
    def side(self) -> str:
        """Its name beside those of hosts."""
        return side_of(self.name)


def side_of(cluster: str) -> str:
    """What a cluster is called beside hosts."""
    return _PREFIX + cluster


def cluster_of(target: Target) -> str:
    """The cluster that a host belongs to by the inventory; "" for a plain host, and where k3s was left out."""
    enabled = str(target.variables.get("k3s_enabled", True)).lower() not in ("false", "no")
    return kubeconfig.setting(target, "k3s_cluster_name", "skerry") if kubeconfig.members([target]) and enabled else ""


def node_of(target: Target) -> str:
    """The name of a host's node (role k3s, k3s_node_name)."""
    return kubeconfig.setting(target, "k3s_node_name", target.name.lower().replace("_", "-"))


def places(targets: Sequence[Target]) -> list[Place]:
    """The clusters of these hosts whose kubeconfig is here (playbooks/cluster.yml fetches it)."""
    found = []
    members = [one for one in targets if cluster_of(one)]
    for name, path in kubeconfig.of_inventory(members).items():
        if path.exists():
            found.append(Place(name, path, tuple(one for one in members if cluster_of(one) == name)))
    return found


def image_of(name: str, digest: str) -> str:
    """What the image of a module is called on nodes: its content is told by the tag."""
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "module"
    return f"{_REGISTRY}/{short}:{digest}"
