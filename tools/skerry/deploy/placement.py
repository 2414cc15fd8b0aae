"""Which hosts get a workload, on which rung, with which runtime: pure functions of the inventory and of hosts' words.

Hosts are chosen in two steps: by what the inventory says of them (`candidates`), then by what they can run (`choose`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from skerry.deploy.kube import cluster_of, side_of
from skerry.deploy.model import Placement, Workload
from skerry.deploy.modules import Form
from skerry.errors import SkerryError
from skerry.targets.api import Target

#: Debian's names of architectures for the kernel's.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}


@dataclass(frozen=True)
class NodeView:
    """A node, as its cluster tells it. ``classes``: RuntimeClasses that were proved there; ``taints``: what keeps pods
    away for good."""

    name: str
    hostname: str
    labels: Mapping[str, str] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    taints: str = ""


@dataclass(frozen=True)
class HostView:
    """What a host, or a cluster, said of itself.

    Attributes:
        arch: of the userland, as the kernel names it (``x86_64``).
        facts: content of /etc/ansible/facts.d/skerry.fact.
        running: names of workloads that it has; a replica stays where it is.
        nodes: of a cluster, by the hosts' names.
    """

    arch: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    nodes: Mapping[str, NodeView] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """A workload's place. ``runtime``: name, version, command; of a container also what Docker is to be told.
    ``pods``: of a cluster how many (a number, or "each"), on which nodes, and which labels these must have."""

    host: str
    rung: str
    runtime: dict[str, Any]
    why: str
    pods: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Passed:
    """A host that was passed over, and why."""

    host: str
    reason: str


@dataclass
class Chosen:
    """Where a workload goes; ``short`` says what is missing when there are fewer places than replicas."""

    assignments: list[Assignment] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    short: str = ""


def zone_of(target: Target) -> str:
    """The failure domain: region and zone, else the host itself."""
    region, zone = target.labels.get("region", ""), target.labels.get("zone", "")
    return f"{region}/{zone}" if zone else target.name


def _unfit(wanted: Placement, target: Target) -> str:
    """Why the inventory keeps this host out; "" when it does not."""
    for key in ("host_type", "region", "zone"):
        asked, has = getattr(wanted, key), target.labels.get(key, "")
        if asked is not None and asked != has:
            return f"its {key} is {has or 'not set'}, not {asked}"
    labels = target.variables.get("k3s_node_labels") or {}
    for label, asked in wanted.labels.items():
        if str(labels.get(label, "")) != asked:
            return f"its label {label} is {labels.get(label, 'not set')}, not {asked}"
    if wanted.hosts and not {target.name, *target.groups} & set(wanted.hosts):
        return "placement.hosts does not name it"
    return ""


def candidates(workload: Workload, targets: Sequence[Target]) -> tuple[list[Target], list[Passed]]:
    """Hosts that the inventory allows, in its order, and those that it does not.

    Raises:
        SkerryError: DEPLOY_020 for a host or group that is not in the inventory.
    """
    known = {name for target in targets for name in (target.name, *target.groups)} | {"all"}
    if strangers := [name for name in workload.placement.hosts if name not in known]:
        raise SkerryError("DEPLOY_020", f"{workload.name}: the inventory has no host or group {', '.join(strangers)}",
                          "skerry inventory graph shows the names")
    fit: list[Target] = []
    passed: list[Passed] = []
    for target in targets:
        reason = "" if workload.placement.hosts == ["all"] else _unfit(workload.placement, target)
        if reason:
            passed.append(Passed(target.name, reason))
        else:
            fit.append(target)
    return fit, passed


# -- what a host can run ---------------------------------------------------------------------------------------------


def _proved(view: HostView, name: str) -> dict[str, Any] | None:
    entry = ((view.facts.get("wasm_runtime") or {}).get("runtimes") or {}).get(name)
    return entry if entry and entry.get("proved") else None


def _process(form: Form, workload: Workload, view: HostView) -> tuple[dict[str, Any] | None, str]:
    """The runtime whose command runs a module, or why there is none. Core modules listen through WasmEdge's sockets
    alone: wasmtime's command has none for them. WasmEdge takes variables on its command line only."""
    listens = bool(workload.ports)
    exposed = sorted(name for name, secret in workload.secrets.items() if secret.mount is None)
    names = ("wasmtime",) if form != "core" else ("wasmedge",) if listens else ("wasmtime", "wasmedge")
    for name in names:
        entry = _proved(view, name)
        if entry is None or not entry.get("command"):
            continue
        if name == "wasmedge" and exposed:
            return None, f"everybody would see the secret {exposed[0]} on WasmEdge's command line: mount it"
        if form == "http" and not entry.get("serves", True):
            return None, "its wasmtime was built without the server for wasi:http (wasmtime serve)"
        return {"name": name, "version": str(entry["version"]), "command": entry["command"]}, ""
    return None, _LACKS["listens" if form == "core" and listens else form]


#: Why a host has no command for a form of module.
_LACKS = {
    "http": "it has no server for wasi:http: wasmtime was not proved there (role wasm_runtime)",
    "component": "it has no runtime for components: wasmtime was not proved there (role wasm_runtime)",
    "listens": "core modules listen through WasmEdge, which was not proved there; components through wasmtime",
    "core": "no runtime's command was proved there (role wasm_runtime)",
}


def _container(form: Form, view: HostView) -> tuple[dict[str, Any] | None, str]:
    """What Docker runs a module or an image with, or why it does not."""
    docker = view.facts.get("docker") or {}
    if not docker.get("version"):
        return None, "it has no Docker (role docker)"
    if form == "image":
        return {"name": "docker", "version": str(docker["version"]), "command": ""}, ""
    crun = _proved(view, "crun")
    if not docker.get("wasm_runtime") or crun is None:
        said = (((view.facts.get("wasm_runtime") or {}).get("runtimes") or {}).get("crun") or {}).get("error")
        return None, f"its Docker has no runtime that was proved to run WebAssembly{': ' + said if said else ''}"
    if form != "core":
        return None, f"its Docker runs core modules alone: crun has {crun['engine']}, which has no components there"
    return {"name": crun["engine"], "version": str(crun.get("engine_version") or ""),
            "command": docker["wasm_runtime"], "annotations": docker.get("wasm_annotation") or {},
            "exit_codes": bool(crun.get("exit_code_kept"))}, ""


#: What ``auto`` says of its choices.
_WHY = {"process": "the least overhead of what this host has", "container": "Docker runs it: {}"}


def able(workload: Workload, form: Form, host: str, view: HostView) -> Assignment | Passed:
    """The best way of running a workload on a host, or why there is none."""
    arch = ARCHITECTURES.get(view.arch, view.arch)
    if workload.placement.arch not in (None, arch):
        return Passed(host, f"its architecture is {arch}, not {workload.placement.arch}")
    ways = {"process": lambda: _process(form, workload, view), "container": lambda: _container(form, view)}
    if form == "image":
        del ways["process"]
    reasons: list[str] = []
    for rung in ways if workload.rung == "auto" else [workload.rung]:
        runtime, reason = ways[rung]()
        if runtime is not None:
            why = "asked for" if workload.rung != "auto" else _WHY[rung].format(reasons[0] if reasons else "an image")
            return Assignment(host, rung, runtime, why)
        reasons.append(reason)
    return Passed(host, "; ".join(reasons))


# -- pods --------------------------------------------------------------------------------------------------------------

#: RuntimeClass -> what its handler runs, in the order in which they are taken.
_CLASSES: dict[str, tuple[Form, ...]] = {
    "wasmtime": ("core", "component"), "crun-wasm": ("core",), "wasmedge": ("core",), "wasmer": ("core",),
}  # fmt: skip
_REGION, _ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"


def _match(wanted: Placement) -> dict[str, str]:
    """Labels that a node must have, of what the workload file asks for."""
    asked = {_REGION: wanted.region, _ZONE: wanted.zone, "skerry.dev/host-type": wanted.host_type,
             "kubernetes.io/arch": wanted.arch, **wanted.labels}
    return {key: value for key, value in asked.items() if value is not None}


def _unsuited(workload: Workload, form: Form) -> str:
    """Why a workload cannot be pods at all."""
    if workload.directories:
        return "directories of a host are not for pods: the restricted standard refuses them"
    if workload.stdin is not None:
        return "a pod has no standard input"
    if workload.lasts and workload.restarts != "always":
        return "Kubernetes restarts the pods of a service always"
    return "no RuntimeClass was proved to serve wasi:http" if form == "http" else ""


def on_node(workload: Workload, form: Form, target: Target, views: Mapping[str, HostView]) -> Assignment | Passed:
    """Whether a host may run a workload as a pod: its cluster says what its node can."""
    name = cluster_of(target)
    view = views.get(side_of(name))
    reason = _unsuited(workload, form) if name else "it is no node of a cluster"
    if view is None:
        reason = reason or f"unknown: cluster {name} could not be asked, or its kubeconfig is not here"
        return Passed(target.name, reason)
    node = view.nodes.get(target.name)
    if reason or node is None:
        return Passed(target.name, reason or f"cluster {name} has no node of that name")
    classes = [one for one, forms in _CLASSES.items() if one in node.classes and form in forms]
    if reason := _unfit_node(workload, form, node, classes):
        return Passed(target.name, reason)
    return Assignment(target.name, "pod", {"classes": classes, "side": side_of(name), "node": node.hostname}, "")


def _unfit_node(workload: Workload, form: Form, node: NodeView, classes: Sequence[str]) -> str:
    """Why a node cannot run a workload; "" when it can."""
    if node.taints:
        return f"its node is tainted: {node.taints}"
    for key, value in _match(workload.placement).items():
        if node.labels.get(key) != value:
            return f"its node's label {key} is {node.labels.get(key, 'not set')}, not {value}"
    lacks = form != "image" and not classes
    return "no RuntimeClass of its node was proved to run this (role wasm_runtime)" if lacks else ""


def _clusters(workload: Workload, taken: Sequence[Assignment], nodes: Sequence[Assignment],
              why: Mapping[str, str]) -> tuple[list[Assignment], list[Passed]]:
    """One place a cluster, of all nodes that may run it: where its pods are among them is Kubernetes' matter.

    Args:
        taken: the nodes that count, one for each replica.
        nodes: all nodes that may run it.
        why: of each host.
    """
    found: list[Assignment] = []
    passed: list[Passed] = []
    for side in dict.fromkeys(one.runtime["side"] for one in taken):
        mine = [one for one in nodes if one.runtime["side"] == side]
        count = sum(one.runtime["side"] == side for one in taken)
        known = [name for name in _CLASSES if any(name in one.runtime["classes"] for one in mine)]
        # The class that most nodes have; pods of one workload have one.
        chosen = max(known, key=lambda name: sum(name in one.runtime["classes"] for one in mine), default="")
        fitting = [one for one in mine if not chosen or chosen in one.runtime["classes"]]
        passed += [Passed(one.host, f"its node has no RuntimeClass {chosen}, which the other nodes have")
                   for one in mine if one not in fitting]
        replicas = "each" if workload.placement.replicas == "each" else count
        names = [one.host for one in fitting]
        said = f"{why[names[0]]}: one on each of" if replicas == "each" else f"{why[names[0]]}: {count} on"
        pods = {"replicas": replicas, "nodes": sorted(one.runtime["node"] for one in fitting),
                "match": _match(workload.placement)}
        found.append(Assignment(side, "pod", {"name": chosen, "version": "", "command": ""},
                                f"{said} {', '.join(names)}", pods))
    return found, passed


# -- which hosts -------------------------------------------------------------------------------------------------------


def _place(workload: Workload, form: Form, target: Target, views: Mapping[str, HostView]) -> Assignment | Passed:
    """The best way of running a workload on a host, as a process, a container or a pod of its node."""
    if workload.rung == "pod":
        return on_node(workload, form, target, views)
    view = views.get(target.name)
    if view is None:
        return Passed(target.name, "unknown: it could not be asked")
    found = able(workload, form, target.name, view)
    if workload.rung != "auto" or isinstance(found, Assignment) or not cluster_of(target):
        return found
    node = on_node(workload, form, target, views)
    return node if isinstance(node, Assignment) else Passed(target.name, f"{found.reason}; {node.reason}")


def needs_cluster(workload: Workload, form: Form, target: Target, view: HostView | None) -> bool:
    """Whether only its cluster can say if a host can run a workload."""
    if workload.rung == "pod" or view is None or workload.rung != "auto":
        return workload.rung == "pod"
    return bool(cluster_of(target)) and isinstance(able(workload, form, target.name, view), Passed)


def _rank(name: str, host: str) -> bytes:
    """A fixed order of hosts that differs from workload to workload (rendezvous hashing), so that they spread."""
    return hashlib.sha256(f"{name}\0{host}".encode()).digest()


@dataclass(frozen=True)
class ByHand:
    """What a person said of a workload's hosts: those that it was moved to, those that it is to leave."""

    to: frozenset[str] = frozenset()
    away: frozenset[str] = frozenset()


#: Nobody said anything.
ANYWHERE = ByHand()


def spread(workload: Workload, wanted: int, able_hosts: Sequence[Assignment], zones: Mapping[str, str],
           running: Mapping[str, frozenset[str]], by_hand: ByHand = ANYWHERE) -> list[Assignment]:
    """So many of the hosts as are wanted: those that it was moved to by hand, those that have it already, then the
    emptiest zones."""
    taken: list[Assignment] = []
    load: dict[str, int] = {}
    rest = sorted(able_hosts, key=lambda one: _rank(workload.name, one.host))
    while len(taken) < wanted and rest:
        best = min(rest, key=lambda one: (one.host in by_hand.away, one.host not in by_hand.to,
                                          workload.name not in running.get(one.host, frozenset()),
                                          load.get(zones[one.host], 0), _rank(workload.name, one.host)))
        rest.remove(best)
        moved = best.host in by_hand.to
        taken.append(replace(best, why=f"moved here by hand; {best.why}") if moved else best)
        load[zones[best.host]] = load.get(zones[best.host], 0) + 1
    order = {one.host: at for at, one in enumerate(able_hosts)}
    return sorted(taken, key=lambda one: order[one.host])


def choose(workload: Workload, form: Form, fit: Sequence[Target], views: Mapping[str, HostView],
           held: frozenset[str] = frozenset(), by_hand: ByHand = ANYWHERE) -> Chosen:
    """Where a workload goes among hosts that the inventory allows.

    A host without a view (unreachable) is passed over as unknown: it keeps what it has, and the next submission catches
    it up. ``held``: hosts and clusters that were given it before; one of them that is unknown keeps its place, so that
    nothing is placed twice because a link is down.
    """
    chosen = Chosen()
    possible: list[Assignment] = []
    for target in fit:
        found = _place(workload, form, target, views)
        if isinstance(found, Assignment):
            possible.append(found)
        else:
            chosen.passed.append(found)
    zones = {target.name: zone_of(target) for target in fit}
    replicas = workload.placement.replicas
    keeping = sum(target.name in held and target.name not in views for target in fit)
    if any(side in held and side not in views for side in {side_of(cluster_of(target)) for target in fit}):
        keeping = 1 if replicas == "each" else replicas  # a cluster that cannot be asked may have all of them
    wanted = len(possible) if replicas == "each" else max(0, replicas - keeping)
    running = {host: view.running for host, view in views.items()}
    taken = spread(workload, wanted, possible, zones, running, by_hand)
    if workload.rung == "pod" and taken and replicas != "each":
        # A node may have several pods.
        taken = [taken[at % len(taken)] for at in range(wanted)]
    nodes = [one for one in possible if one.rung == "pod"]
    why = {one.host: "asked for" if workload.rung == "pod" else "what these hosts have" for one in nodes}
    clusters, passed = _clusters(workload, [one for one in taken if one.rung == "pod"], nodes, why)
    chosen.passed += passed
    chosen.assignments = [one for one in taken if one.rung != "pod"] + clusters
    placed = len(taken) + keeping
    if not placed:
        chosen.short = "no host can run it"
    elif replicas != "each" and placed < replicas:
        chosen.short = f"{placed} of {replicas} replicas have a place"
    return chosen
