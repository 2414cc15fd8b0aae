"""A status as data: what ``skerry status --json`` prints."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from skerry.status.collect import Status, unwell
from skerry.status.model import Cluster, Node, Pod
from skerry.targets.look import Look

FORMAT = 1


def _node(one: Node) -> dict[str, Any]:
    return {
        "name": one.name, "ready": one.ready, "trouble": one.trouble, "roles": list(one.roles), "version": one.version,
        "arch": one.arch, "os": one.os, "region": one.region, "zone": one.zone, "host_type": one.host_type,
        "address": one.address, "unschedulable": one.unschedulable, "pods": one.pods, "max_pods": one.max_pods,
        "cpu": one.cpu, "cpu_requested": round(one.cpu_requested, 3), "cpu_used": one.cpu_used,
        "memory": one.memory, "memory_requested": one.memory_requested, "memory_used": one.memory_used,
        "disk_percent": one.disk_percent,
        "message": one.conditions["Ready"].message if one.ready != "True" and "Ready" in one.conditions else "",
    }  # fmt: skip


def _pod(one: Pod) -> dict[str, Any]:
    reasons = []
    if one.trouble:
        told = [found.message or found.reason for found in one.trouble.containers]
        reasons = [text for text in (one.trouble.scheduling, one.trouble.message, *told) if text]
    return {
        "namespace": one.namespace, "name": one.name, "node": one.node, "status": one.status,
        "ready": one.ready, "containers": one.containers, "restarts": one.restarts, "reasons": reasons,
    }  # fmt: skip


def _cluster(one: Cluster) -> dict[str, Any]:
    return {
        "name": one.name, "kubeconfig": one.source, "server": one.server, "version": one.version,
        "api": {**one.health, "error": one.error.error if one.error else ""},
        "reads": {name: {key: value for key, value in asdict(found).items() if key != "name"}
                  for name, found in sorted(one.outcomes.items())},
        "nodes": [_node(found) for found in one.nodes.values()],
        "pods": {"total": one.pod_count, "by_status": dict(one.phases), "by_namespace": dict(one.namespaces),
                 "unwell": [_pod(found) for found in one.pods if unwell(found.phase, found.ready, found.containers)]},
        "runtime_classes": [{"name": found.name, "handler": found.fields["handler"]}
                            for found in one.of("runtimeclasses")],
    }  # fmt: skip


def runtimes(look: Look) -> list[dict[str, Any]]:
    """WebAssembly and container runtimes of a host: what its roles proved, and containerd's handlers."""
    facts = look.part("basics").get("fact_file", {})
    section = facts.get("wasm_runtime") or {}
    found = [
        {"name": name, "version": one.get("version") or "", "proved": bool(one.get("proved")),
         "error": one.get("error") or "", "kind": "runtime"}
        for name, one in sorted((section.get("runtimes") or {}).items())
    ]  # fmt: skip
    known = {one["name"] for one in found}
    for name, one in sorted(look.part("handlers").items()):
        if name not in known and name != "runc":
            found.append({"name": name, "version": "", "proved": bool(one.get("starts")),
                          "error": "" if one.get("starts") else one.get("says", ""), "kind": "handler"})  # fmt: skip
    return found


def _host(look: Look) -> dict[str, Any]:
    basics, facts = look.part("basics"), look.part("basics").get("fact_file", {})
    return {
        "known": look.fault is None,
        "error": vars(look.fault) if look.fault else None,
        "address": str(look.target.variables.get("ansible_host") or look.name),
        "groups": list(look.target.groups), "os": basics.get("os"), "kernel": basics.get("kernel"),
        "arch": basics.get("arch"), "cpus": basics.get("cpus"), "load": basics.get("load"),
        "uptime": basics.get("uptime"), "memory": look.report.get("memory"), "disks": look.report.get("disks"),
        "clock_skew": look.skew, "k3s_role": look.report.get("k3s_role"),
        "versions": {name: section["version"] for name, section in facts.items()
                     if isinstance(section, dict) and section.get("version")},
        "units": {name: unit.get("ActiveState") for name, unit in look.part("units").items()},
        "runtimes": runtimes(look), "missing": look.report.get("missing") or {}, "seconds": round(look.seconds, 3),
    }  # fmt: skip


def document(status: Status) -> dict[str, Any]:
    """The whole status. Sizes are bytes, times seconds, shares percent."""
    return {
        "format": FORMAT,
        "taken": datetime.fromtimestamp(status.taken, UTC).isoformat(timespec="seconds"),
        "seconds": round(status.seconds, 3),
        "well": status.well,
        "partial": [one.name for one in status.partial] + [f"host {one.name}" for one in status.unknown],
        "cluster": _cluster(status.cluster) if status.cluster else None,
        "components": [{**asdict(one), "well": one.well} for one in status.components],
        "hosts": {name: _host(look) for name, look in status.looks.items()},
        "thresholds": [asdict(one) for one in status.crossings],
    }
