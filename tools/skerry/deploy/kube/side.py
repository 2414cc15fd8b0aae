"""A cluster as one more side of a deployment: it is asked what hosts are asked, and answers in the same form."""

from __future__ import annotations

import base64
import re
import secrets as random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from skerry.deploy.desired import changes
from skerry.deploy.kube import Place, images, node_of, render, revisions, roll
from skerry.deploy.kube import lines as said
from skerry.deploy.kube import pods as seen
from skerry.deploy.kube.cluster import NAMESPACE, Cluster, Object, RefusedError
from skerry.deploy.kube.revisions import History
from skerry.deploy.kube.roll import Roll, outcome
from skerry.deploy.placement import HostView, NodeView
from skerry.errors import Exit, SkerryError
from skerry.status.reduce import quantity
from skerry.targets.api import Target

#: Seconds for bringing a module to the nodes that lack it.
_BRINGING = 300.0
_CLASS = "skerry.dev/runtime-"
#: Taints that come and go with a node's state; pods are placed all the same, when the node is well.
_PASSING = "node.kubernetes.io/"
Message = Mapping[str, Any]
Desired = dict[str, Any]
Answer = dict[str, Any]


def _node(item: Object) -> NodeView:
    labels = item["metadata"].get("labels") or {}
    taints = [one for one in item["spec"].get("taints") or []
              if one["effect"] != "PreferNoSchedule" and not one["key"].startswith(_PASSING)]
    return NodeView(
        item["metadata"]["name"], labels.get("kubernetes.io/hostname", item["metadata"]["name"]), labels,
        frozenset(key.removeprefix(_CLASS) for key in labels if key.startswith(_CLASS)),
        ", ".join(f"{one['key']}:{one['effect']}" for one in taints),
    )  # fmt: skip


class Side:
    """An open connection to a cluster. Its words are those of `skerry.deploy.exchange.Host`.

    Attributes:
        view: its nodes by the hosts' names, and the workloads that it has.
        sent: bytes of modules that were sent to its nodes.
    """

    def __init__(self, place: Place, seconds: float) -> None:
        """Connect and look.

        Raises:
            SkerryError: STATUS_003 (the kubeconfig), DEPLOY_080, DEPLOY_081 (the API).
        """
        self.place, self.sent = place, 0
        self.target = Target(place.side)
        self.cluster = Cluster(place.name, place.kubeconfig, seconds)
        self._blobs: Mapping[str, Path] = {}
        self._members = {node_of(target): target for target in place.members}
        self.hosts = {node: target.name for node, target in self._members.items()}
        self._look()
        nodes = {self.hosts[one["metadata"]["name"]]: _node(one) for one in self._nodes
                 if one["metadata"]["name"] in self.hosts}
        having = frozenset(name for name, one in self._histories.items() if one.number)
        self.view = HostView("", {}, having, nodes)

    def _look(self) -> None:
        self._nodes = self.cluster.nodes()
        self._namespace = self.cluster.has_namespace()
        self._histories = revisions.every(self.cluster) if self._namespace else {}
        self._looked = time.monotonic()

    def close(self) -> None:
        """End the connection."""
        self.cluster.close()

    def send_files(self, blobs: Mapping[str, Path], seconds: float = 0,
                   progress: Callable[[int], None] = lambda _: None) -> int:
        """Note where the files lie that `apply` may need; nodes are given what they lack then."""
        self._blobs = {**self._blobs, **blobs}
        return 0

    def ask(self, message: Message, seconds: float | None = None) -> Iterator[Answer]:
        """Do one thing; its answers as they come.

        Raises:
            SkerryError: DEPLOY_080 (no answer) and what the cluster refuses, as each method says.
        """
        return iter(getattr(self, "do_" + message["op"])(message))

    # -- what is there -------------------------------------------------------------------------------------------------

    @property
    def lost(self) -> frozenset[str]:
        """Nodes that are not Ready."""
        return roll.not_ready(self._nodes)

    def _seen(self) -> seen.Seen:
        cluster = self.cluster
        ours = {"app.kubernetes.io/managed-by": "skerry"}
        return seen.Seen(self.place.side, self._histories, cluster.every("Pod", **ours), cluster.every("Job", **ours),
                         cluster.every("CronJob", **ours), self.hosts, self.lost, self._memory())

    def _memory(self) -> dict[str, int]:
        """Pod -> bytes, where the cluster has a metrics server."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"
        try:
            found = self.cluster.ask("GET", path, "measure pods")["items"]
        except RefusedError as error:
            if error.status in (404, 503):  # none is installed, or it has only just started
                return {}
            raise
        return {one["metadata"]["name"]: int(sum(quantity(part["usage"]["memory"]) for part in one["containers"]))
                for one in found}

    def do_status(self, _message: Message) -> Iterator[Answer]:
        """Rows of ``skerry ps``; of pods only those on hosts that were selected."""
        if time.monotonic() - self._looked > 1:  # it is asked again and again (ps --watch)
            self._look()
        found = seen.rows(self._seen(), time.time()) if self._histories else []
        mine = set(self.hosts.values())
        yield {"workloads": [row for row in found if not row["node"] or row["host"] in mine]}

    def do_images(self, _message: Message) -> Iterator[Answer]:
        """Images of a registry are pulled by the nodes themselves."""
        return iter(())

    def do_logs(self, message: Message) -> Iterator[Answer]:
        """Lines of all pods of a workload."""
        return said.of(self.cluster, message, self.hosts)

    # -- from a submission ---------------------------------------------------------------------------------------------

    def do_plan(self, message: Message) -> Iterator[Answer]:
        """What `do_apply` would do; the server checks every object."""
        for desired in message["workloads"]:
            yield {"result": self._planned(desired)}
        for name in self._leaving(message):
            yield {"result": outcome(name, "remove")}

    def _planned(self, desired: Desired) -> Answer:
        found = roll.plan(self.cluster, self._histories.get(desired["name"]), desired, self._namespace)
        if found["action"] == "unchanged" and self._lacking(desired):
            return outcome(desired["name"], "repair")
        return found

    def _leaving(self, message: Message) -> list[str]:
        kept = {desired["name"] for desired in message["workloads"]}
        return [name for name, one in sorted(self._histories.items())
                if name not in kept and one.owner == message["owner"]
                and (message["prune"] or name in message["names"])]

    def do_apply(self, message: Message) -> Iterator[Answer]:
        """Create, change, repair and remove; the namespace first, where there is none."""
        if message["workloads"] and not self._namespace:
            self.cluster.make_namespace()
            self._namespace = True
        for desired in message["workloads"]:
            values = message["secrets"].get(desired["name"], {})
            yield from self._applied(desired, {name: base64.b64decode(text) for name, text in values.items()})
        for name in self._leaving(message):
            self._remove(name)
            yield {"result": outcome(name, "removed")}

    def _applied(self, desired: Desired, values: Mapping[str, bytes]) -> Iterator[Answer]:
        name = desired["name"]
        planned = self._planned(desired)
        if planned["action"] in ("unchanged", "failed"):
            yield {"result": planned}
            return
        history = self._histories.setdefault(name, History(name))
        former = history.current
        try:
            brought = self._brought(history, desired)
            fitting = roll.without(desired, self._node_names(brought.faults))
            if not fitting["pods"]["nodes"]:
                raise _nowhere(desired, self.place, brought)
            one = Roll(self.cluster, history, fitting, self.lost, self._contents(desired, values))
            done = self._rolled(one, desired, former, planned)
        except SkerryError as error:
            if error.exit_code == Exit.UNREACHABLE:
                raise
            yield {"result": outcome(name, "failed", error=error.as_dict(), kept=former is not None)}
            return
        yield {"result": done}
        for host, fault in brought.faults.items():
            yield {"result": outcome(name, "unknown", host=host, error=fault.as_dict())}

    def _rolled(self, one: Roll, desired: Desired, former: Desired | None, planned: Answer) -> Answer:
        """Roll out, and put back what was there when it does not come up."""
        if planned["action"] == "repair" and not roll.differs(self.cluster, one.desired):
            revisions.write(self.cluster, one.history, desired, one.history.number)  # what was brought
            return outcome(one.name, "unchanged")
        try:
            one.run()
        except SkerryError as error:
            if error.exit_code == Exit.UNREACHABLE:
                raise
            return outcome(one.name, "failed", error=error.as_dict(), kept=one.put_back(former))
        one.finish(desired)
        word = {"create": "created", "change": "changed", "repair": "repaired"}[planned["action"]]
        return outcome(one.name, word, **({"changes": planned["changes"]} if "changes" in planned else {}))

    def _contents(self, desired: Desired, values: Mapping[str, bytes]) -> list[Object]:
        files = {one["digest"]: self._blobs[one["digest"]].read_bytes() for one in desired["files"]}
        return render.contents(desired, files, values)

    # -- modules on nodes ----------------------------------------------------------------------------------------------

    def _node_names(self, hosts: Mapping[str, Any]) -> list[str]:
        return [self.view.nodes[host].hostname for host in hosts]

    def _lacking(self, desired: Desired) -> list[str]:
        """Hosts of a workload of which it is not known that they have its module."""
        if render.is_image(desired):
            return []
        wanted = {host: one for host, one in self.view.nodes.items() if one.hostname in desired["pods"]["nodes"]}
        items = {item["metadata"]["name"]: item for item in self._nodes}
        known = {host: images.told(items[one.name]) for host, one in wanted.items()}
        image = desired["pods"]["image"]
        history = self._histories.get(desired["name"])
        given = history.given(image) if history else set()
        # What a lost node said last may be older than what it was given.
        sure = {host for host in given & set(wanted) if (history and history.fresh) or wanted[host].name in self.lost}
        return [host for host in images.lacking(image, wanted, known) if host not in sure]

    def _brought(self, history: History, desired: Desired) -> images.Brought:
        """Give the module to hosts that lack it."""
        lacking = set(self._lacking(desired))
        if not lacking:
            return images.Brought()
        image = desired["pods"]["image"]
        targets = [target for target in self._members.values() if target.name in lacking]
        path = self._blobs.get(desired["module"]["digest"])
        found = images.give(image, render.file_name(desired), path, targets, _BRINGING)
        self.sent += found.sent
        history.note_brought(image, found.there | history.given(image))
        return found

    # -- by name -------------------------------------------------------------------------------------------------------

    def _whole(self, name: str) -> None:
        """Refuse to touch pods of hosts that were not selected.

        Raises:
            SkerryError: DEPLOY_089.
        """
        current = self._histories[name].current if name in self._histories else None
        asked = {one.hostname for one in self.view.nodes.values()}
        if current and (others := sorted(set(current["pods"]["nodes"]) - asked)):
            raise SkerryError("DEPLOY_089", f"{name} in cluster {self.place.name} is also for {', '.join(others)}: a "
                              "cluster's pods are changed as a whole", "leave --on out", Exit.FAILED)

    def _remove(self, name: str) -> None:
        current = self._histories[name].current
        roll.take_away(self.cluster, name)
        roll.wait_gone(self.cluster, name, self.lost, 10 + (render.stop_seconds(current) if current else 0))

    def do_remove(self, message: Message) -> Iterator[Answer]:
        """Take workloads away, with their secrets and files."""
        for name in message["names"]:
            self._whole(name)
            there = name in self._histories
            if there:
                self._remove(name)
            yield {"result": outcome(name, "removed" if there else "absent")}

    def do_restart(self, message: Message) -> Iterator[Answer]:
        """Replace the pods of services, one by one."""
        for name in message["names"]:
            history = self._histories.get(name)
            if history is None or history.current is None:
                yield {"result": outcome(name, "absent")}
            elif history.current["kind"] != "service":
                yield {"result": outcome(name, "not a service")}
            else:
                self._whole(name)
                try:
                    Roll(self.cluster, history, history.current, self.lost).restart()
                except SkerryError as error:
                    if error.exit_code == Exit.UNREACHABLE:
                        raise
                    yield {"result": outcome(name, "failed", error=error.as_dict())}
                    continue
                yield {"result": outcome(name, "restarted")}

    def do_rollback(self, message: Message) -> Iterator[Answer]:
        """Bring a kept revision into force again; the one before the present one where none is named."""
        name, asked = message["name"], message["revision"]
        history = self._histories.get(name)
        if history is None or history.current is None:
            yield {"result": outcome(name, "absent")}
            return
        self._whole(name)
        present, number = history.current, history.find(asked)
        if number is None:
            kept = ", ".join(f"r{one}" for one in sorted(history.revisions))
            raise SkerryError("DEPLOY_088", f"{name} has no {'revision ' + asked if asked else 'former revision'} in "
                              f"cluster {self.place.name}", f"kept are {kept}", Exit.FAILED)
        desired = history.revisions[number]
        if desired["revision"] == present["revision"]:
            yield {"result": outcome(name, "unchanged")}
            return
        planned = outcome(name, "change", changes=changes(present, desired))
        fitting = roll.without(desired, self._node_names(self._brought(history, desired).faults))
        one = Roll(self.cluster, history, fitting, self.lost)
        done = self._rolled(one, desired, present, planned)
        yield {"result": {**done, "action": "rolled back"} if done["action"] == "changed" else done}

    def do_run(self, message: Message) -> Iterator[Answer]:
        """Run a job or a schedule once more, now.

        Raises:
            SkerryError: DEPLOY_090 while a run is under way.
        """
        name = message["name"]
        history = self._histories.get(name)
        current = history.current if history else None
        if current is None or current["kind"] not in ("job", "schedule"):
            yield {"result": outcome(name, "absent")}
            return
        if any((one.get("status") or {}).get("active") for one in self.cluster.every("Job", **roll.mine(name))):
            raise SkerryError("DEPLOY_090", f"{name} runs already in cluster {self.place.name}", "wait for its end",
                              Exit.FAILED)
        made = self.cluster.create(render.job(current, random.token_hex(4)))
        yield {"result": outcome(name, "started", invocation=made["metadata"]["name"])}


def _nowhere(desired: Desired, place: Place, brought: images.Brought) -> SkerryError:
    said_of = "; ".join(f"{host}: {re.sub(' +', ' ', fault.cause)}" for host, fault in sorted(brought.faults.items()))
    return SkerryError("DEPLOY_086", f"{desired['name']}: its module could not be brought to any node of cluster "
                       f"{place.name} ({said_of})", "look at these hosts' logins; skerry doctor helps", Exit.FAILED)
