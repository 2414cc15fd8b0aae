"""What is kept of a cluster's objects. Times are seconds since 1970, sizes bytes, processor time cores."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from skerry.status.api import Outcome


@dataclass(slots=True)
class Condition:
    """A condition of a node: ``status`` is True, False or Unknown, as the API writes it."""

    status: str
    reason: str
    message: str
    since: float


@dataclass(slots=True)
class Node:
    """A node. ``trouble`` names conditions that should not be (MemoryPressure, ...); ``ready`` as the API writes it."""

    name: str
    ready: str
    conditions: dict[str, Condition]
    roles: tuple[str, ...]
    version: str
    os: str
    arch: str
    region: str
    zone: str
    host_type: str
    address: str
    unschedulable: bool
    taints: tuple[str, ...]
    labels: dict[str, str]
    created: float
    cpu: float
    memory: int
    max_pods: int
    pods: int = 0
    cpu_requested: float = 0.0
    memory_requested: int = 0
    cpu_used: float | None = None
    memory_used: int | None = None
    disk_percent: float | None = None

    @property
    def trouble(self) -> list[str]:
        return sorted(
            name for name, one in self.conditions.items()
            if name != "Ready" and one.status == "True" and name.endswith(("Pressure", "Unavailable"))
        )


@dataclass(slots=True)
class Container:
    """A container that is not as it should be."""

    name: str
    image: str
    state: str
    reason: str
    message: str
    exit_code: int | None
    restarts: int
    last_reason: str
    last_exit_code: int | None


@dataclass(slots=True)
class Trouble:
    """What is kept of a pod that is not well."""

    containers: tuple[Container, ...]
    scheduling: str
    message: str
    runtime_class: str
    claims: tuple[str, ...]
    owner: str
    selector: dict[str, str]
    created: float
    deleted: float


@dataclass(slots=True)
class Pod:
    """A pod; ``status`` is the word that kubectl shows."""

    namespace: str
    name: str
    node: str
    phase: str
    status: str
    ready: int
    containers: int
    restarts: int
    restarted: float
    trouble: Trouble | None


@dataclass(slots=True)
class Workload:
    """A Deployment, StatefulSet, DaemonSet.

    Attributes:
        failure: why the API server refuses its pods, in its own words; empty when it does not.
        created: when it was made, in seconds since 1970.
        made: pods that its controller has made, ready or not.
    """

    kind: str
    namespace: str
    name: str
    desired: int
    ready: int
    labels: dict[str, str]
    images: tuple[str, ...]
    failure: str
    created: float = 0.0
    made: int = 0

    @property
    def healthy(self) -> bool:
        return self.ready >= self.desired and not self.failure


@dataclass(slots=True)
class Thing:
    """Any other object: its name and what the rules read of it, reduced."""

    namespace: str
    name: str
    fields: dict[str, Any]


@dataclass
class Cluster:
    """All that was read of one cluster.

    Attributes:
        outcomes: what became of each read, by its name (``pods``, ``nodes``, ...).
        phases: pods by the word that kubectl shows.
        pods: those that are not well, and of kube-system and the platform's namespaces all.
        things: other objects by kind (``helmcharts``, ``claims``, ...).
        health: status and failed checks of the API server's own /readyz.
    """

    name: str
    source: str
    server: str
    version: str = ""
    health: dict[str, Any] = field(default_factory=dict)
    clock_skew: float | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    pod_count: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    namespaces: Counter[str] = field(default_factory=Counter)
    workloads: list[Workload] = field(default_factory=list)
    things: dict[str, list[Thing]] = field(default_factory=dict)
    error: Outcome | None = None
    seconds: float = 0.0

    def of(self, kind: str) -> list[Thing]:
        """Other objects of a kind."""
        return self.things.get(kind, [])

    def read(self, name: str) -> bool:
        """Whether a read brought all there is."""
        return name in self.outcomes and self.outcomes[name].whole

    @property
    def partial(self) -> list[Outcome]:
        """Reads that brought less than there is."""
        return [one for one in self.outcomes.values() if not one.whole]
