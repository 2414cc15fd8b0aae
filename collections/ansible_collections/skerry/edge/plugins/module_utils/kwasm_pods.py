"""Probe pods of wasm runtimes: which are due, how they look, what became of them.

Python 3.8, standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.parse

from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import MANAGED
from ansible_collections.skerry.edge.plugins.module_utils.kwasm_host import PROBE_IMAGE
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import EXIT_CODE, OUTPUT

CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
PROOFS = "kwasm-probes"
RESTRICTED = {"pod-security.kubernetes.io/" + mode: "restricted" for mode in ("enforce", "warn", "audit")}
#: Waiting reasons that mend themselves for a while: an image that is just being imported, a handler just restarted.
PATIENT = ("ErrImageNeverPull", "ContainerCreating", "PodInitializing")
#: A runtime that is broken cannot even make the pod's sandbox; the kubelet tries that for ever and tells of it in
#: events alone. Seconds after which such an event is believed: just after a start of k3s a first attempt may fail.
SANDBOX_PATIENCE = 12
_SANDBOX = re.compile(r"create pod sandbox(?!.*\b(?:cni|network)\b)", re.IGNORECASE | re.DOTALL)


def pod_name(node, runtime_class):
    """A valid name that is the same in each run."""
    digest = hashlib.sha256(f"{node}/{runtime_class}".encode()).hexdigest()[:10]
    return "probe-{}-{}".format(re.sub(r"[^a-z0-9-]", "-", runtime_class.lower())[:40], digest)


def pod(node, runtime_class, namespace):
    """The pod: nothing that Pod Security `restricted` would refuse, bound to the node past the scheduler."""
    security = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
        "runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "probe", "image": PROBE_IMAGE, "imagePullPolicy": "Never", "securityContext": security,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "256Mi"}},
    }
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(node, runtime_class), "namespace": namespace,
            "labels": {**MANAGED, "skerry.dev/probe": "kwasm"},
            # crun wants to be told that the image is a wasm one; other runtimes do not look at it.
            "annotations": {"module.wasm.image/variant": "compat"},
        },
        "spec": {
            "nodeName": node, "runtimeClassName": runtime_class, "restartPolicy": "Never",
            "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}], "containers": [container],
        },
    }


def hopeless(messages):
    """The last event that blames the runtime for a sandbox that could not be made, or ''."""
    return next((message for message in reversed(messages) if _SANDBOX.search(message)), "")


def classes_of(items, node, handlers):
    """{RuntimeClass: mark} that pods of a node can use, of those with one of its handlers and a fitting selector."""
    labels = node["metadata"].get("labels") or {}
    found = {}
    for item in items:
        selector = ((item.get("scheduling") or {}).get("nodeSelector")) or {}
        fits = all(labels.get(key) == value for key, value in selector.items())
        if fits and item.get("handler") in handlers:
            found[item["metadata"]["name"]] = handlers[item["handler"]]
    return found


def verdict(status, log):
    """'' when the pod did what it should, None while that is open, else what went wrong."""
    phase = status.get("phase")
    states = [item.get("state") or {} for item in status.get("containerStatuses") or []]
    if phase in ("Succeeded", "Failed"):
        ended = (states[0].get("terminated") or {}) if states else {}
        code = ended.get("exitCode")
        if log == OUTPUT and code in (0, EXIT_CODE):
            return ""
        said = ended.get("message") or status.get("message") or status.get("reason") or ""
        return f"it ended with {code} and printed {log[:80]!r}; {said}".strip("; ")
    waiting = [state["waiting"] for state in states if state.get("waiting")]
    if waiting and waiting[0].get("reason") not in PATIENT:
        return "{reason}: {message}".format(**{"reason": "", "message": "", **waiting[0]})
    return None


class Probes:
    """Runs probe pods in one namespace."""

    def __init__(self, api, namespace, timeout):
        self.api = api
        self.timeout = timeout
        self.namespace = namespace
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.memory = f"/api/v1/namespaces/{namespace}/configmaps/{PROOFS}"

    def prepare(self):
        """Make the namespace where it is not there; returns whether it was made. One that is going is waited for."""
        path, deadline = "/api/v1/namespaces/" + self.namespace, time.monotonic() + self.timeout
        while (present := self.api.json("GET", path, missing_ok=True)) is not None:
            if not present["metadata"].get("deletionTimestamp") or time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        metadata = {"name": self.namespace, "labels": {**MANAGED, **RESTRICTED}}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self.api.json("POST", "/api/v1/namespaces", body)
        return True

    def proofs(self):
        """{"node/class": {"mark", "at"}} of what was proved earlier."""
        found = self.api.json("GET", self.memory, missing_ok=True)
        try:
            value = json.loads(((found or {}).get("data") or {}).get("proofs", "{}"))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def remember(self, proofs):
        """Write down what is proved."""
        body = {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": PROOFS, "namespace": self.namespace, "labels": MANAGED},
            "data": {"proofs": json.dumps(proofs, sort_keys=True)},
        }
        query = self.memory + "?fieldManager=skerry&force=true"
        self.api.json("PATCH", query, body, "application/apply-patch+yaml")

    def log(self, name):
        """What a pod printed; '' when there is nothing to be had."""
        status, text = self.api.ask("GET", f"{self.pods}/{name}/log?limitBytes=4096")
        return text if status == 200 else ""

    def events(self, name):
        """What was told of a pod, the latest last."""
        query = urllib.parse.quote(f"involvedObject.name={name}")
        found = self.api.json("GET", f"/api/v1/namespaces/{self.namespace}/events?fieldSelector={query}")["items"]
        found.sort(key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or "")
        return [item.get("message", "") for item in found if item.get("type") == "Warning"]

    def delete(self, name):
        """Remove a pod and wait until its name is free."""
        body = {"gracePeriodSeconds": 0}
        deadline = time.monotonic() + 30
        while self.api.json("DELETE", f"{self.pods}/{name}", body, missing_ok=True) is not None:
            if time.monotonic() > deadline:
                return
            time.sleep(0.2)

    def _create(self, due):
        """Create pods one after the other; {(node, class): reason} of those that were refused."""
        refused = {}
        for node, runtime_class in due:
            self.delete(pod_name(node, runtime_class))
            try:
                self._post(pod(node, runtime_class, self.namespace))
            except K3sError as error:
                refused[node, runtime_class] = error.cause
        return refused

    def _post(self, body):
        """Create a pod; a namespace that was just made has its service account a moment later."""
        for attempt in range(20):
            try:
                self.api.json("POST", self.pods, body)
            except K3sError as error:
                if "serviceaccount" not in error.cause or attempt == 19:
                    raise
                time.sleep(0.25)
            else:
                return

    def run(self, due):
        """Run a pod for each (node, class), all at once: {(node, class): '' or what went wrong}."""
        results = self._create(due)
        open_ones = [pair for pair in due if pair not in results]
        begun = time.monotonic()
        deadline = begun + self.timeout
        last = {}
        try:
            while open_ones:
                items = {item["metadata"]["name"]: item for item in self.api.json("GET", self.pods)["items"]}
                for pair in list(open_ones):
                    self._look(pair, items.get(pod_name(*pair)), results, last)
                if time.monotonic() - begun > SANDBOX_PATIENCE:
                    self._give_up(open_ones, results)
                open_ones = [pair for pair in open_ones if pair not in results]
                if open_ones and time.monotonic() > deadline:
                    results.update({pair: self._late(pair, last.get(pair)) for pair in open_ones})
                    break
                if open_ones:
                    time.sleep(0.4 if time.monotonic() - begun < SANDBOX_PATIENCE else 2)
        finally:
            self._tidy(due)
        return results

    def _look(self, pair, item, results, last):
        name = pod_name(*pair)
        if item is None:
            results[pair] = "the pod is gone: somebody deleted it, or its node is not there"
            return
        status = item.get("status") or {}
        last[pair] = status
        ended = status.get("phase") in ("Succeeded", "Failed")
        found = verdict(status, self.log(name) if ended else "")
        if found and not ended:
            found = (self.events(name) or [found])[-1]
        if found is not None:
            results[pair] = found

    def _give_up(self, pairs, results):
        """Do not wait for sandboxes that the runtime fails to make."""
        for pair in pairs:
            found = "" if pair in results else hopeless(self.events(pod_name(*pair)))
            if found:
                results[pair] = found

    def _late(self, pair, status):
        words = self.events(pod_name(*pair))
        phase = (status or {}).get("phase", "unknown")
        return "not done within {} s (phase {}): {}".format(self.timeout, phase, words[-1] if words else "no event")

    def _tidy(self, due):
        for node, runtime_class in due:
            try:
                path = f"{self.pods}/{pod_name(node, runtime_class)}"
                self.api.json("DELETE", path, {"gracePeriodSeconds": 0}, missing_ok=True)
            except (UnavailableError, K3sError):
                continue  # what was found out counts; the next run removes the pod before it makes its own
