"""What pods print, in the form in which hosts tell it: lines with their times, of all pods of a workload."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from skerry.deploy.kube import render
from skerry.deploy.kube.cluster import Cluster, RefusedError
from skerry.errors import SkerryError
from skerry.status.reduce import moment

#: Seconds between two looks for pods that have come while lines are followed.
_LOOK = 2.0
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
Answer = dict[str, Any]


def since(text: str) -> dict[str, str]:
    """Journalctl's words for a time (``-10min``, ``2026-11-21 14:00`` in UTC) as the API has them."""
    if not text:
        return {}
    if found := re.fullmatch(r"-(\d+)(s|min|h|d)", text):
        return {"sinceSeconds": str(max(1, int(found[1]) * _UNITS[found[2]]))}
    return {"sinceTime": datetime.fromisoformat(text).replace(tzinfo=UTC).isoformat()}


def _said(line: str, pod: str, host: str) -> Answer:
    stamp, _, text = line.partition(" ")
    return {"line": text, "at": moment(stamp), "invocation": pod, "host": host}


def _pods(cluster: Cluster, name: str, hosts: Mapping[str, str]) -> dict[str, str]:
    """Pods of a workload that have begun -> their hosts; only those on hosts that were selected."""
    found = {}
    for pod in cluster.every("Pod", **{render.INSTANCE: name}):
        node = (pod.get("spec") or {}).get("nodeName", "")
        if node in hosts and pod["status"].get("phase") != "Pending":
            found[pod["metadata"]["name"]] = hosts[node]
    return found


def _lines(cluster: Cluster, pod: str, host: str, query: Mapping[str, str]) -> Iterator[Answer]:
    """Lines of one pod; one that has gone, or whose node does not answer, has none."""
    try:
        for line in cluster.lines(pod, **query):
            yield _said(line, pod, host)
    except RefusedError as error:
        if error.status not in (400, 404, 500, 502, 503):
            raise


def of(cluster: Cluster, message: Mapping[str, Any], hosts: Mapping[str, str]) -> Iterator[Answer]:
    """Lines of a workload's pods.

    Args:
        message: ``name``, ``since``, ``lines`` (of each pod, None for all), ``follow``.
        hosts: node -> host.
    """
    query = since(message.get("since") or "")
    if message.get("lines") is not None:
        query["tailLines"] = str(message["lines"])
    if message.get("follow"):
        yield from _follow(cluster, message["name"], hosts, query)
        return
    for pod, host in sorted(_pods(cluster, message["name"], hosts).items()):
        yield from _lines(cluster, pod, host, query)


def _follow(cluster: Cluster, name: str, hosts: Mapping[str, str], query: Mapping[str, str]) -> Iterator[Answer]:
    """Lines as they come, of pods that come later too; until the cluster is lost or nobody listens."""
    arrived: queue.SimpleQueue[Answer | SkerryError] = queue.SimpleQueue()

    def listen(pod: str, host: str) -> None:
        try:
            for one in _lines(cluster, pod, host, {**query, "follow": "true"}):
                arrived.put(one)
        except SkerryError as error:
            arrived.put(error)

    known: set[str] = set()
    looked = -_LOOK
    while True:
        if time.monotonic() - looked >= _LOOK:
            looked = time.monotonic()
            for pod, host in sorted(_pods(cluster, name, hosts).items()):
                if pod not in known:
                    known.add(pod)
                    threading.Thread(target=listen, args=(pod, host), daemon=True).start()
        try:
            one = arrived.get(timeout=_LOOK)
        except queue.Empty:
            continue
        if isinstance(one, SkerryError):
            raise one
        yield one
