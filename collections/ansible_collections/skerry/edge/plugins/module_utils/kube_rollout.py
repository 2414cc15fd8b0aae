"""Whether a workload or another object is up, and why it is not: its pods, their last words and the events.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import re
import time
import urllib.parse

from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import title

#: apiVersion of kinds that a list of things to wait for may name alone.
VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "APIService": "apiregistration.k8s.io/v1",
    "StorageClass": "storage.k8s.io/v1",
    "RuntimeClass": "node.k8s.io/v1",
    "HelmChart": "helm.cattle.io/v1",
}
CONDITIONS = {"CustomResourceDefinition": "Established", "APIService": "Available"}
EXIST = ("ConfigMap", "Secret", "Service", "ServiceAccount", "StorageClass", "RuntimeClass")
#: Reasons of a waiting container that time alone does not mend.
STUCK = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
#: What cert-manager makes on its way to a certificate.
ISSUING = (
    ("cert-manager.io/v1", "CertificateRequest"),
    ("acme.cert-manager.io/v1", "Order"),
    ("acme.cert-manager.io/v1", "Challenge"),
)
LOG_LINES = 15
EVENTS = 6


class HopelessError(Exception):
    """Waiting will not help; the text says why."""


def target(spec, namespace):
    """A reference with apiVersion and namespace filled in, and the condition that is waited for."""
    kind = spec["kind"]
    return {
        "apiVersion": spec.get("apiVersion") or VERSIONS.get(kind, "v1"),
        "kind": kind,
        "namespace": spec.get("namespace") or namespace,
        "name": spec["name"],
        "condition": spec.get("condition") or "",
    }


def _condition(item, name):
    for condition in (item.get("status") or {}).get("conditions") or []:
        if condition.get("type") == name:
            return condition
    return {}


def _counts(status, *names):
    return [int(status.get(name) or 0) for name in names]


def _deployment(item):
    wanted, status = item["spec"].get("replicas", 1), item.get("status") or {}
    total, updated, available = _counts(status, "replicas", "updatedReplicas", "availableReplicas")
    if updated < wanted or total > updated or available < wanted:
        return False, f"{available} of {wanted} pods available, {updated} of this version, {total} in all"
    return True, ""


def _stateful_set(item):
    wanted, status = item["spec"].get("replicas", 1), item.get("status") or {}
    ready, updated = _counts(status, "readyReplicas", "updatedReplicas")
    rolling = (item["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    late = rolling and status.get("currentRevision") != status.get("updateRevision") and updated < wanted
    return (ready >= wanted and not late), f"{ready} of {wanted} pods ready, {updated} of this version"


def _daemon_set(item):
    status = item.get("status") or {}
    wanted, updated, available = _counts(status, "desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    why = f"{available} of {wanted} pods available, {updated} of this version"
    return (updated >= wanted and available >= wanted), why


def _job(item):
    failed = _condition(item, "Failed")
    if failed.get("status") == "True":
        raise HopelessError("the Job failed: {}".format(failed.get("message") or failed.get("reason")))
    return _condition(item, "Complete").get("status") == "True", "the Job is not complete"


def _existing(item):
    return item is not None, ""


def _phase(*good):
    def look(item):
        status = item.get("status") or {}
        return status.get("phase") in good, status.get("message") or "phase {}".format(status.get("phase"))

    return look


def _pod(item):
    if (item.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return _phase("Succeeded")(item)
    return _conditional(item, "Ready")


def _conditional(item, name):
    found = _condition(item, name)
    seen = found.get("observedGeneration")
    if seen is not None and int(seen) < int(item["metadata"].get("generation") or 0):
        return False, "its change has not been seen yet"
    return found.get("status") == "True", found.get("message") or found.get("reason") or f"no condition {name} yet"


COUNTED = {"Deployment": _deployment, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set}
#: Kinds that are not judged by a condition.
JUDGED = {
    "Job": _job,
    "Pod": _pod,
    "PersistentVolumeClaim": _phase("Bound"),
    "Namespace": _phase("Active"),
    **dict.fromkeys(EXIST, _existing),
}


def judge(item, wanted):
    """(is up, why not) of an object that exists. Raises HopelessError for a Job that failed."""
    kind, status = wanted["kind"], item.get("status") or {}
    if item["metadata"].get("deletionTimestamp"):
        return False, "it is being deleted"
    if wanted.get("condition"):
        return _conditional(item, wanted["condition"])
    if kind in COUNTED:
        if int(status.get("observedGeneration") or 0) < int(item["metadata"].get("generation") or 0):
            return False, "its change has not been seen yet"
        return COUNTED[kind](item)
    return JUDGED[kind](item) if kind in JUDGED else _conditional(item, CONDITIONS.get(kind, "Ready"))


class Watch:
    """Looks at a list of things and tells which are not up."""

    def __init__(self, objects):
        self.objects = objects
        self.api = objects.api

    def late(self, wanted):
        """[(reference, why not)] of what is not up. Raises HopelessError."""
        found = []
        for ref in wanted:
            item = self.objects.get(ref)
            if item is None:
                self.objects.kinds.forget()
                found.append((ref, "it does not exist"))
                continue
            up, why = judge(item, ref)
            if not up:
                found.append((ref, why))
        return found

    def wait(self, wanted, deadline, sleep=time.sleep, clock=time.monotonic):
        """Poll until all is up. Raises CHART_010, with what pods and events say."""
        missing = list(wanted)
        while missing:
            try:
                missing = [ref for ref, _ in self.late(missing)]
                if not missing:
                    return
                why = ""
            except HopelessError as error:
                why = str(error)
            except UnavailableError as error:
                why = "" if clock() < deadline else f"the API does not answer: {error}"
            if why or clock() >= deadline:
                raise self.failure(wanted, why)
            sleep(0.5)

    def failure(self, wanted, why):
        """The error to end with."""
        try:
            late = self.late(wanted)
        except (HopelessError, UnavailableError):
            late = [(ref, why) for ref in wanted[:1]]
        parts = [f"{title(ref)}: {reason}" + self.story(ref) for ref, reason in late[:3]]
        if len(late) > 3:
            parts.append(f"and {len(late) - 3} more")
        cause = "not up in time: " + "; ".join(parts or [why])
        if re.search(r"ErrImagePull|ImagePullBackOff|ErrImageNeverPull", cause):
            remedy = "see whether the nodes reach the registry, or bring the image along (docs/airgap.md)"
        else:
            remedy = "mend what log and events name, then run again; on a slow host raise the component's timeout"
        return K3sError("CHART_010", cause, remedy)

    # -- stories ---------------------------------------------------------------------------------------------------

    def story(self, ref):
        """What pods of a workload and events say, as lines to put behind a message; "" when nothing is known."""
        try:
            item = self.objects.get(ref)
            lines = []
            if item is not None and ref["kind"] in (*COUNTED, "Job"):
                labels = ((item["spec"].get("selector") or {}).get("matchLabels")) or {}
                for pod in self.pods(ref["namespace"], labels)[:3]:
                    lines += self.pod_story(pod)
            if ref["kind"] == "Certificate":
                lines += self.issuing(ref["namespace"], ref["name"])
            lines += self.events(ref["namespace"], ref["name"])
        except (K3sError, UnavailableError) as error:
            lines = [f"(more could not be read: {error})"]
        return "".join("\n  " + line for line in lines)

    def issuing(self, namespace, name):
        """Where a certificate is stuck: what its requests, orders and challenges say, the youngest last."""
        lines = []
        for version, kind in ISSUING:
            folder = self.objects.kinds.collection(version, kind, namespace)
            items = self.api.json("GET", folder)["items"] if folder else []
            for item in sorted(items, key=lambda one: one["metadata"].get("creationTimestamp") or ""):
                status = item.get("status") or {}
                why = status.get("reason") or _condition(item, "Ready").get("message")
                if item["metadata"]["name"].startswith(name + "-") and why:
                    lines.append("{} {}: {}".format(kind, status.get("state") or "", " ".join(why.split()))[:400])
        return lines[-EVENTS:]

    def pods(self, namespace, labels):
        """The pods with these labels, those that are not well first, then the youngest."""
        if not labels:
            return []
        text = urllib.parse.quote(",".join(f"{key}={value}" for key, value in sorted(labels.items())))
        items = self.api.json("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={text}")["items"]
        items.sort(key=lambda pod: pod["metadata"].get("creationTimestamp") or "", reverse=True)
        return sorted(items, key=lambda pod: _condition(pod, "Ready").get("status") == "True")

    def pod_story(self, pod):
        """States of a pod's containers and the end of the log of one that is not well."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        lines = []
        scheduled = _condition(pod, "PodScheduled")
        if scheduled.get("status") == "False":
            lines.append("pod {}: not scheduled: {}".format(name, scheduled.get("message")))
        for state in container_states(pod):
            if state["well"]:
                continue
            lines.append("pod {}, container {}: {}".format(name, state["name"], state["text"]))
            lines += ["| " + line for line in self.log(namespace, name, state["name"], state["restarts"] > 0)]
        if _condition(pod, "Ready").get("status") != "True":
            lines += self.events(namespace, name)
        return lines

    def log(self, namespace, pod, container, previous=False):
        """The last lines of a container's log; those of its previous run when this one has said nothing."""
        base = f"/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={LOG_LINES}"
        for query in (base, base + "&previous=true") if previous else (base,):
            status, text = self.api.ask("GET", query)
            if status == 200 and text.strip():
                return [line[:300] for line in text.strip().splitlines()[-LOG_LINES:]]
        return []

    def events(self, namespace, name):
        """The last warnings about an object."""
        field = urllib.parse.quote(f"involvedObject.name={name},type=Warning")
        answer = self.api.json("GET", f"/api/v1/namespaces/{namespace or 'default'}/events?fieldSelector={field}")
        items = sorted(answer["items"], key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        seen = []
        for event in items:
            line = "event {}: {}".format(event.get("reason"), " ".join((event.get("message") or "").split())[:300])
            if line not in seen:
                seen.append(line)
        return seen[-EVENTS:]


def container_states(pod):
    """[{name, well, text, reason, restarts}] of a pod's containers, init containers first."""
    status, result = pod.get("status") or {}, []
    for item in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        state, last = item.get("state") or {}, (item.get("lastState") or {}).get("terminated") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        reason = (waiting or ended or {}).get("reason") or ""
        text = ": ".join(part for part in (reason, (waiting or ended or {}).get("message") or "") if part)
        if last:
            text += " (before: {}, exit code {})".format(last.get("reason"), last.get("exitCode"))
        well = bool(item.get("ready")) or bool(ended and ended.get("exitCode") == 0)
        result.append(
            {
                "name": item["name"],
                "well": well,
                "text": text or "not ready",
                "reason": reason,
                "restarts": int(item.get("restartCount") or 0),
            }
        )
    return result
