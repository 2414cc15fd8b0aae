"""All that the rules may look at, and the questions that several of them ask."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from skerry.status.kubeconfig import setting
from skerry.status.model import Cluster, Node, Pod, Thing, Workload
from skerry.targets.api import Target
from skerry.targets.look import Look

#: Codes of findings about a workload as a whole, by ``namespace/name``.
OF_WORKLOADS = ("BROKER_201", "BROKER_202", "STORAGE_210", "CLUSTER_243")
SERVERS, AGENTS = "skerry_servers", "skerry_agents"


@dataclass(frozen=True)
class Facts:
    """One pass over an inventory.

    Attributes:
        inventory: as it was given with ``-i``, for the commands that are shown.
        cluster: read with ``deep``; None where the inventory has none, or it was not asked.
        looks: every host of the inventory that was asked, by name.
        kubeconfig: what the controller's file says: ``path``, ``exists``, ``server``, ``not_before``, ``not_after``.
        now: seconds since 1970.
    """

    inventory: Sequence[str]
    targets: Sequence[Target]
    cluster: Cluster | None
    looks: Mapping[str, Look]
    kubeconfig: Mapping[str, Any] = field(default_factory=dict)
    now: float = 0.0

    # -- commands that confirm

    def on(self, host: str, command: str) -> str:
        """A command line that runs ``command`` as root on a host."""
        sources = " ".join(f"-i {shlex.quote(one)}" for one in self.inventory)
        return f"ansible {host} {sources} -b -m ansible.builtin.command -a {shlex.quote(command)}"

    def kubectl(self, words: str) -> str:
        """A command line of kubectl with the kubeconfig in use."""
        path = str(self.kubeconfig.get("path") or "")
        return f"kubectl --kubeconfig {shlex.quote(path)} {words}" if path else f"kubectl {words}"

    # -- hosts

    def known(self) -> Iterator[Look]:
        """Hosts that answered."""
        return (look for look in self.looks.values() if look.fault is None)

    def members(self, group: str) -> list[Look]:
        """Hosts of a group, known or not."""
        return [look for look in self.looks.values() if group in look.target.groups]

    def node_of(self, look: Look) -> str:
        """The name of a host's node."""
        section = look.part("basics").get("fact_file", {}).get("k3s") or {}
        given = setting(look.target, "k3s_node_name", "")
        return str(section.get("node") or given or look.name.lower().replace("_", "-"))

    def host_of(self, node: str) -> Look | None:
        """The host of a node; None when it was not asked."""
        return next((look for look in self.looks.values() if self.node_of(look) == node), None)

    def unit(self, look: Look) -> tuple[str, dict[str, str]]:
        """(name, state) of a host's k3s unit; ("", {}) without."""
        for name in ("k3s", "k3s-agent"):
            found = look.part("units").get(name)
            if found:
                return name, found
        return "", {}

    def running(self, look: Look) -> bool:
        """Whether k3s runs on a host, as its systemd sees it."""
        return self.unit(look)[1].get("ActiveState") == "active"

    def api_alive(self) -> Look | None:
        """A server on which the API answers on the spot."""
        return next((look for look in self.known() if look.part("api").get("status") == 200), None)

    # -- the cluster

    @property
    def api(self) -> Cluster | None:
        """The cluster, when its API answered."""
        return self.cluster if self.cluster is not None and self.cluster.error is None else None

    def nodes(self) -> list[Node]:
        """Nodes, as far as they were read."""
        return list(self.api.nodes.values()) if self.api else []

    def node(self, look: Look) -> Node | None:
        """The node of a host."""
        return self.api.nodes.get(self.node_of(look)) if self.api else None

    def ill_pods(self) -> list[Pod]:
        """Pods that are kept because something is not well with them."""
        return [pod for pod in self.api.pods if pod.trouble is not None] if self.api else []

    def pending(self, event: Thing) -> Pod | None:
        """The pod that an event is about, while it is Pending; none for an event of an earlier pod of that name."""
        pod = self._pending.get((event.namespace, event.fields["about"]))
        return pod if pod and pod.trouble and event.fields["last"] >= pod.trouble.created else None

    @cached_property
    def _pending(self) -> dict[tuple[str, str], Pod]:
        return {(pod.namespace, pod.name): pod for pod in self.ill_pods() if pod.phase == "Pending"}

    @staticmethod
    def after(*pods: Pod) -> tuple[tuple[str, str], ...]:
        """What follows, by code and place, from pods that do not run: their workloads' own findings."""
        found: list[tuple[str, str]] = []
        for pod in pods:
            owner = (pod.trouble.owner if pod.trouble else "").rpartition("/")[2]
            for name in dict.fromkeys((owner, owner.rpartition("-")[0], pod.name.rpartition("-")[0])):
                where = f"{pod.namespace}/{name}"
                found += [(code, where) for code in OF_WORKLOADS]
            found += [("RUNTIME_209", f"{pod.namespace}/{pod.name}")]
            if pod.name.startswith("helm-install-"):
                found.append(("CLUSTER_244", pod.name.removeprefix("helm-install-").rpartition("-")[0]))
            if "provisioner" in pod.name or "csi-nfs" in pod.name:
                found.append(("STORAGE_209", "*"))
        return tuple(found)

    def after_node(self, node: str) -> tuple[tuple[str, str], ...]:
        """What follows, by code and place, from a node that is gone: its pods, and that they get no other place."""
        pods = [pod for pod in self.api.pods if pod.node == node] if self.api else []
        return (("CLUSTER_236", "*"), ("CLUSTER_237", "*"), *self.after(*pods))

    def things(self, kind: str) -> list[Thing]:
        """Other objects of a kind."""
        return self.api.of(kind) if self.api else []

    def workloads(self) -> list[Workload]:
        """Deployments, StatefulSets, DaemonSets."""
        return self.api.workloads if self.api else []

    def events(self, *reasons: str) -> list[Thing]:
        """Warnings of the last quarter of an hour for these reasons, latest first."""
        found = [
            one for one in self.things("events")
            if one.fields["reason"] in reasons and one.fields["last"] > self.now - 900
        ]
        return sorted(found, key=lambda one: -float(one.fields["last"]))

    def ready_endpoints(self, namespace: str, service: str) -> int | None:
        """Ready endpoints of a service; None when there is no such service or it is not known."""
        if not self.api or not (self.api.read("services") and self.api.read("endpoints")):
            return None
        if not any((one.namespace, one.name) == (namespace, service) for one in self.things("services")):
            return None
        return sum(
            int(one.fields["ready"]) for one in self.things("endpoints")
            if one.namespace == namespace and one.fields["service"] == service
        )
