"""One pass over an inventory for the rules: hosts and cluster at the same time, each part with its deadline."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from skerry.doctor import broker, cluster, hosts, k3s, runtime, storage
from skerry.doctor.facts import Facts
from skerry.doctor.findings import Finding, Rule, examine
from skerry.errors import SkerryError
from skerry.look.k3s import validity
from skerry.status import kubeconfig
from skerry.status.collect import Wanted, open_cluster
from skerry.targets.look import Look, look_at

RULES: tuple[Rule, ...] = (
    *hosts.RULES, *k3s.RULES, *runtime.RULES, *cluster.RULES, *storage.RULES, *broker.RULES,
)  # fmt: skip


def _kubeconfig(wanted: Wanted) -> dict[str, Any]:
    """What the controller's kubeconfig is: there, whose, until when."""
    chosen = kubeconfig.choose(wanted.targets, wanted.kubeconfig, wanted.cluster)
    if chosen is None:
        return {}
    found: dict[str, Any] = {"path": str(chosen[1]), "exists": chosen[1].exists()}
    try:
        access = kubeconfig.read(chosen[1])
    except SkerryError:
        return found  # reading the cluster says the same, with the reason
    found["server"] = access.server
    if times := validity(access.certificate.decode("utf-8", "replace")):
        found["not_before"], found["not_after"] = times
    return found


def _cluster_dns(wanted: Wanted) -> str:
    """The address of the cluster's DNS: the tenth of the service network."""
    for target in kubeconfig.members(wanted.targets):
        network = kubeconfig.setting(target, "k3s_service_cidr", "10.43.0.0/16")
        if found := re.match(r"(\d+\.\d+\.\d+)\.0/", network):
            return f"{found[1]}.10"
    return ""


def collect(inventory: Sequence[str], wanted: Wanted) -> Facts:
    """Facts for the rules.

    Raises:
        SkerryError: STATUS_001, STATUS_002.
    """
    file = _kubeconfig(wanted) if wanted.api else {}
    looks: dict[str, Look] = {}
    request = {"deep": True, "cluster_dns": _cluster_dns(wanted)}

    def look() -> None:
        looks.update(look_at(wanted.targets, request, wanted.host_seconds, wanted.together))

    thread = threading.Thread(target=look)
    if wanted.hosts and wanted.targets:
        thread.start()
    found = open_cluster(wanted, True) if wanted.api else None
    if thread.ident is not None:
        thread.join()
    return Facts(tuple(inventory), wanted.targets, found, looks, file, time.time())


def diagnose(facts: Facts) -> list[Finding]:
    """Causes, likeliest first."""
    return examine(facts, RULES)
