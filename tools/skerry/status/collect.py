"""One status: the inventory's cluster and hosts, read at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skerry.errors import SkerryError
from skerry.status import components, kubeconfig
from skerry.status.api import Api, Outcome
from skerry.status.components import Component
from skerry.status.model import Cluster
from skerry.status.reads import read_cluster
from skerry.status.thresholds import Crossing, crossed
from skerry.targets.api import Target
from skerry.targets.look import Look, look_at


@dataclass(frozen=True)
class Wanted:
    """What to read.

    Attributes:
        kubeconfig: instead of the one that the role k3s fetched; ``cluster``: which of several.
        seconds: for each list of the API; ``host_seconds``: for each host; ``together``: for all hosts.
        hosts, api: read hosts, read the cluster.
    """

    targets: Sequence[Target]
    kubeconfig: Path | None = None
    cluster: str | None = None
    seconds: float = 10.0
    host_seconds: float = 10.0
    together: float = 30.0
    hosts: bool = True
    api: bool = True


@dataclass
class Status:
    """What was found. ``cluster`` is None where the inventory has none; ``looks`` is {} where hosts were not asked."""

    targets: Sequence[Target]
    cluster: Cluster | None
    looks: Mapping[str, Look]
    components: list[Component]
    crossings: list[Crossing]
    taken: float
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> list[Look]:
        """Hosts of which nothing is known."""
        return [look for look in self.looks.values() if look.fault is not None]

    @property
    def partial(self) -> list[Outcome]:
        """Reads of the API that brought less than there is; usage figures are a bonus and are not counted."""
        found = self.cluster.partial if self.cluster else []
        return [one for one in found if one.name not in ("metrics", "usage") or one.kind == "timeout"]

    @property
    def answered(self) -> bool:
        """Something answered: the API, or a host."""
        api = self.cluster is not None and self.cluster.error is None
        return api or any(look.fault is None for look in self.looks.values())

    @property
    def well(self) -> bool:
        """Everything was read, and nothing is wrong with it."""
        cluster = self.cluster
        if cluster and (cluster.error or any(node.ready != "True" or node.trouble for node in cluster.nodes.values())):
            return False
        ill = [pod for pod in cluster.pods if unwell(pod.phase, pod.ready, pod.containers)] if cluster else []
        return not (self.unknown or self.partial or self.crossings or ill) and all(one.well for one in self.components)


def unwell(phase: str, ready: int, containers: int) -> bool:
    """A pod that is neither done nor running with all its containers ready."""
    return phase != "Succeeded" and not (phase == "Running" and ready == containers)


def failed_cluster(name: str, path: Path, error: SkerryError) -> Cluster:
    """A cluster whose kubeconfig cannot be used."""
    outcome = Outcome("api", "failed", error=f"{error.code} {error.cause}", kind="kubeconfig")
    return Cluster(name, str(path), "", outcomes={"api": outcome}, error=outcome)


def open_cluster(wanted: Wanted, deep: bool) -> Cluster | None:
    """Read the inventory's cluster; None where there is none.

    Raises:
        SkerryError: STATUS_001, STATUS_002.
    """
    chosen = kubeconfig.choose(wanted.targets, wanted.kubeconfig, wanted.cluster)
    if chosen is None:
        return None
    name, path = chosen
    try:
        api = Api(kubeconfig.read(path))
    except SkerryError as error:
        return failed_cluster(name, path, error)
    return read_cluster(api, name, wanted.seconds, deep)


def collect(wanted: Wanted, limits: Mapping[str, float]) -> Status:
    """Read everything at once.

    Raises:
        SkerryError: STATUS_001, STATUS_002.
    """
    start, taken = time.monotonic(), time.time()
    if wanted.api:
        kubeconfig.choose(wanted.targets, wanted.kubeconfig, wanted.cluster)  # bad input is told before hosts are asked
    looks: dict[str, Look] = {}

    def hosts() -> None:
        looks.update(look_at(wanted.targets, {"deep": False}, wanted.host_seconds, wanted.together))

    thread = threading.Thread(target=hosts)
    if wanted.hosts and wanted.targets:
        thread.start()
    cluster = open_cluster(wanted, False) if wanted.api else None
    if thread.ident is not None:
        thread.join()
    found = (components.of_cluster(cluster) if cluster else []) + components.of_hosts(looks)
    crossings = crossed([cluster] if cluster else [], looks, limits)
    return Status(wanted.targets, cluster, looks, found, crossings, taken, time.monotonic() - start)
