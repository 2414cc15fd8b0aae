"""The controller's side of rung pod: from a cluster's kubeconfig to a namespace and a token for one session.

The probe never sees the kubeconfig: it gets a token of a service account that may handle pods in the session's own
namespace, and remove that namespace, and nothing else.
"""

from __future__ import annotations

import base64
import functools
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.probe.faults import ProbeError
from skerry.probe.kube import Kube, KubeError, context

#: Seconds that a session's token lives; the API server may shorten it.
TOKEN_SECONDS = 6 * 3600
_ACCOUNT = "probe"
_RULES = [
    {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["create", "get", "list", "watch", "delete", "deletecollection"],
    },
    {"apiGroups": [""], "resources": ["pods/attach"], "verbs": ["create", "get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "delete"]},
]


@dataclass(frozen=True)
class Kubeconfig:
    """What a kubeconfig with a client certificate says. ``certificate`` and ``key`` are PEM."""

    server: str
    ca: str
    certificate: bytes
    key: bytes


def path_of(cluster: str) -> Path:
    """Where the role k3s puts the kubeconfig of a cluster."""
    return paths.state() / "kube" / f"{cluster}.yaml"


def read(path: Path) -> Kubeconfig:
    """The current context of a kubeconfig.

    Raises:
        SkerryError: TARGET_030, when it has not the form that k3s gives it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        chosen = next(entry["context"] for entry in content["contexts"] if entry["name"] == content["current-context"])
        cluster = next(entry["cluster"] for entry in content["clusters"] if entry["name"] == chosen["cluster"])
        user = next(entry["user"] for entry in content["users"] if entry["name"] == chosen["user"])
        return Kubeconfig(
            cluster["server"],
            base64.b64decode(cluster["certificate-authority-data"]).decode(),
            base64.b64decode(user["client-certificate-data"]),
            base64.b64decode(user["client-key-data"]),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration, ValueError) as error:
        raise SkerryError(
            "TARGET_030",
            f"the kubeconfig {path} cannot be used: {error!r}",
            "run playbooks/cluster.yml, which fetches it",
        ) from error


class Cluster:
    """One cluster's API server, spoken to with its administrator's certificate."""

    def __init__(self, config: Kubeconfig) -> None:
        self.config = config
        self.kube = Kube(config.server, context(config.ca, config.certificate, config.key), timeout=20)
        self._lock = threading.Lock()

    def reachable(self) -> str | None:
        """None, or why the API server does not serve."""
        try:
            with self._lock:
                self.kube.request("GET", "/api/v1/namespaces/kube-system", "answer")
        except ProbeError as error:
            return error.cause
        return None

    def place(self, session: str) -> dict[str, Any]:
        """Make a namespace for a session; what the probe needs to work in it.

        Raises:
            SkerryError: RUN_022 or RUN_023, when the API server does not do it.
        """
        namespace = f"skerry-run-{session}"
        meta = {"labels": {"app.kubernetes.io/managed-by": "skerry"}}
        base = f"/api/v1/namespaces/{namespace}"
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": _ACCOUNT}
        subject = {"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": namespace}
        token_request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        named: dict[str, Any] = {**meta, "name": _ACCOUNT}
        objects: list[tuple[str, dict[str, Any]]] = [
            ("/api/v1/namespaces", {"metadata": {**meta, "name": namespace}}),
            (f"{base}/serviceaccounts", {"metadata": named}),
            (f"{rbac}/roles", {"metadata": named, "rules": _RULES}),
            (f"{rbac}/rolebindings", {"metadata": named, "roleRef": role, "subjects": [subject]}),
        ]
        try:
            with self._lock:
                for path, body in objects:
                    self.kube.request("POST", path, f"make {path.rsplit('/', 1)[1]}", body)
                answer = self.kube.request(
                    "POST", f"{base}/serviceaccounts/{_ACCOUNT}/token", "give a token", token_request
                )
        except ProbeError as error:
            raise SkerryError(error.code, error.cause, error.remedy, Exit.FAILED) from error
        return {
            "server": self.config.server,
            "ca": self.config.ca,
            "namespace": namespace,
            "token": answer["status"]["token"],
        }

    def remove(self, session: str, seconds: float = 20.0) -> None:
        """See that a session's namespace goes: the probe has asked for it already, unless it was lost."""
        path = f"/api/v1/namespaces/skerry-run-{session}"
        deadline = time.monotonic() + seconds
        asked = False
        while time.monotonic() < deadline:
            try:
                with self._lock:
                    found = self.kube.request("GET", path, "look for the namespace")
                    if not asked and not found["metadata"].get("deletionTimestamp"):
                        self.kube.delete(path, "delete the namespace")
                    asked = True
            except KubeError as error:
                if error.status == 404:
                    return
                raise SkerryError(error.code, error.cause, error.remedy, Exit.FAILED) from error
            time.sleep(0.2)


@functools.cache
def cluster(name: str) -> Cluster | str:
    """The cluster of that name, or the reason why its pods cannot be made from here."""
    path = path_of(name)
    if not path.exists():
        return f"there is no kubeconfig of cluster {name} at {path} (playbooks/cluster.yml fetches it)"
    try:
        found = Cluster(read(path))
    except SkerryError as error:
        return error.cause
    return found.reachable() or found
