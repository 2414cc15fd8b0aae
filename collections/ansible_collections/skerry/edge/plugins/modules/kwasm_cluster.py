#!/usr/bin/python
"""A cluster's part of the providers of wasm runtimes (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kwasm_cluster
short_description: A cluster's part of the providers of wasm runtimes
description:
  - Runs on a server; knows the KWasm operator and the runtime-class-manager.
  - C(looked) finds which of them are there. C(released) has a runtime-class-manager take its shims back, before its
    chart goes. C(cleaned) removes what a provider's chart leaves behind, of nodes too. C(provisioned) has nodes
    provisioned and waits.
options:
  state:
    description: What to do.
    type: str
    choices: [looked, released, cleaned, provisioned]
    default: looked
  provider:
    description: The provider that is meant; not for C(looked).
    type: str
    choices: [runtime_class_manager, kwasm_operator]
  releases:
    description: Names of the releases by provider.
    type: dict
    default: {runtime_class_manager: runtime-class-manager, kwasm_operator: kwasm-operator}
  archs:
    description: Architectures of the nodes that the operator shall provision; others are released.
    type: list
    elements: str
    default: [amd64, arm64]
  timeout:
    description: Seconds that it may take.
    type: int
    default: 300
extends_documentation_fragment:
  - skerry.edge.attributes
  - skerry.edge.api
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: See which providers are in the cluster
  skerry.edge.kwasm_cluster:
  register: __kwasm_found
"""

RETURN = r"""
installed:
  description: With C(looked), providers of which something is there.
  returned: success
  type: list
  elements: str
foreign:
  description: With C(looked), providers that somebody else installed, as C(provider in namespace).
  returned: success
  type: list
  elements: str
done:
  description: What was done.
  returned: success
  type: list
  elements: str
"""

import time
import urllib.parse

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

NAMES = {"runtime_class_manager": "runtime-class-manager", "kwasm_operator": "kwasm-operator"}
CHARTS = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts/"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/shims.runtime.spinkube.dev"
SHIMS = "/apis/runtime.spinkube.dev/v1alpha1/shims"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
JOBS = "/apis/batch/v1/jobs?labelSelector=" + urllib.parse.quote("kwasm.sh/job=true")
ASKED = "kwasm.sh/kwasm-node"
PROVISIONED = "kwasm.sh/kwasm-provisioned"
#: Values of the labels that the runtime-class-manager gives nodes, one label for each shim.
SHIM_STATES = ("pending", "provisioned", "uninstall", "failed")
MERGE = "application/merge-patch+json"


class Cluster:
    """One run of the module."""

    def __init__(self, module, api):
        self.params = module.params
        self.check = module.check_mode
        self.api = api
        self.done = []
        self.deadline = time.monotonic() + module.params["timeout"]

    def change(self, what, method, path, body=None, kind="application/json"):
        """Note a change and, outside check mode, make it."""
        self.done.append(what)
        if not self.check:
            self.api.json(method, path, body, kind, missing_ok=True)

    def nodes(self):
        """All nodes."""
        return self.api.json("GET", "/api/v1/nodes")["items"]

    def items(self, path):
        """Items of a list; [] where the API does not have the kind."""
        return (self.api.json("GET", path, missing_ok=True) or {}).get("items") or []

    def late(self):
        """Whether the time is up."""
        return time.monotonic() > self.deadline

    # -- what is there ---------------------------------------------------------------------------------------------

    def looked(self):
        """Find providers: our HelmCharts, what a removal left behind, and deployments of others."""
        installed, foreign = set(), []
        for provider, release in self.params["releases"].items():
            if self.api.json("GET", CHARTS + release, missing_ok=True) is not None:
                installed.add(provider)
                continue
            query = urllib.parse.quote("app.kubernetes.io/name=" + NAMES[provider])
            found = self.items("/apis/apps/v1/deployments?labelSelector=" + query)
            foreign += ["{} in {}".format(provider, item["metadata"]["namespace"]) for item in found]
        if self.api.json("GET", CRD, missing_ok=True) is not None:
            installed.add("runtime_class_manager")
        marked = [node for node in self.nodes() if self.operators(node) != ({}, {})]
        if marked or self.items(JOBS):
            installed.add("kwasm_operator")
        return {"installed": sorted(installed), "foreign": sorted(foreign)}

    @staticmethod
    def operators(node):
        """(annotations, labels) of the operator on a node."""
        metadata = node["metadata"]
        annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key == ASKED}
        labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key == PROVISIONED}
        return annotations, labels

    # -- taking a provider back ------------------------------------------------------------------------------------

    def released(self):
        """Have the runtime-class-manager take its shims back; without a living one its finalizers are removed."""
        shims = self.items(SHIMS)
        for item in shims:
            self.change("delete Shim " + item["metadata"]["name"], "DELETE", SHIMS + "/" + item["metadata"]["name"])
        while not self.check and (left := self.items(SHIMS)):
            if self.late():
                for item in left:
                    name = item["metadata"]["name"]
                    # Its nodes are cleaned by the role itself afterwards.
                    body = {"metadata": {"finalizers": None}}
                    self.change("release Shim " + name, "PATCH", SHIMS + "/" + name, body, MERGE)
                break
            time.sleep(1)
        self.shim_traces([item["metadata"]["name"] for item in shims])
        return {}

    def shim_traces(self, names):
        """Remove node labels and RuntimeClasses of shims."""
        for node in self.nodes():
            labels = node["metadata"].get("labels") or {}
            ours = {name: None for name in names if labels.get(name) in SHIM_STATES}
            if ours:
                path = "/api/v1/nodes/" + node["metadata"]["name"]
                what = "unlabel node {}: {}".format(node["metadata"]["name"], ", ".join(sorted(ours)))
                self.change(what, "PATCH", path, {"metadata": {"labels": ours}}, MERGE)
        for item in self.items(CLASSES):
            selector = ((item.get("scheduling") or {}).get("nodeSelector")) or {}
            if any(selector.get(name) == "provisioned" for name in names):
                name = item["metadata"]["name"]
                self.change("delete RuntimeClass " + name, "DELETE", CLASSES + "/" + name)

    def cleaned(self):
        """Remove what the chart of a provider leaves behind."""
        if self.params["provider"] == "runtime_class_manager":
            if self.api.json("GET", CRD, missing_ok=True) is not None:
                self.change("delete the kind Shim", "DELETE", CRD)
            return {}
        for job in self.items(JOBS):
            path = "/apis/batch/v1/namespaces/{namespace}/jobs/{name}".format(**job["metadata"])
            body = {"propagationPolicy": "Background"}
            self.change("delete Job {namespace}/{name}".format(**job["metadata"]), "DELETE", path, body)
        for node in self.nodes():
            self.unmark(node)
        return {}

    def unmark(self, node):
        """Take the operator's annotation and label from a node."""
        annotations, labels = self.operators(node)
        if annotations or labels:
            name = node["metadata"]["name"]
            body = {"metadata": {"annotations": dict.fromkeys(annotations), "labels": dict.fromkeys(labels)}}
            self.change("unmark node " + name, "PATCH", "/api/v1/nodes/" + name, body, MERGE)

    # -- having nodes provisioned ----------------------------------------------------------------------------------

    def provisioned(self):
        """Have nodes provisioned and wait until they are."""
        waiting = self.operator_waits if self.params["provider"] == "kwasm_operator" else self.manager_waits
        if self.params["provider"] == "kwasm_operator":
            self.mark()
        while not self.check:
            left = waiting()
            if not left:
                break
            if self.late():
                raise K3sError(
                    "RUNTIME_015",
                    "{} did not provision within {} s: {}".format(
                        NAMES[self.params["provider"]], self.params["timeout"], "; ".join(left)[:800]
                    ),
                    "see `kubectl get jobs,pods -A` and the provider's log; kwasm_provider: native needs no images",
                )
            time.sleep(1)
        return {}

    def suits(self, node):
        """Whether the operator has shims for a node."""
        return (node["metadata"].get("labels") or {}).get("kubernetes.io/arch") in self.params["archs"]

    def mark(self):
        """Ask the operator for the wanted nodes, and for no others."""
        for node in self.nodes():
            name, annotations = node["metadata"]["name"], self.operators(node)[0]
            if not self.suits(node):
                self.unmark(node)
            elif annotations.get(ASKED) != "true":
                body = {"metadata": {"annotations": {ASKED: "true"}}}
                self.change("mark node " + name, "PATCH", "/api/v1/nodes/" + name, body, MERGE)

    def operator_waits(self):
        """Nodes that the operator has not provisioned yet, with what their jobs say."""
        jobs = {item["metadata"]["name"]: item.get("status") or {} for item in self.items(JOBS)}
        left = []
        for node in self.nodes():
            name = node["metadata"]["name"]
            if self.suits(node) and not self.operators(node)[1]:
                status = jobs.get(name + "-provision-kwasm")
                failed = (status or {}).get("failed")
                said = "no job" if status is None else f"{failed} failed" if failed else "job at work"
                left.append(f"{name} ({said})")
        return left

    def manager_waits(self):
        """Shims whose nodes are not all ready."""
        left = []
        for item in self.items(SHIMS):
            status = item.get("status") or {}
            nodes, ready = int(status.get("nodes") or 0), int(status.get("nodesReady") or 0)
            if not nodes or ready < nodes:
                left.append("{} ({}/{} nodes)".format(item["metadata"]["name"], ready, nodes))
        return left


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["looked", "released", "cleaned", "provisioned"], "default": "looked"},
            "provider": {"type": "str", "choices": sorted(NAMES)},
            "releases": {"type": "dict", "default": NAMES},
            "archs": {"type": "list", "elements": "str", "default": ["amd64", "arm64"]},
            "timeout": {"type": "int", "default": 300},
            "port": {"type": "int", "default": 6443},
        },
        required_if=[(("state"), word, ("provider",)) for word in ("released", "cleaned", "provisioned")],
        supports_check_mode=True,
    )
    work = Cluster(module, Api("server", module.params["port"]))
    try:
        found = getattr(work, module.params["state"])()
    except UnavailableError as error:
        if module.check_mode:
            module.exit_json(changed=False, installed=[], foreign=[], done=[], msg=f"the API cannot be asked: {error}")
        silent = K3sError("RUNTIME_014", f"the API does not answer: {error}", "see systemctl status k3s on this server")
        module.fail_json(**silent.as_result())
    except K3sError as error:
        module.fail_json(**error.as_result())
    diff = {"before": "", "after": "".join(f"{line}\n" for line in work.done)}
    result = {"changed": bool(work.done), "done": work.done, "installed": [], "foreign": [], "diff": diff}
    module.exit_json(**{**result, **found})


if __name__ == "__main__":
    main()
