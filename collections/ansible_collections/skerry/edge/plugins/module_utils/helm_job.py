"""HelmChart objects of k3s and the jobs that carry them out: written, waited for, explained when they fail.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import time

from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import APPLY, MANAGED, MANAGER
from ansible_collections.skerry.edge.plugins.module_utils.kube_rollout import STUCK, container_states

#: Where HelmChart objects and their jobs live; what they install goes to the target namespace.
SYSTEM = "kube-system"
VERSION = "helm.cattle.io/v1"
#: The job that a change makes obsolete: a Complete job with this uid says nothing about the present values.
REPLACES = "skerry.dev/replaces-job"
#: An object may have 1 MiB, the archive travels in base64, and the HelmChart holds more than the archive.
CONTENT_LIMIT = 768000
#: Keys of spec that are ours: one that is there without being wanted is removed.
OURS = (
    "targetNamespace", "chart", "chartContent", "repo", "version", "valuesContent", "valuesSecrets", "failurePolicy",
    "bootstrap", "jobImage", "timeout",
)  # fmt: skip
#: Restarts of the job's container, all ended by the same cause, after which waiting is given up.
ENOUGH_RESTARTS = 4
#: Looks, 0.3 s apart, for which a HelmChart must call itself failed.
ENOUGH_LOOKS = 10
#: code, pattern in the log, what it means, what to do; the ones that waiting cannot mend are final.
CAUSES = (
    (
        "CHART_003",
        r"values don't meet the specifications of the schema",
        "the chart refuses the values",
        "correct the values that the log names",
        True,
    ),
    (
        "CHART_006",
        r"invalid ownership metadata|cannot be imported into the current release",
        "objects of the same name exist already and belong to something else",
        "remove them, or choose another release name or namespace",
        True,
    ),
    (
        "CHART_007",
        r"another operation \(install/upgrade/rollback\) is in progress",
        "an earlier operation of Helm was interrupted",
        "delete the release's Secret of the status pending (kubectl get secrets -A -l owner=helm), then run again",
        False,
    ),
    (
        "CHART_002",
        r"no such host|failed to fetch|404 Not Found|looks like .* is not a valid chart repository|connection refused"
        r"|i/o timeout|failed to download|chart .* not found|no chart version found",
        "the chart cannot be fetched",
        "check repository, version and the servers' way to the internet (proxy), or set skerry_mirror",
        False,
    ),
    (
        "CHART_005",
        r"timed out waiting|context deadline exceeded|failed post-install|failed pre-install|failed post-upgrade",
        "what the chart installs did not come up in Helm's time",
        "see the pods of the release's namespace (kubectl get pods -A); on a slow host raise the component's timeout",
        False,
    ),
)


def go_duration(seconds):
    """Seconds as Go writes them (90 -> 1m30s): k3s writes the object again in that form."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{left}s"


def values_text(values):
    """Values as the text of valuesContent: JSON, which is YAML, with sorted keys."""
    return json.dumps(values, indent=2, sort_keys=True) + "\n" if values else ""


def archive_spec(archive, delivery, read=None):
    """The part of spec that hands a chart's archive over. Raises CHART_008."""
    if delivery == "static":
        # The job's script puts address and port of the API in.
        return {"chart": "https://%{KUBERNETES_API}%/static/charts/" + archive.rsplit("/", 1)[-1]}
    try:
        content = (read or _read)(archive)
    except OSError as error:
        raise K3sError(
            "CHART_008",
            f"the chart's archive {archive} cannot be read: {error.strerror}",
            "run again without --skip-tags and --tags: the role places it first",
        ) from error
    if len(content) > CONTENT_LIMIT:
        raise K3sError(
            "CHART_008",
            f"{archive} has {len(content)} bytes, an object holds {CONTENT_LIMIT}",
            "set helm_chart_delivery: static",
        )
    return {"chartContent": base64.b64encode(content).decode()}


def _read(path):
    with open(path, "rb") as stream:
        return stream.read()


def chart_spec(params, content, secret_name):
    """spec of the HelmChart; keys without a value are left out."""
    chart, repo = params["chart"], "" if content else params["repo"]
    if repo.startswith("oci://"):
        chart, repo = repo.rstrip("/") + "/" + chart, ""
    spec = {
        "targetNamespace": params["namespace"],
        "chart": chart,
        "version": params["version"],
        "repo": repo,
        "valuesContent": values_text(params["values"]),
        "valuesSecrets": [{"name": secret_name, "keys": ["values"]}] if secret_name else [],
        "failurePolicy": params["failure_policy"],
        "bootstrap": params["bootstrap"],
        "jobImage": params["job_image"],
        "timeout": go_duration(params["timeout"]),
        **content,
    }
    return {key: value for key, value in spec.items() if value not in ("", [], False, None)}


def same_spec(present, wanted):
    """Whether what is ours in a HelmChart is as wanted; what others added does not count, nor a patience of Helm."""
    ours = [key for key in OURS if key != "timeout"]
    return all(present.get(key) == wanted.get(key) for key in ours)


def shown(chart):
    """A HelmChart for a diff: values as a tree, the archive as its digest."""
    result = copy.deepcopy(chart)
    text = (result.get("spec") or {}).get("valuesContent")
    if text:
        try:
            result["spec"]["valuesContent"] = json.loads(text)
        except ValueError:  # written by somebody else, in other YAML
            result["spec"]["valuesContent"] = text.splitlines()
    content = (result.get("spec") or {}).get("chartContent")
    if content:
        archive = base64.b64decode(content)
        digest = hashlib.sha256(archive).hexdigest()
        result["spec"]["chartContent"] = f"archive of {len(archive)} bytes, sha256:{digest}"
    (result.get("metadata", {}).get("annotations") or {}).pop(REPLACES, None)
    return result


def manifest(name, spec, replaced):
    """The HelmChart that is applied."""
    note = {REPLACES: replaced} if replaced else {}
    metadata = {"name": name, "namespace": SYSTEM, "labels": MANAGED, "annotations": note}
    return {"apiVersion": VERSION, "kind": "HelmChart", "metadata": metadata, "spec": spec}


class Release:
    """The HelmChart of one name and its job."""

    def __init__(self, objects, watch, name):
        self.objects, self.api, self.watch, self.name = objects, objects.api, watch, name
        self.reference = {"apiVersion": VERSION, "kind": "HelmChart", "namespace": SYSTEM, "name": name}
        self._failures = 0

    def job(self, action="install"):
        """The job of an action, or None."""
        path = f"/apis/batch/v1/namespaces/{SYSTEM}/jobs/helm-{action}-{self.name}"
        return self.api.json("GET", path, missing_ok=True)

    def write(self, present, spec):
        """Apply the HelmChart, noting which job this makes obsolete."""
        old = self.job()
        path = self.objects.kinds.path(self.reference)
        if path is None:
            raise K3sError(
                "CHART_009",
                "the cluster has no kind HelmChart: its Helm controller is switched off",
                "take disable-helm-controller out of k3s_server_config",
            )
        uid = old["metadata"]["uid"] if old else ""
        if present is not None and not uid:
            uid = (present["metadata"].get("annotations") or {}).get(REPLACES, "")
        wanted = manifest(self.name, spec, uid)
        self.api.json("PATCH", f"{path}?fieldManager={MANAGER}&force=true", wanted, APPLY)

    def wait(self, deadline, sleep=time.sleep, clock=time.monotonic):
        """Wait for the job of the present HelmChart. Raises CHART_001 to CHART_007 and CHART_011."""
        looked = clock()
        while True:
            why = "the API does not answer"
            try:
                why = self._unfinished()
                if not why:
                    return
                if clock() - looked >= 2:
                    looked = clock()
                    self._give_up_early("install")
            except UnavailableError as error:
                why = f"the API does not answer: {error}"
            if clock() >= deadline:
                raise self.failure("install", why)
            sleep(0.3)

    def _unfinished(self):
        """Why the job is not done; "" when it is. Raises when it failed for good."""
        chart, job = self.objects.get(self.reference), self.job()
        if chart is None:
            return "the HelmChart is gone"
        obsolete = (chart["metadata"].get("annotations") or {}).get(REPLACES, "")
        if job is None or job["metadata"]["uid"] == obsolete:
            return "k3s's Helm controller has not made the job yet"
        for condition in (job.get("status") or {}).get("conditions") or []:
            if condition.get("type") == "Complete" and condition.get("status") == "True":
                return ""
            if condition.get("type") == "Failed" and condition.get("status") == "True":
                raise self.failure("install", condition.get("message") or "the job failed")
        self._given_up(chart)
        return "the job has not ended"

    def _given_up(self, chart):
        """Believe k3s that it gave up once it says so for a while: its first words may be those about a former job."""
        found = [
            condition.get("message") or "k3s gave up"
            for condition in (chart.get("status") or {}).get("conditions") or []
            if condition.get("type") == "Failed" and condition.get("status") == "True"
        ]
        self._failures = self._failures + 1 if found else 0
        if self._failures > ENOUGH_LOOKS:
            raise self.failure("install", found[0])

    # -- when it fails ---------------------------------------------------------------------------------------------

    def _pods(self, action):
        found = self.watch.pods(SYSTEM, {"batch.kubernetes.io/job-name": f"helm-{action}-{self.name}"})
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def _give_up_early(self, action):
        """End the wait when time will not mend what ended the job's container."""
        for pod in self._pods(action)[:1]:
            for state in container_states(pod):
                if state["reason"] in STUCK:
                    raise self.failure(action, state["text"])
                if state["restarts"] < 1 or state["well"]:
                    continue
                known = diagnose("\n".join(self._log(pod, state)))
                if (known and known[4] and state["restarts"] > 1) or state["restarts"] >= ENOUGH_RESTARTS:
                    raise self.failure(action, state["text"])

    def _log(self, pod, state):
        return self.watch.log(SYSTEM, pod["metadata"]["name"], state["name"], state["restarts"] > 0)

    def failure(self, action, why):
        """The error to end with: what the job's pod, its log and the events say."""
        lines, log, images = [], [], []
        try:
            for pod in self._pods(action)[:1]:
                for state in container_states(pod):
                    log += self._log(pod, state)
                    if "Image" in state["reason"] or state["reason"] in STUCK:
                        images.append(state["text"])
                lines += self.watch.pod_story(pod)
            for name in (f"helm-{action}-{self.name}", self.name):
                lines += self.watch.events(SYSTEM, name)
        except (K3sError, UnavailableError) as error:
            lines.append(f"(more could not be read: {error})")
        known = diagnose("\n".join(log)) if not images else None
        story = "".join("\n  " + line for line in dict.fromkeys(lines))
        if images:
            return K3sError(
                "CHART_001",
                f"release {self.name}: the image of the Helm job cannot be had: {images[0]}{story}",
                "see whether the servers reach the registry, or bring the image along (docs/airgap.md)",
            )
        if known:
            return K3sError(known[0], f"release {self.name}: {known[2]} ({why}){story}", known[3])
        if not log:
            return K3sError(
                "CHART_011",
                f"release {self.name}: its Helm job does not run: {why}{story}",
                f"see kubectl -n {SYSTEM} describe job helm-{action}-{self.name}, and the log of k3s on the servers",
            )
        return K3sError(
            "CHART_004",
            f"release {self.name}: the Helm job failed ({why}){story}",
            f"mend what the log names, then run again (kubectl -n {SYSTEM} logs job/helm-{action}-{self.name})",
        )

    def remove(self, deadline, sleep=time.sleep, clock=time.monotonic):
        """Delete the HelmChart and wait until k3s has uninstalled the release. Raises what wait raises."""
        looked = clock()
        while True:
            why = "the uninstallation has not ended"
            try:
                if not self.objects.delete(self.reference):
                    return
                if clock() - looked >= 5:
                    looked = clock()
                    self._give_up_early("delete")
            except UnavailableError as error:
                why = f"the API does not answer: {error}"
            if clock() >= deadline:
                raise self.failure("delete", why)
            sleep(0.3)


def diagnose(log):
    """The first known cause in a log, or None."""
    for cause in CAUSES:
        if re.search(cause[1], log):
            return cause
    return None
