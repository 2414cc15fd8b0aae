"""From a desired workload to Kubernetes' objects: pure functions; secrets and files come in, nothing is asked."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

from skerry.deploy.desired import canonical
from skerry.deploy.kube.cluster import MANAGED, NAMESPACE, Object

#: Seconds for which a replica stays bound to a node that has gone silent. Kubernetes calls a node unreachable some 50 s
#: after its last word; a modem that dials in again or an access point that restarts is back within these 110 s in all,
#: so a short gap of an edge link moves nothing. Kubernetes' own 300 s would leave a service away for six minutes.
AWAY_SECONDS = 60
#: Seconds from the order to stop until an image's pod is killed. A module cannot hear the order: it is killed at once,
#: or when the time is over for which its open connections may last.
STOP_SECONDS = 10
#: Seconds that a pod may take to be placed and started, beside its own readiness timeout.
START_SECONDS = 60
NAME, INSTANCE = "app.kubernetes.io/name", "app.kubernetes.io/instance"
OWNER, REVISION, CONTENT = "skerry.dev/owner", "skerry.dev/revision", "skerry.dev/content"
RESTARTED = "skerry.dev/restarted"
#: Marks what a revision's secrets and files lie in, and the list of revisions.
PART = "skerry.dev/part"
#: A user that exists nowhere; its group may read what is mounted.
_USER = 65532
#: How often a run is tried again that is to be restarted.
_AGAIN = 6
#: Most of what a directory in memory holds; it counts towards the memory of the pod.
_SCRATCH = "64Mi"
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HOSTNAME, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
Desired = dict[str, Any]


def is_image(desired: Desired) -> bool:
    """Whether it is an image of its own instead of a module."""
    return bool(desired["module"]["form"] == "image")


def owner_label(owner: str) -> str:
    """An owner as a label's value; a digest of one that cannot be."""
    return owner if _LABEL.fullmatch(owner) else hashlib.sha256(owner.encode()).hexdigest()[:16]


def content(desired: Desired) -> str:
    """What tells pods apart: a digest of everything but how many there are and whose they are."""
    pods = {key: value for key, value in desired["pods"].items() if key not in ("replicas", "code_lost")}
    kept = {key: value for key, value in desired.items() if key not in ("revision", "owner", "pods", "drain")}
    each = desired["pods"]["replicas"] == "each"
    return hashlib.sha256(canonical({**kept, "pods": pods, "each": each})).hexdigest()


def content_name(desired: Desired) -> str:
    """The Secret and the ConfigMap that a revision reads, by what is in them. Names of workloads have no dot, so these
    collide with none."""
    held = {"secrets": desired["secrets"], "files": desired["files"]}
    return f"{desired['name']}.{hashlib.sha256(canonical(held)).hexdigest()[:10]}"


def file_name(desired: Desired) -> str:
    """The module's file in its image."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", desired["module"]["name"]) or "module"


def count(desired: Desired) -> int:
    """How many pods there are to be."""
    replicas = desired["pods"]["replicas"]
    return len(desired["pods"]["nodes"]) if replicas == "each" else int(replicas)


def labels(desired: Desired) -> dict[str, str]:
    """Of every object of a workload."""
    return {NAME: desired["name"], INSTANCE: desired["name"], OWNER: owner_label(desired["owner"]), **MANAGED}


def _meta(desired: Desired, name: str = "", **more: Any) -> Object:
    notes = {REVISION: desired["revision"], CONTENT: content(desired), OWNER: desired["owner"]}
    return {"name": name or desired["name"], "namespace": NAMESPACE, "labels": labels(desired), "annotations": notes,
            **more}


def _selector(desired: Desired) -> Object:
    return {"matchLabels": {INSTANCE: desired["name"]}}


# -- the pod -----------------------------------------------------------------------------------------------------------


def _affinity(desired: Desired) -> Object:
    pods = desired["pods"]
    wanted = [{"key": _HOSTNAME, "operator": "In", "values": sorted(pods["nodes"])}]
    wanted += [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(pods["match"].items())]
    terms = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _spread(desired: Desired) -> list[Object]:
    """Over zones, then hosts, as well as the nodes allow; one on each means one on each, also while one is away."""
    each = desired["pods"]["replicas"] == "each"
    own = {"labelSelector": _selector(desired), "maxSkew": 1}
    if desired["kind"] == "service":
        own["matchLabelKeys"] = ["pod-template-hash"]
    if each:
        return [{**own, "topologyKey": _HOSTNAME, "whenUnsatisfiable": "DoNotSchedule"}]
    return [{**own, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway"} for key in (_ZONE, _HOSTNAME)]


def _tolerations(desired: Desired) -> list[Object]:
    """One on each host waits for its host; any other goes elsewhere after `AWAY_SECONDS`."""
    stay: Object = {} if desired["pods"]["replicas"] == "each" else {"tolerationSeconds": AWAY_SECONDS}
    return [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", **stay}
            for key in ("not-ready", "unreachable")]


def _resources(desired: Desired) -> Object:
    """Memory is asked for as it is limited, so that what is placed fits; a tenth of the processor time."""
    limits = desired["limits"]
    most: Object = {}
    least: Object = {"cpu": "10m"}
    if limits["memory"] is not None:
        most["memory"] = least["memory"] = str(limits["memory"])
    if limits["cpu"] is not None:
        most["cpu"] = f"{math.ceil(limits['cpu'] * 1000)}m"
        least["cpu"] = f"{max(1, math.ceil(limits['cpu'] * 100))}m"
    if desired["kind"] != "service" and limits["output"] is not None:
        # Nothing but its log is written by a pod: the kubelet ends one whose log takes more than this.
        most["ephemeral-storage"] = least["ephemeral-storage"] = str(limits["output"])
    return {"limits": most, "requests": least}


def _environment(desired: Desired) -> list[Object]:
    found: list[Object] = [{"name": name, "value": value} for name, value in sorted(desired["env"].items())]
    held = [one["name"] for one in desired["secrets"] if one["mount"] is None]
    found += [{"name": name, "valueFrom": {"secretKeyRef": {"name": content_name(desired), "key": name}}}
              for name in held]
    ports = [entry["port"] for entry in desired.get("ports", [])]
    if is_image(desired):
        return found
    names = ["PORT"] if len(ports) == 1 else [f"PORT_{port}" for port in ports]
    return found + [{"name": name, "value": str(port)} for name, port in zip(names, ports, strict=True)]


def _inner(port: Mapping[str, Any]) -> int:
    """The port that it listens on in its pod."""
    return int(port.get("target") or port["port"])


def _mounts(desired: Desired) -> tuple[list[Object], list[Object]]:
    """(volume mounts, volumes) of files and of secrets that are files; `contents` makes what they lie in."""
    mounts: list[Object] = []
    volumes: list[Object] = []
    name = content_name(desired)
    if desired["files"]:
        volumes.append({"name": "files", "configMap": {"name": name, "defaultMode": 0o444}})
        mounts += [{"name": "files", "mountPath": one["guest"], "subPath": one["digest"], "readOnly": True}
                   for one in desired["files"]]
    held = [one for one in desired["secrets"] if one["mount"] is not None]
    if held:
        items = [{"key": one["name"], "path": one["name"]} for one in held]
        volumes.append({"name": "secrets", "secret": {"secretName": name, "defaultMode": 0o440, "items": items}})
        mounts += [{"name": "secrets", "mountPath": one["mount"], "subPath": one["name"], "readOnly": True}
                   for one in held]
    for number, guest in enumerate(_scratch(desired)):
        volumes.append({"name": f"scratch-{number}", "emptyDir": {"medium": "Memory", "sizeLimit": _SCRATCH}})
        mounts.append({"name": f"scratch-{number}", "mountPath": guest})
    return mounts, volumes


def _scratch(desired: Desired) -> list[str]:
    """Directories in memory of an image; a module has none."""
    return sorted({"/tmp", *desired.get("scratch", [])}) if is_image(desired) else []


def _probe(desired: Desired) -> Object | None:
    """The kubelet's readiness probe. A line of output is no matter of the kubelet's: the controller looks for it."""
    asked = desired["readiness"] or {}
    every = {"periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3}
    if "tcp" in asked:
        return {"tcpSocket": {"port": asked["tcp"]}, **every}
    if "http" in asked:
        return {"httpGet": {"port": asked["http"]["port"], "path": asked["http"]["path"]}, **every}
    return None


def _container(desired: Desired) -> Object:
    mounts, _ = _mounts(desired)
    found: Object = {
        "name": "main",
        "image": desired["pods"]["image"],
        # What Skerry brought is in no registry: asking one would only hide that it is missing.
        "imagePullPolicy": "IfNotPresent" if is_image(desired) else "Never",
        "args": desired["args"],
        "env": _environment(desired),
        "resources": _resources(desired),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}},
    }
    if not is_image(desired):
        found["command"] = [f"/{file_name(desired)}"]
    if mounts:
        found["volumeMounts"] = mounts
    if ports := desired.get("ports"):
        found["ports"] = [{"containerPort": _inner(one), "protocol": "TCP"} for one in ports]
    if probe := _probe(desired):
        found["readinessProbe"] = probe
    return found


def stop_seconds(desired: Desired) -> int:
    """Seconds that a pod has from the order to stop."""
    drain: float = desired.get("drain", 0)
    if drain:
        return max(1, math.ceil(drain))
    return STOP_SECONDS if is_image(desired) else 1


def _template(desired: Desired) -> Object:
    _, volumes = _mounts(desired)
    user, _, group = str(desired.get("user") or _USER).partition(":")
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": stop_seconds(desired),
        "securityContext": {"runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(group or user),
                            "fsGroup": int(group or user), "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": _affinity(desired),
        "tolerations": _tolerations(desired),
        "topologySpreadConstraints": _spread(desired),
        "containers": [_container(desired)],
    }
    notes = {CONTENT: content(desired)}
    if not is_image(desired):
        spec["runtimeClassName"] = desired["runtime"]["name"]
        notes["module.wasm.image/variant"] = "compat"
    if volumes:
        spec["volumes"] = volumes
    if desired["kind"] != "service":
        spec["restartPolicy"] = "Never"  # a run that is to be tried again gets a pod of its own
        if desired["limits"]["time"] is not None:
            spec["activeDeadlineSeconds"] = max(1, math.ceil(desired["limits"]["time"]))
    return {"metadata": {"labels": labels(desired), "annotations": notes}, "spec": spec}


# -- what runs it ------------------------------------------------------------------------------------------------------


def main_kind(desired: Desired) -> str:
    """The kind of the object that stands for a workload."""
    if desired["kind"] == "service":
        return "DaemonSet" if desired["pods"]["replicas"] == "each" else "Deployment"
    return "CronJob" if desired["kind"] == "schedule" else "Job"


def patience(desired: Desired) -> int:
    """Seconds without progress after which a roll-out has failed."""
    timeout: float = (desired["readiness"] or {}).get("timeout", 30.0)
    return START_SECONDS + math.ceil(timeout)


def _service(desired: Desired) -> Object:
    template = _template(desired)
    meta = _meta(desired)
    common: Object = {"selector": _selector(desired), "template": template, "minReadySeconds": 1,
                      "revisionHistoryLimit": 1}
    one_more = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    if main_kind(desired) == "DaemonSet":
        # A DaemonSet is one on each node by itself, and knows its pods by another label than a ReplicaSet does.
        del template["spec"]["topologySpreadConstraints"]
        return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta,
                "spec": {**common, "updateStrategy": one_more}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": {**common, "replicas": count(desired), "strategy": one_more,
                     "progressDeadlineSeconds": patience(desired)}}


def job(desired: Desired, suffix: str = "") -> Object:
    """A run of a job or a schedule; its name ends with the revision, or with what tells a further run apart."""
    again = 0 if desired["restart"] == "never" else _AGAIN
    spec: Object = {"template": _template(desired), "completions": count(desired), "parallelism": count(desired)}
    if count(desired) > 1:  # each for itself: one that fails ends no other
        spec |= {"completionMode": "Indexed", "backoffLimitPerIndex": again}
    else:
        spec["backoffLimit"] = again
    meta = _meta(desired, f"{desired['name']}-{suffix or desired['revision'][:8]}")
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def trial(desired: Desired, suffix: str, seconds: int) -> Object:
    """One pod of a revision by itself: no Service and no Deployment knows it, and it ends by itself."""
    template = _template(desired)
    named = {key: value for key, value in labels(desired).items() if key != INSTANCE}
    meta = {"name": f"{desired['name'][:50]}-try-{suffix}", "namespace": NAMESPACE, "labels": {**named, PART: "trial"},
            "annotations": template["metadata"]["annotations"]}
    spec = {key: value for key, value in template["spec"].items() if key != "topologySpreadConstraints"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta,
            "spec": {**spec, "restartPolicy": "Never", "activeDeadlineSeconds": seconds}}


def _cron_job(desired: Desired) -> Object:
    schedule = desired["schedule"]
    run = job(desired)
    spec: Object = {
        "schedule": schedule["cron"], "timeZone": schedule["time_zone"], "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 3,
        "jobTemplate": {"metadata": {"labels": labels(desired), "annotations": run["metadata"]["annotations"]},
                        "spec": run["spec"]},
    }  # fmt: skip
    if not schedule["missed"]:
        spec["startingDeadlineSeconds"] = 60
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": _meta(desired), "spec": spec}


def _network_policy(desired: Desired) -> Object:
    """What of the network is left to it: all, its ports, or nothing."""
    ports = [{"port": _inner(one), "protocol": "TCP"} for one in desired.get("ports", [])]
    rules: Object = {"ingress": [], "egress": []}
    if desired["network"]:
        rules = {"ingress": [{}], "egress": [{}]}
    elif ports:
        rules["ingress"] = [{"ports": ports}]
    # By its name, which the pod of a trial has too.
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": _meta(desired),
            "spec": {"podSelector": {"matchLabels": {NAME: desired["name"]}}, **rules,
                     "policyTypes": ["Ingress", "Egress"]}}


def objects(desired: Desired) -> list[Object]:
    """Everything of a workload but its contents, in the order in which it is applied: what runs it comes last."""
    found = [_network_policy(desired)]
    if ports := desired.get("ports"):
        entries = [{"name": f"{one['protocol']}-{one['port']}", "port": one["port"], "targetPort": _inner(one),
                    "protocol": "TCP", "appProtocol": one["protocol"]} for one in ports]
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": _meta(desired),
                      "spec": {"selector": {INSTANCE: desired["name"]}, "ports": entries}})
    if main_kind(desired) == "Deployment":
        found.append({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _meta(desired),
                      "spec": {"selector": _selector(desired), "maxUnavailable": 1,
                               "unhealthyPodEvictionPolicy": "AlwaysAllow"}})
    last = {"schedule": _cron_job, "job": job}.get(desired["kind"], _service)
    return [*found, last(desired)]


def contents(desired: Desired, files: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> list[Object]:
    """The Secret and the ConfigMap that a revision reads; both never change.

    Args:
        files: content by its digest; secrets: value by its name.
    """
    def item(kind: str, key: str, data: Mapping[str, bytes]) -> Object:
        meta = _meta(desired, content_name(desired))
        meta["labels"] = {**meta["labels"], PART: "content"}
        encoded = {name: base64.b64encode(value).decode() for name, value in sorted(data.items())}
        return {"apiVersion": "v1", "kind": kind, "metadata": meta, "immutable": True, key: encoded}

    found = []
    if desired["secrets"]:
        found.append(item("Secret", "data", secrets))
    if desired["files"]:
        found.append(item("ConfigMap", "binaryData", files))
    return found
