"""The proof of a shared volume: two pods on two nodes, each reads what the other wrote.

Runs on hosts with Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import time

from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import Objects
from ansible_collections.skerry.edge.plugins.module_utils.kube_rollout import Watch

LABELS = {"app.kubernetes.io/managed-by": "skerry", "app.kubernetes.io/name": "skerry-storage-proof"}
NOBODY = 65534
#: Each pod writes its own file and waits for the other's: both have the volume at the same time. Names are looked up
#: through a listing, since a client may keep it in mind for a minute that a file does not exist.
SCRIPT = """
set -e
printf '%s' "$MINE" > "/data/$ME"
i=0
until ls /data | grep -q "^$OTHER$"; do
  i=$((i + 1))
  if [ "$i" -gt "$PATIENCE" ]; then echo "the file of $OTHER does not show up"; exit 1; fi
  sleep 1
done
sleep 1
cat "/data/$OTHER"
"""


def usable(node):
    """Whether a node is Ready and takes pods."""
    conditions = {item["type"]: item["status"] for item in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not node.get("spec", {}).get("unschedulable")


def claim(name, namespace, storage_class, size):
    """The volume claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "labels": LABELS},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        },
    }


def pod(name, namespace, node, image, volume, words):
    """A pod of the proof; ``words``: me, other, mine, patience. It keeps to Pod Security's profile "restricted"."""
    environment = {key.upper(): str(value) for key, value in words.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": LABELS},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            # Not nodeName: volumes that wait for their first consumer are bound by the scheduler.
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": NOBODY,
                "runAsGroup": NOBODY,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "proof",
                    "image": image,
                    "command": ["sh", "-c", SCRIPT],
                    "env": [{"name": key, "value": value} for key, value in environment.items()],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": volume}}],
        },
    }


class Proof:
    """One proof; ``options``: storage_class, namespace, image, size, nodes (names, empty for all), timeout."""

    def __init__(self, api, options, sleep=time.sleep, clock=time.monotonic):
        self.api, self.options = api, options
        self.sleep, self.clock = sleep, clock
        self.watch = Watch(Objects(api, False))
        self.token = os.urandom(4).hex()
        self.folder = f"/api/v1/namespaces/{options['namespace']}"

    def nodes(self):
        """Two nodes, or one twice where there are no more. Raises K3sError STORAGE_001."""
        wanted = self.options["nodes"]
        names = [
            node["metadata"].get("labels", {}).get("kubernetes.io/hostname", node["metadata"]["name"])
            for node in self.api.json("GET", "/api/v1/nodes")["items"]
            if usable(node) and (not wanted or node["metadata"]["name"] in wanted)
        ]
        if not names:
            raise K3sError(
                "STORAGE_001",
                "no node is Ready that could mount a volume of class {storage_class}".format(**self.options),
                "see `kubectl get nodes`",
            )
        return [names[0], names[-1]]

    def run(self):
        """Prove it and clean up; returns {"nodes", "seconds"}. Raises K3sError STORAGE_002."""
        start = self.clock()
        first, second = self.nodes()
        volume = f"skerry-proof-{self.token}"
        names = [f"{volume}-a", f"{volume}-b"]
        namespace, image = self.options["namespace"], self.options["image"]
        try:
            self.api.json(
                "POST",
                self.folder + "/persistentvolumeclaims",
                claim(volume, namespace, self.options["storage_class"], self.options["size"]),
            )
            for number, node in enumerate((first, second)):
                words = {
                    "me": "ab"[number],
                    "other": "ba"[number],
                    "mine": f"{self.token} by {'ab'[number]}",
                    # It gives up before we do, and says what it missed.
                    "patience": max(5, self.options["timeout"] - 10),
                }
                self.api.json("POST", self.folder + "/pods", pod(names[number], namespace, node, image, volume, words))
            for number, name in enumerate(names):
                self.succeeded(name, volume, start, f"{self.token} by {'ba'[number]}")
            return {"nodes": [first, second], "seconds": round(self.clock() - start, 1)}
        finally:
            self.clean(volume, names)

    def succeeded(self, name, volume, start, expected):
        """Wait until a pod has read what the other wrote. Raises K3sError STORAGE_002."""
        while True:
            found = self.api.json("GET", f"{self.folder}/pods/{name}", missing_ok=True) or {"status": {}}
            phase = found["status"].get("phase")
            if phase == "Succeeded":
                lines = self.watch.log(self.options["namespace"], name, "proof")
                if lines[-1:] == [expected]:
                    return
                raise self.failure(name, volume, f"read {lines[-1:]} where {expected!r} was written")
            if phase == "Failed" or self.clock() - start > self.options["timeout"]:
                raise self.failure(name, volume, "failed" if phase == "Failed" else f"is {phase} after the time given")
            self.sleep(0.5)

    def failure(self, name, volume, what):
        """The error to end with: what pod and claim say."""
        namespace, lines = self.options["namespace"], []
        found = self.api.json("GET", f"{self.folder}/pods/{name}", missing_ok=True)
        lines += self.watch.pod_story(found) if found else []
        lines += self.watch.log(namespace, name, "proof") if found else []
        if (found or {}).get("status", {}).get("phase") in (None, "Pending"):
            lines += self.watch.events(namespace, name)
        bound = self.api.json("GET", f"{self.folder}/persistentvolumeclaims/{volume}", missing_ok=True)
        state = (bound or {}).get("status", {}).get("phase", "gone")
        if state != "Bound":
            lines += [f"claim {volume} is {state}", *self.watch.events(namespace, volume)]
        story = "".join("\n  " + line for line in dict.fromkeys(lines))
        return K3sError(
            "STORAGE_002",
            f"no volume of class {self.options['storage_class']} is shared by two nodes: pod {name} {what}{story}",
            "mount errors: NFS client packages and kernel modules on that node (playbooks/platform.yml installs the "
            "packages); Pending: the provisioner's pod and its own volume",
        )

    def clean(self, volume, names):
        """Remove what was made; the volume goes when the pods are gone."""
        for name in names:
            self.api.json("DELETE", f"{self.folder}/pods/{name}", {"gracePeriodSeconds": 0}, missing_ok=True)
        self.api.json("DELETE", f"{self.folder}/persistentvolumeclaims/{volume}", missing_ok=True)


def users(api, storage_class):
    """(claims of a class as [{"namespace", "name"}], names of the pods that have one of them mounted)."""
    claims = [
        {"namespace": item["metadata"]["namespace"], "name": item["metadata"]["name"]}
        for item in api.json("GET", "/api/v1/persistentvolumeclaims")["items"]
        if item["spec"].get("storageClassName") == storage_class
    ]
    wanted = {(item["namespace"], item["name"]) for item in claims}
    pods = []
    for item in api.json("GET", "/api/v1/pods")["items"] if wanted else []:
        namespace = item["metadata"]["namespace"]
        volumes = [row.get("persistentVolumeClaim", {}).get("claimName") for row in item["spec"].get("volumes", [])]
        running = item["status"].get("phase") in ("Pending", "Running")
        if running and any((namespace, name) in wanted for name in volumes):
            pods.append(f"{namespace}/{item['metadata']['name']}")
    return claims, sorted(pods)
