"""The whole look at a host: parts in threads, each with its time; what fails or hangs is named, the rest is told."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

from . import k3s, network, services, storage, system

Part = Callable[[], Any]


def programs() -> dict[str, dict[str, Any]]:
    """The runtimes that the role wasm_runtime recorded, each with whether its program still starts."""
    recorded = (system.fact_file().get("wasm_runtime") or {}).get("runtimes") or {}
    return {
        name: {"path": one["command"], **services.starts(one["command"])}
        for name, one in recorded.items()
        if one.get("command") and one.get("proved")
    }


def _parts(request: dict[str, Any], role: str) -> dict[str, Part]:
    """What is looked at: little for an overview, everything for a diagnosis (``deep``)."""
    deep = bool(request.get("deep"))
    parts: dict[str, Part] = {
        "basics": system.basics,
        "memory": system.memory,
        "disks": system.disks,
        "clock": system.clock,
        "cgroups": system.cgroups,
        "units": services.units,
        "docker": services.docker,
    }
    if role:
        parts["certificates"] = k3s.certificates
        parts["handlers"] = lambda: k3s.handlers(deep)
    if not deep:
        return parts
    parts["journals"] = services.journals
    parts["listeners"] = services.listeners
    parts["resolvers"] = lambda: network.resolvers(str(request.get("cluster_dns") or "") if role else "")
    parts["reach"] = lambda: network.reach_all(request.get("reach") or [])
    parts["nfs"] = storage.nfs
    parts["programs"] = programs
    if role:
        parts |= {
            "config": k3s.config,
            "binary": k3s.binary,
            "joining": k3s.joining,
            "kubelet": k3s.kubelet,
            "containerd": k3s.containerd,
            "packet_filter": k3s.packet_filter,
        }
    if role == "server":
        parts["api"] = k3s.api
    return parts


def collect(request: dict[str, Any]) -> dict[str, Any]:
    """One look.

    Args:
        request: ``deep``, ``seconds`` (for all parts together), and what `_parts` asks for.

    Returns:
        Each part under its name, ``missing`` (part -> why it is not there), ``k3s_role``, ``seconds`` and ``time``.
    """
    start = time.monotonic()
    deadline = start + float(request.get("seconds") or 8.0)
    role = k3s.role()
    done: dict[str, Any] = {}
    missing: dict[str, str] = {}

    def work(name: str, part: Part) -> None:
        try:
            done[name] = part()
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}"

    threads = {}
    for name, part in _parts(request, role).items():
        threads[name] = threading.Thread(target=work, args=(name, part), daemon=True)
        threads[name].start()
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            missing[name] = "not done in time"
    answer = {name: done[name] for name in threads if name in done and name not in missing}
    return {**answer, "missing": dict(missing), "k3s_role": role, "seconds": time.monotonic() - start}
