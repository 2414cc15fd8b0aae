"""Facts of a small site that is well, to be spoilt one by one: a server, an agent, a few objects."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from skerry.doctor.facts import Facts
from skerry.status import reduce
from skerry.status.api import Outcome
from skerry.status.model import Cluster, Pod, Thing, Workload
from skerry.status.reads import OTHERS, WORKLOADS
from skerry.targets.api import Fault, Target
from skerry.targets.look import Look

NOW = 1_800_000_000.0
DAY = 86400.0


def _report(role: str, unit: str, node: str) -> dict[str, Any]:
    return {
        "k3s_role": role,
        "basics": {
            "fact_file": {
                "k3s": {"node": node, "runtime_classes": ["crun-wasm"]},
                "docker": {"version": "26"},
                "wasm_runtime": {"handlers": {"crun-wasm": {}}},
            }
        },
        "memory": {"total": 2 << 30, "available": 1 << 30},
        "disks": [
            {
                "path": "/",
                "type": "ext4",
                "size": 10**10,
                "free": 5 * 10**9,
                "used_percent": 50.0,
                "inodes": 1000,
                "inodes_free": 900,
                "read_only": False,
            }
        ],
        "clock": {"synchronised": True},
        "units": {
            unit: {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NRestarts": "0"},
            "docker": {"ActiveState": "active", "UnitFileState": "enabled"},
        },
        "docker": {
            "answers": True,
            "runtimes": [{"name": "crun", "path": "/usr/bin/crun", "starts": True, "says": ""}],
        },
        "certificates": [{"path": "/x/client.crt", "not_before": NOW - DAY, "not_after": NOW + 300 * DAY}],
        "handlers": {
            "runc": {"type": "io.containerd.runc.v2", "program": "builtin", "starts": True, "says": ""},
            "crun-wasm": {"type": "io.containerd.runc.v2", "program": "/usr/bin/crun", "starts": True, "says": ""},
        },
        "programs": {"wasmedge": {"path": "/usr/bin/wasmedge", "starts": True, "says": "0.14.1"}},
        "journals": {unit: ""},
        "listeners": {"6443": "k3s-server (pid 7)"} if role == "server" else {"6444": "k3s-agent (pid 8)"},
        "resolvers": {"file": "/etc/resolv.conf", "servers": {"10.0.0.53": "answers"}},
        "nfs": {"helper": True, "kernel": True, "mounts": [], "stuck": 0},
        "binary": {"starts": True, "says": "k3s version v1.35.0+k3s3"},
        "kubelet": {"status": 200, "says": "ok"},
        "containerd": {"answers": True, "error": ""},
        "packet_filter": [],
        "missing": {},
    }


def look(name: str, group: str) -> Look:
    server = group == "skerry_servers"
    report = _report("server" if server else "agent", "k3s" if server else "k3s-agent", name)
    if server:
        report["api"] = {"status": 200, "failed": [], "error": ""}
    else:
        report["joining"] = {
            "url": "https://10.0.0.1:6443",
            "tcp": {"open": True, "error": ""},
            "ca_matches": True,
            "token_status": 200,
            "error": "",
        }
    return Look(Target(name, {"ansible_host": "10.0.0.1" if server else "10.0.0.2"}, (group,)), report, None, 0.0)


def _node(name: str, version: str = "v1.35.0+k3s3") -> Any:
    return reduce.node(
        {
            "metadata": {"name": name, "labels": {}},
            "status": {
                "allocatable": {"cpu": "2", "memory": "2Gi", "pods": "110"},
                "nodeInfo": {"kubeletVersion": version},
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        }
    )


def cluster() -> Cluster:
    found = Cluster("site", "/k/site.yaml", "https://10.0.0.1:6443", version="v1.35.0+k3s3")
    found.nodes = {"server": _node("server"), "agent": _node("agent")}
    names = ["nodes", "pods", "health", "metrics", *(name for _, name in WORKLOADS), *(one.name for one in OTHERS)]
    found.outcomes = {name: Outcome(name) for name in names}
    found.workloads = [workload("Deployment", "kube-system", "coredns")]
    found.things = {
        "services": [thing("kube-system", "kube-dns")],
        "endpoints": [thing("kube-system", "kube-dns-1", service="kube-dns", ready=1)],
        "classes": [
            thing("", "local-path", provisioner="rancher.io/local-path", binding="WaitForFirstConsumer", default=True)
        ],
        "runtimeclasses": [thing("", "crun-wasm", handler="crun-wasm", selector={})],
    }
    return found


def workload(
    kind: str, namespace: str, name: str, ready: int = 1, desired: int = 1, failure: str = "", made: int = 1
) -> Workload:
    return Workload(kind, namespace, name, desired, ready, {}, ("x:1",), failure, made=made)


def thing(namespace: str, name: str, **fields: Any) -> Thing:
    return Thing(namespace, name, fields)


def pod(
    name: str = "web-1", namespace: str = "shop", node: str = "agent", phase: str = "Pending", **status: Any
) -> Pod:
    """A pod, reduced from the API's form; ``spec`` and ``owner`` are taken out of the status."""
    spec = {"containers": [{"name": "main"}], "nodeName": node, **status.pop("spec", {})}
    meta: dict[str, Any] = {"namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    if owner := status.pop("owner", None):
        meta["ownerReferences"] = [{"kind": owner.partition("/")[0], "name": owner.partition("/")[2]}]
    return reduce.pod({"metadata": meta, "spec": spec, "status": {"phase": phase, **status}})[0]


def waiting(reason: str, message: str = "", image: str = "registry.invalid/x:1", **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": "main",
            "image": image,
            "ready": False,
            "restartCount": more.pop("restarts", 0),
            "state": {"waiting": {"reason": reason, "message": message}},
            **more,
        }
    ]


def event(
    reason: str, message: str, about: str, namespace: str = "shop", host: str = "agent", kind: str = "Pod"
) -> Thing:
    return thing(
        namespace, "e", reason=reason, message=message, kind=kind, about=about, count=1, last=NOW - 5, host=host
    )


class Site:
    """What a case spoils: reports by host, the cluster, the kubeconfig."""

    def __init__(self) -> None:
        self.looks = {"server": look("server", "skerry_servers"), "agent": look("agent", "skerry_agents")}
        self.cluster: Cluster | None = cluster()
        self.kubeconfig: dict[str, Any] = {
            "path": "/k/site.yaml",
            "exists": True,
            "server": "https://10.0.0.1:6443",
            "not_before": NOW - DAY,
            "not_after": NOW + 300 * DAY,
        }

    def report(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self.looks[host].report  # type: ignore[assignment]
        return found

    def lose(self, host: str, code: str = "TARGET_003") -> None:
        old = self.looks[host]
        self.looks[host] = Look(old.target, {}, Fault(code, f"host {host} (10.0.0.9): it cannot be reached", "look"))

    def skew(self, host: str, seconds: float) -> None:
        old = self.looks[host]
        self.looks[host] = Look(old.target, old.report, None, seconds)

    def silent(self, kind: str, said: str = "no") -> None:
        """The API gives no answer."""
        if self.cluster is not None:
            self.cluster.error = Outcome("api", "failed", error=said, kind=kind)

    def stop(self, host: str, state: str = "inactive", journal: str = "") -> None:
        unit = "k3s" if host == "server" else "k3s-agent"
        report = self.report(host)
        report["units"][unit] |= {"ActiveState": state, "SubState": "dead"}
        report["journals"] = {unit: journal}
        if host == "server":
            report["api"] = {"status": 0, "error": "refused", "failed": []}

    def not_ready(
        self, node: str, status: str = "Unknown", message: str = "Kubelet stopped posting node status."
    ) -> None:
        if self.cluster is not None:
            condition = self.cluster.nodes[node].conditions["Ready"]
            condition.status, condition.message = status, message
            self.cluster.nodes[node].ready = status

    def facts(self) -> Facts:
        targets = [one.target for one in self.looks.values()]
        return Facts(("lab",), targets, self.cluster, self.looks, self.kubeconfig, NOW)


def spoilt(spoil: Callable[[Site], object]) -> Facts:
    """Facts after one thing was spoilt."""
    site = Site()
    spoil(site)
    return site.facts()


def without(facts: Facts, host: str, part: str) -> Facts:
    """Facts in which a part of one host's report did not come."""
    looks = copy.deepcopy(dict(facts.looks))
    report = {key: value for key, value in looks[host].report.items() if key != part}
    looks[host] = Look(looks[host].target, report, looks[host].fault, looks[host].skew)
    return Facts(facts.inventory, facts.targets, facts.cluster, looks, facts.kubeconfig, facts.now)
