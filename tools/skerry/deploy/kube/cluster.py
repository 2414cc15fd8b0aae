"""One cluster's API through the official client: raw objects, server-side apply, lines of pods; errors with codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from skerry.errors import Exit, SkerryError
from skerry.status import kubeconfig

Object = dict[str, Any]

#: Where all pods of workloads live; the role security_baseline makes it, with the restricted standard and quotas.
NAMESPACE = "skerry-workloads"
#: Who owns the fields that are applied; a restart is another's (`Cluster.patch`), so that no apply takes it back.
MANAGER = "skerry"
MANAGED = {"app.kubernetes.io/managed-by": "skerry"}
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_PLACES = {
    "Secret": "api/v1 secrets", "ConfigMap": "api/v1 configmaps", "Service": "api/v1 services", "Pod": "api/v1 pods",
    "Deployment": "apis/apps/v1 deployments", "DaemonSet": "apis/apps/v1 daemonsets", "Job": "apis/batch/v1 jobs",
    "CronJob": "apis/batch/v1 cronjobs", "PodDisruptionBudget": "apis/policy/v1 poddisruptionbudgets",
    "NetworkPolicy": "apis/networking.k8s.io/v1 networkpolicies",
}  # fmt: skip


class RefusedError(SkerryError):
    """The API server said no; ``status`` is HTTP's."""

    def __init__(self, cluster: str, what: str, status: int, said: str) -> None:
        super().__init__("DEPLOY_081", f"cluster {cluster} does not {what}: {said}",
                         "mend what it names; docs/deploy.md says what pods need", Exit.FAILED)
        self.status = status


def place(kind: str, name: str = "", namespace: str = NAMESPACE) -> str:
    """The address of an object, or of all of a kind."""
    base, plural = _PLACES[kind].split()
    return f"/{base}/namespaces/{namespace}/{plural}" + (f"/{quote(name)}" if name else "")


def client_of(path: Path) -> ApiClient:
    """A client for a kubeconfig's current context.

    Raises:
        SkerryError: STATUS_003 when it cannot be used.
    """
    access = kubeconfig.read(path)
    access.context()  # certificates that cannot be read are told here, with the file's name
    setup = Configuration()
    config.load_kube_config(config_file=str(path), client_configuration=setup)
    setup.retries = False
    return ApiClient(setup)


class Cluster:
    """An API server; for several threads. Every call raises SkerryError: DEPLOY_080 when there is no answer,
    DEPLOY_081 (`RefusedError`) when the answer is no."""

    def __init__(self, name: str, path: Path, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self._client = client_of(path)

    def close(self) -> None:
        """End its connections."""
        self._client.rest_client.close()

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Any = None, kind: str = "application/json",
              seconds: float | tuple[float, float | None] | None = None) -> HTTPResponse:
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if body is not None else {})
        full = f"{path}?{urlencode(query)}" if query else path
        call = self._client.param_serialize(method, full, header_params=headers, auth_settings=["BearerToken"])
        try:
            answer = self._client.call_api(*call[:3], body=body, _request_timeout=seconds or self.seconds)
        except HTTPError as error:
            raise self._lost(error) from error
        response: HTTPResponse = answer.response
        return response

    def _lost(self, error: Exception) -> SkerryError:
        said = str(getattr(error, "reason", None) or error)
        where = self._client.configuration.host
        return SkerryError("DEPLOY_080", f"the API of cluster {self.name} at {where} does not answer: {said}",
                           "skerry doctor looks at the cluster; what runs there runs on", Exit.UNREACHABLE)

    def ask(self, method: str, path: str, what: str, body: Any = None, kind: str = "application/json",
            **query: str) -> Object:
        """One request; the decoded answer. ``what`` completes "the cluster does not ..."."""
        response = self._send(method, path, query, body, kind)
        try:
            data = response.data
        except HTTPError as error:
            raise self._lost(error) from error
        try:
            found: Object = json.loads(data)
        except ValueError:
            found = {"message": data.decode("utf-8", "replace")[:500]}
        if response.status >= 400:
            raise RefusedError(self.name, what, response.status, str(found.get("message") or response.status))
        return found

    def find(self, kind: str, name: str) -> Object | None:
        """An object, None when there is none."""
        try:
            return self.ask("GET", place(kind, name), f"show {kind} {name}")
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def every(self, kind: str, **labels: str) -> list[Object]:
        """Objects of a kind in the namespace of workloads; ``labels`` with / and . written as they are."""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}
        found = self.ask("GET", place(kind), f"list its {kind} objects", **query)
        # Items of a list come without what they are.
        return [{"kind": kind, **one} for one in found["items"]]

    def nodes(self) -> list[Object]:
        """The cluster's nodes."""
        found: list[Object] = self.ask("GET", "/api/v1/nodes", "list its nodes")["items"]
        return found

    def has_namespace(self) -> bool:
        """Whether the namespace of workloads is there."""
        try:
            self.ask("GET", f"/api/v1/namespaces/{NAMESPACE}", "show its namespaces")
        except RefusedError as error:
            if error.status == 404:
                return False
            raise
        return True

    def make_namespace(self) -> None:
        """Make the namespace of workloads; pods that fall short of the restricted standard are refused there."""
        labels = {**MANAGED, "pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
        try:
            self.ask("POST", "/api/v1/namespaces", "make a namespace", body, fieldManager=MANAGER)
        except RefusedError as error:
            if error.status != 409:  # somebody else was faster
                raise

    def apply(self, item: Object, dry_run: bool = False, namespace: str = NAMESPACE) -> Object:
        """Server-side apply of one of our own objects: fields that it names become ours, all others stay."""
        kind, name = item["kind"], item["metadata"]["name"]
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self.ask("PATCH", place(kind, name, namespace), f"take {kind} {name}", item, _APPLY, **query)

    def patch(self, kind: str, name: str, change: Object, manager: str) -> Object:
        """A merge patch whose fields belong to another manager than those of `apply`."""
        return self.ask("PATCH", place(kind, name), f"change {kind} {name}", change, _MERGE, fieldManager=manager)

    def create(self, item: Object) -> Object:
        """A new object under a name that nobody has."""
        kind, name = item["kind"], item["metadata"]["name"]
        return self.ask("POST", place(kind), f"make {kind} {name}", item, fieldManager=MANAGER)

    def replace(self, item: Object) -> Object:
        """Put an object in the place of the one of that version; 409 when it has changed since."""
        kind, name = item["kind"], item["metadata"]["name"]
        return self.ask("PUT", place(kind, name), f"replace {kind} {name}", item, fieldManager=MANAGER)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and what belongs to it; one that is gone is as wanted."""
        try:
            self.ask("DELETE", place(kind, name), f"delete {kind} {name}", {"propagationPolicy": "Background"})
        except RefusedError as error:
            if error.status != 404:
                raise

    def lines(self, pod: str, **query: str) -> Iterator[str]:
        """Lines of a pod as they come, each with its time before it; with ``follow`` until the pod ends."""
        quiet = None if "follow" in query else self.seconds
        path = f"{place('Pod', pod)}/log"
        response = self._send("GET", path, {"timestamps": "true", **query}, seconds=(self.seconds, quiet))
        if response.status >= 400:
            said = response.data.decode("utf-8", "replace")[:300]
            raise RefusedError(self.name, f"show the lines of pod {pod}", response.status, said)
        rest = b""
        try:
            for piece in response.stream(1 << 16, decode_content=True):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "replace")
        except HTTPError as error:
            raise self._lost(error) from error
        finally:
            response.close()
        if rest:
            yield rest.decode("utf-8", "replace")
