"""What is read of a cluster, and into what: one thread and one connection for each list, all at once."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from skerry.status import reduce
from skerry.status.api import Api, ApiError, Connection, Deadline, Outcome, read_list
from skerry.status.model import Cluster, Thing, Workload

Item = dict[str, Any]
#: Pods that are kept one by one at most; beyond that they are counted only.
KEPT_PODS = 4000
#: Namespaces whose pods are all kept: those of the platform.
PLATFORM = frozenset(
    ["kube-system", "cert-manager", "redpanda", "nfs-provisioner", "kwasm", "monitoring", "registry"]
)
#: Nodes whose kubelets are asked for their usage one by one when the cluster has no metrics API.
FEW_NODES = 40


@dataclass(frozen=True)
class Read:
    """One list: its name, its path, what is kept of an object (None: nothing but its name), read for doctor alone."""

    name: str
    path: str
    keep: Callable[[Item], dict[str, Any]] | None = None
    deep: bool = False


def _conditions(item: Item) -> dict[str, Any]:
    found = {one.get("type", ""): one for one in item.get("status", {}).get("conditions") or []}
    return {
        name: {key: one.get(key, "") for key in ("status", "reason", "message")} for name, one in found.items()
    }


def _helm_chart(item: Item) -> dict[str, Any]:
    spec, status = item.get("spec", {}), item.get("status", {})
    return {
        "chart": spec.get("chart", ""), "version": spec.get("version", ""), "job": status.get("jobName", ""),
        "target": spec.get("targetNamespace") or item["metadata"].get("namespace", ""),
        "conditions": _conditions(item), "deleted": bool(item["metadata"].get("deletionTimestamp")),
    }  # fmt: skip


def _claim(item: Item) -> dict[str, Any]:
    spec, status = item.get("spec", {}), item.get("status", {})
    return {
        "phase": status.get("phase", ""), "class": spec.get("storageClassName"), "volume": spec.get("volumeName", ""),
        "asked": (spec.get("resources") or {}).get("requests", {}).get("storage", ""),
        "uid": item["metadata"].get("uid", ""),
    }  # fmt: skip


def _storage_class(item: Item) -> dict[str, Any]:
    notes = item["metadata"].get("annotations") or {}
    return {
        "provisioner": item.get("provisioner", ""), "binding": item.get("volumeBindingMode", ""),
        "default": notes.get("storageclass.kubernetes.io/is-default-class") == "true",
    }  # fmt: skip


def _runtime_class(item: Item) -> dict[str, Any]:
    return {"handler": item.get("handler", ""), "selector": (item.get("scheduling") or {}).get("nodeSelector") or {}}


def _certificate(item: Item) -> dict[str, Any]:
    spec, status = item.get("spec", {}), item.get("status", {})
    return {
        "conditions": _conditions(item), "not_after": reduce.moment(status.get("notAfter")),
        "issuer": (spec.get("issuerRef") or {}).get("name", ""), "secret": spec.get("secretName", ""),
    }  # fmt: skip


def _api_service(item: Item) -> dict[str, Any]:
    service = item.get("spec", {}).get("service") or {}
    name = f"{service.get('namespace')}/{service.get('name')}" if service else ""
    return {"conditions": _conditions(item), "service": name}


def _webhook(item: Item) -> dict[str, Any]:
    hooks = []
    for one in item.get("webhooks") or []:
        service = one.get("clientConfig", {}).get("service") or {}
        hooks.append(
            {
                "name": one.get("name", ""), "policy": one.get("failurePolicy", "Fail"),
                "service": (service.get("namespace", ""), service.get("name", "")) if service else None,
                "resources": sorted({kind for rule in one.get("rules") or [] for kind in rule.get("resources") or []}),
            }
        )  # fmt: skip
    return {"hooks": hooks}


def _endpoints(item: Item) -> dict[str, Any]:
    ready = sum(1 for one in item.get("endpoints") or [] if (one.get("conditions") or {}).get("ready") is not False)
    labels = item["metadata"].get("labels") or {}
    return {"service": labels.get("kubernetes.io/service-name", ""), "ready": ready}


def _service(item: Item) -> dict[str, Any]:
    spec = item.get("spec", {})
    return {"ip": spec.get("clusterIP", ""), "type": spec.get("type", ""), "selector": spec.get("selector") or {}}


def _event(item: Item) -> dict[str, Any]:
    about = item.get("involvedObject") or {}
    last = item.get("lastTimestamp") or item.get("eventTime") or item["metadata"].get("creationTimestamp")
    return {
        "reason": item.get("reason", ""), "message": item.get("message", ""), "kind": about.get("kind", ""),
        "about": about.get("name", ""), "uid": about.get("uid", ""), "count": item.get("count") or 1,
        "last": reduce.moment(last),
        "host": (item.get("source") or {}).get("host", "") or item.get("reportingInstance", ""),
    }  # fmt: skip


def _namespace(item: Item) -> dict[str, Any]:
    return {"phase": item.get("status", {}).get("phase", ""), "conditions": _conditions(item)}


def _job(item: Item) -> dict[str, Any]:
    status = item.get("status", {})
    return {"conditions": _conditions(item), "failed": status.get("failed", 0), "succeeded": status.get("succeeded", 0)}


def _quota(item: Item) -> dict[str, Any]:
    status = item.get("status", {})
    return {"hard": status.get("hard") or {}, "used": status.get("used") or {}}


#: Lists beside nodes, pods and workloads; those of kinds that a cluster does not have answer 404.
OTHERS = (
    Read("helmcharts", "/apis/helm.cattle.io/v1/helmcharts", _helm_chart),
    Read("claims", "/api/v1/persistentvolumeclaims", _claim),
    Read("runtimeclasses", "/apis/node.k8s.io/v1/runtimeclasses", _runtime_class),
    Read("certificates", "/apis/cert-manager.io/v1/certificates", _certificate),
    Read("classes", "/apis/storage.k8s.io/v1/storageclasses", _storage_class, deep=True),
    Read("apiservices", "/apis/apiregistration.k8s.io/v1/apiservices", _api_service, deep=True),
    Read("validating", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", _webhook, deep=True),
    Read("mutating", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", _webhook, deep=True),
    Read("endpoints", "/apis/discovery.k8s.io/v1/endpointslices", _endpoints, deep=True),
    Read("services", "/api/v1/services", _service, deep=True),
    Read("events", "/api/v1/events?fieldSelector=type%3DWarning", _event, deep=True),
    Read("namespaces", "/api/v1/namespaces", _namespace, deep=True),
    Read("jobs", "/apis/batch/v1/jobs", _job, deep=True),
    Read("quotas", "/api/v1/resourcequotas", _quota, deep=True),
)
WORKLOADS = (("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets"))


class Reader:
    """Fills a `Cluster` from an API server."""

    def __init__(self, api: Api, cluster: Cluster, seconds: float, deep: bool) -> None:
        self.api, self.cluster, self.seconds, self.deep = api, cluster, seconds, deep
        self._lock = threading.Lock()
        self._requested: dict[str, tuple[int, float, int]] = {}

    def read(self) -> Cluster:
        """Everything, at once; what fails is in the cluster's outcomes."""
        start = time.monotonic()
        if error := self._first():
            self.cluster.error = error
            self.cluster.outcomes[error.name] = error
            self.cluster.seconds = time.monotonic() - start
            return self.cluster
        work: list[Callable[[], None]] = [self._pods, self._nodes, self._health, self._metrics]
        work += [lambda kind=kind, name=name: self._workloads(kind, name) for kind, name in WORKLOADS]  # type: ignore[misc]
        work += [lambda one=one: self._others(one) for one in OTHERS if self.deep or not one.deep]  # type: ignore[misc]
        with ThreadPoolExecutor(max_workers=8) as pool:
            for future in [pool.submit(one) for one in work]:
                future.result()
        self._join()
        if self.cluster.outcomes["metrics"].state != "complete" and 0 < len(self.cluster.nodes) <= FEW_NODES:
            self._summaries()
        self.cluster.seconds = time.monotonic() - start
        return self.cluster

    def _first(self) -> Outcome | None:
        """The version, and how far the API server's clock is from ours; the reason when it does not answer at all."""
        start = time.monotonic()
        link = Connection(self.api.access, self.api._tls)
        try:
            deadline = Deadline(min(self.seconds, 5.0))
            answer = link.ask("/version", deadline)
            body = link.read(answer, deadline)
            if date := answer.headers.get("Date"):
                self.cluster.clock_skew = parsedate_to_datetime(date).timestamp() - time.time()
            if answer.status >= 400:
                said = body[:300].decode("utf-8", "replace")
                kind = {401: "unauthorised", 403: "forbidden"}.get(answer.status, "refused-request")
                return Outcome("api", "failed", error=said, kind=kind, status=answer.status)
            self.cluster.version = str(json.loads(body).get("gitVersion", ""))
        except ApiError as error:
            took = time.monotonic() - start
            return Outcome("api", "failed", seconds=took, error=error.said, kind=error.kind, status=error.status)
        except ValueError as error:
            return Outcome("api", "failed", error=f"{self.api.access.server} is no API server: {error}", kind="broken")
        finally:
            link.close()
        return None

    def _store(self, outcome: Outcome) -> None:
        with self._lock:
            self.cluster.outcomes[outcome.name] = outcome

    def _pods(self) -> None:
        cluster, requested = self.cluster, self._requested

        def take(item: Item) -> None:
            pod, (cpu, memory) = reduce.pod(item)
            cluster.pod_count += 1
            cluster.phases[pod.status] += 1
            cluster.namespaces[pod.namespace] += 1
            if pod.phase not in ("Succeeded", "Failed"):
                count, cores, size = requested.get(pod.node, (0, 0.0, 0))
                requested[pod.node] = (count + 1, cores + cpu, size + memory)
            if (pod.trouble or pod.namespace in PLATFORM) and len(cluster.pods) < KEPT_PODS:
                cluster.pods.append(pod)

        self._store(read_list(self.api, "pods", "/api/v1/pods", self.seconds, take))

    def _nodes(self) -> None:
        def take(item: Item) -> None:
            found = reduce.node(item)
            self.cluster.nodes[found.name] = found

        self._store(read_list(self.api, "nodes", "/api/v1/nodes", self.seconds, take))

    def _workloads(self, kind: str, name: str) -> None:
        found: list[Workload] = []

        def take(item: Item) -> None:
            found.append(reduce.workload(kind, item))

        outcome = read_list(self.api, name, f"/apis/apps/v1/{name}", self.seconds, take)
        with self._lock:
            self.cluster.workloads += found
        self._store(outcome)

    def _others(self, one: Read) -> None:
        found: list[Thing] = []

        def take(item: Item) -> None:
            meta = item["metadata"]
            found.append(Thing(meta.get("namespace", ""), meta["name"], one.keep(item) if one.keep else {}))

        outcome = read_list(self.api, one.name, one.path, self.seconds, take)
        with self._lock:
            self.cluster.things[one.name] = found
        self._store(outcome)

    def _health(self) -> None:
        outcome = Outcome("health")
        try:
            self.api.get("/readyz?verbose", Deadline(self.seconds), "text/plain")
            self.cluster.health = {"status": 200, "failed": []}
        except ApiError as error:
            failed = re.findall(r"^\[-\](\S+)", error.said, re.MULTILINE)
            self.cluster.health = {"status": error.status, "failed": failed or [error.said]}
            if not error.status:
                outcome = Outcome("health", "failed", error=error.said, kind=error.kind)
        self._store(outcome)

    def _metrics(self) -> None:
        usage: dict[str, tuple[float, int]] = {}

        def take(item: Item) -> None:
            used = item.get("usage") or {}
            usage[item["metadata"]["name"]] = (
                reduce.quantity(used.get("cpu", 0)), int(reduce.quantity(used.get("memory", 0)))
            )  # fmt: skip

        outcome = read_list(self.api, "metrics", "/apis/metrics.k8s.io/v1beta1/nodes", self.seconds, take)
        if outcome.state == "failed" and outcome.status == 503:
            outcome.kind = "unavailable"
        with self._lock:
            self._usage = usage
        self._store(outcome)

    def _join(self) -> None:
        """Sums of pods, and usage, to their nodes."""
        for name, (count, cpu, memory) in self._requested.items():
            if node := self.cluster.nodes.get(name):
                node.pods, node.cpu_requested, node.memory_requested = count, cpu, memory
        for name, (cores, size) in self._usage.items():
            if node := self.cluster.nodes.get(name):
                node.cpu_used, node.memory_used = cores, size

    def _summaries(self) -> None:
        """What the kubelets say of their nodes, where no metrics API sums it up."""
        nodes = [node for node in self.cluster.nodes.values() if node.ready == "True"]
        seconds = min(3.0, self.seconds)

        def ask(name: str) -> Mapping[str, Any] | ApiError:
            try:
                path = f"/api/v1/nodes/{quote(name)}/proxy/stats/summary?only_cpu_and_memory=false"
                found: Mapping[str, Any] = json.loads(self.api.get(path, Deadline(seconds)))["node"]
            except ApiError as error:
                return error
            except (ValueError, KeyError) as error:
                return ApiError(0, f"{name}: {error}", "broken")
            return found

        start = time.monotonic()
        outcome = Outcome("usage")
        with ThreadPoolExecutor(max_workers=8) as pool:
            for node, answer in zip(nodes, pool.map(ask, [node.name for node in nodes]), strict=True):
                if isinstance(answer, ApiError):
                    outcome.error, outcome.kind, outcome.status = answer.said, answer.kind, answer.status
                    continue
                outcome.count += 1
                node.cpu_used = (answer.get("cpu") or {}).get("usageNanoCores", 0) / 1e9
                node.memory_used = int((answer.get("memory") or {}).get("workingSetBytes", 0))
                disk = answer.get("fs") or {}
                used, free = disk.get("usedBytes", 0), disk.get("availableBytes", 0)
                if used + free:
                    node.disk_percent = 100.0 * used / (used + free)  # as df counts: what is kept for root is not free
        outcome.seconds = time.monotonic() - start
        if outcome.count < len(nodes):
            outcome.state = "partial" if outcome.count else "failed"
            outcome.remaining = len(nodes) - outcome.count
        self._store(outcome)


def read_cluster(api: Api, name: str, seconds: float, deep: bool = False) -> Cluster:
    """Everything that is read of one cluster.

    Args:
        seconds: for each list; what has not come by then is missing, and the outcome says so.
        deep: what `skerry doctor` wants besides: events, webhooks, services, ...
    """
    cluster = Cluster(name, str(api.access.source), api.access.server)
    return Reader(api, cluster, seconds, deep).read()
