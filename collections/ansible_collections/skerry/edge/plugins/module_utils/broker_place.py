"""Where Kafka brokers sit and how much of the host they get: pure functions over what the API says of nodes.

Sources: Redpanda's documentation asks for 2 GiB per core and aborts below 1 GiB unless in developer mode; its chart
gives the broker 90 % of the container's memory. Runs on hosts with Python 3.8.
"""

from __future__ import annotations

import re

from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

UNABLE = "skerry.dev/broker"  # label of a node whose host cannot run a broker (k3s_ready sets it)
BROKER_PART = 0.9  # of the container's memory
CORE_MB = 2276  # container's memory for each core: 2 GiB for the broker
CORDON = "node.kubernetes.io/unschedulable"  # the taint of a cordoned node
LEAST_MB = 1024  # container's memory below which no broker starts usefully
STEP_MB = 64
FACTORS = {
    "": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}  # fmt: skip


def quantity(text):
    """A Kubernetes quantity as a number. Raises ValueError."""
    found = re.match(r"^([0-9.]+)(m|[kMGT]i?|Ki)?$", str(text))
    if not found:
        raise ValueError(f"{text!r} is no quantity")
    return float(found.group(1)) * FACTORS[found.group(2) or ""]


def tolerated(taint, tolerations):
    """Whether one of a pod's tolerations covers a taint."""
    for item in tolerations:
        if item.get("effect") not in (None, "", taint.get("effect")):
            continue
        if not item.get("key") and item.get("operator") == "Exists":
            return True
        if item.get("key") == taint["key"] and (
            item.get("operator") == "Exists" or item.get("value", "") == taint.get("value", "")
        ):
            return True
    return False


def obstacle(node, wishes):
    """Why a broker cannot sit on a node, '' when it can. ``wishes``: names, selector, architectures, tolerations."""
    labels, spec = node["metadata"].get("labels", {}), node.get("spec", {})
    machine = labels.get("kubernetes.io/arch") or node["status"].get("nodeInfo", {}).get("architecture", "")
    missing = [f"{key}={value}" for key, value in sorted(wishes["selector"].items()) if labels.get(key) != str(value)]
    taints = [
        taint["key"]
        for taint in spec.get("taints") or []
        if taint.get("effect") in ("NoSchedule", "NoExecute")
        and taint["key"] != CORDON
        and not tolerated(taint, wishes["tolerations"])
    ]
    tests = (
        (wishes["names"] and node["metadata"]["name"] not in wishes["names"], "is not among redpanda_hosts"),
        (missing, "lacks the label " + ", ".join(missing)),
        (machine not in wishes["architectures"], f"is {machine or 'of unknown architecture'}"),
        (labels.get(UNABLE) == "unable", "has a processor or kernel that Redpanda does not run on"),
        (taints, "has the taint " + ", ".join(taints)),
        (spec.get("unschedulable"), "is cordoned"),
    )
    return next((why for applies, why in tests if applies), "")


def size(node, limits):
    """{"cpu_milli", "memory_mb"} of a broker on this node, None where it is too small.

    ``limits``: percent of the node, memory_max_mb, cores_max; memory_mb and cores where they are given (0: derived).
    """
    allocatable = node["status"].get("allocatable") or node["status"].get("capacity") or {}
    have_mb = quantity(allocatable.get("memory", 0)) / (1 << 20)
    have_cpu = quantity(allocatable.get("cpu", 0))
    share = limits["percent"] / 100.0
    memory = limits["memory_mb"] or min(have_mb * share, limits["memory_max_mb"])
    if not limits["memory_mb"] and memory < LEAST_MB <= have_mb * 0.8:
        memory = LEAST_MB
    if memory < LEAST_MB or memory > have_mb:
        return None
    cpu = limits["cores"] or have_cpu * share
    if cpu >= 1 and not limits["cores"]:
        cpu = max(1, min(int(cpu), limits["cores_max"], int(memory) // CORE_MB))
    return {"cpu_milli": int(cpu * 1000), "memory_mb": int(memory) // STEP_MB * STEP_MB}


def developer_mode(memory_mb, cpu_milli):
    """Whether the start checks have to be relaxed: less than 1 GiB for each core."""
    return memory_mb * BROKER_PART / max(1, cpu_milli // 1000) < 1024


def address(node):
    """Where clients outside the cluster reach a node: its external address, else its internal one."""
    found = {item["type"]: item["address"] for item in reversed(node["status"].get("addresses", []))}
    return found.get("ExternalIP") or found.get("InternalIP") or node["metadata"]["name"]


def place(nodes, holders, count, wishes, limits):
    """The nodes of ``count`` brokers, in the order of their ordinals, and their common size.

    ``holders`` is {ordinal: name of the node that has the broker's data}. Nodes with data keep their broker; the others
    go to those with the most memory. Returns {"nodes", "addresses", "cpu_milli", "memory_mb", "developer_mode"}. Raises
    K3sError BROKER_001 (too few nodes), BROKER_002 (data on a node that may not carry a broker).
    """
    by_name = {node["metadata"]["name"]: node for node in nodes}
    obstacles = {name: obstacle(node, wishes) for name, node in by_name.items()}
    sizes = {name: size(by_name[name], limits) for name, why in obstacles.items() if not why}
    obstacles.update({name: "is too small" for name, found in sizes.items() if found is None})
    for ordinal, name in sorted(holders.items()):
        why = obstacles.get(name, "is not in the cluster any more") if ordinal < count else ""
        if why and why != "is cordoned":
            raise K3sError(
                "BROKER_002",
                f"the data of broker {ordinal} lie on node {name}, which {why}",
                "bring the node back, widen redpanda_hosts and redpanda_node_selector, or give the data up: delete the "
                "volume claim of that broker",
            )
    kept = [holders[ordinal] for ordinal in sorted(holders) if ordinal < count]
    free = sorted(
        (name for name, why in obstacles.items() if not why and name not in kept),
        key=lambda name: (-sizes[name]["memory_mb"], -sizes[name]["cpu_milli"], name),
    )
    chosen = (kept + free)[:count]
    if len(chosen) < count:
        reasons = "; ".join(f"{name} {why}" for name, why in sorted(obstacles.items()) if why)
        raise K3sError(
            "BROKER_001",
            f"{count} broker{'s' * (count > 1)} wanted, {len(chosen)} nodes can carry one: {reasons or 'no nodes'}",
            "give a node more memory (1280 MB at least), widen redpanda_hosts and redpanda_node_selector, or lower "
            "redpanda_brokers",
        )
    found = [sizes.get(name) or size(by_name[name], limits) for name in chosen]
    memory, cpu = min(item["memory_mb"] for item in found), min(item["cpu_milli"] for item in found)
    return {
        "nodes": chosen,
        "addresses": [address(by_name[name]) for name in chosen],
        "memory_mb": memory,
        "cpu_milli": cpu,
        "developer_mode": developer_mode(memory, cpu),
    }


def holders(claims, name):
    """{ordinal: node} of the volume claims of a release that a node was chosen for."""
    found = {}
    for claim in claims:
        ordinal = re.match(rf"^datadir-{re.escape(name)}-(\d+)$", claim["metadata"]["name"])
        node = (claim["metadata"].get("annotations") or {}).get("volume.kubernetes.io/selected-node")
        if ordinal and node:
            found[int(ordinal.group(1))] = node
    return found


def feature(version):
    """Number of a feature release (26.1 -> 78, 26.2 -> 79): Redpanda has three a year. None where it is none."""
    found = re.match(r"^v?(\d+)\.(\d+)\.", version)
    return int(found.group(1)) * 3 + int(found.group(2)) - 1 if found else None


def check_upgrade(running, wanted):
    """Raise K3sError BROKER_003 unless ``wanted`` is the same feature release as ``running`` or the next one."""
    before, after = feature(running), feature(wanted)
    if before is not None and after is not None and after - before not in (0, 1):
        what = "skips a feature release" if after > before else "goes back behind a feature release"
        raise K3sError(
            "BROKER_003",
            f"from Redpanda {running} to {wanted} {what}, which the data do not survive",
            "go through every feature release in turn (25.3, 26.1, 26.2): set redpanda_image_tag and redpanda_version",
        )


def check_storage(stateful_set, wanted_size, wanted_class):
    """Raise K3sError BROKER_004 when size or class of the volumes would change: a StatefulSet cannot."""
    for claim in stateful_set["spec"].get("volumeClaimTemplates") or []:
        spec = claim["spec"]
        have = spec["resources"]["requests"]["storage"]
        have_class = spec.get("storageClassName") or ""
        if claim["metadata"]["name"] == "datadir" and (
            quantity(have) != quantity(wanted_size) or (wanted_class and have_class != wanted_class)
        ):
            raise K3sError(
                "BROKER_004",
                f"the brokers' volumes are {have} of class {have_class or '(default)'}, wanted are {wanted_size} of "
                f"{wanted_class or '(default)'}; neither can be changed in place",
                "set redpanda_storage_size and redpanda_storage_class back, or remove the brokers with their data and "
                "install them again",
            )
