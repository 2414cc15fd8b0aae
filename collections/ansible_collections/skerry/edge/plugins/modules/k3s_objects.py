#!/usr/bin/python
"""Bring labels, taints and RuntimeClasses of a cluster into the inventory's state (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_objects
short_description: Bring labels, taints and RuntimeClasses of a cluster into the inventory's state
description:
  - Runs on a server. k3s takes labels and taints of its configuration only when a node registers; this module sets them
    through the API whenever they differ, and removes those that it set earlier and that the inventory no longer has.
  - What it set is remembered in the annotations C(skerry.dev/labels) and C(skerry.dev/taints) of the node; labels and
    taints of others are never touched.
  - Nodes get the label C(skerry.dev/runtime-<handler>) for each wasm handler that was proved on them, and each
    handler gets a RuntimeClass whose pods land on such nodes only. RuntimeClasses of ours that no node can serve are
    removed.
options:
  nodes:
    description: The nodes; each has C(name), C(labels), C(taints), C(roles), C(handlers).
    type: list
    elements: dict
    required: true
  timeout:
    description: Seconds to wait for the API when it restarts in between.
    type: int
    default: 60
extends_documentation_fragment:
  - skerry.edge.attributes
  - skerry.edge.api
attributes:
  check_mode:
    description: Nothing is changed; without an API (a fresh host) everything counts as a change.
  diff_mode:
    description: Shows labels and taints.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Label the nodes
  skerry.edge.k3s_objects:
    nodes:
      - name: edge-1
        labels: {topology.kubernetes.io/region: eu}
        taints: ["dedicated=sensors:NoSchedule"]
        roles: [worker]
        handlers: [crun-wasm]
"""

RETURN = r"""
runtime_classes:
  description: RuntimeClasses of ours that the cluster has.
  returned: success
  type: list
  elements: str
kubeconfig:
  description: Path of the administrator's kubeconfig on this host.
  returned: success
  type: str
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError, unanswered
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError, check_labels, parse_taint

KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
OUR_LABELS = "skerry.dev/labels"
OUR_TAINTS = "skerry.dev/taints"
HANDLER = "skerry.dev/runtime-"
ROLE = "node-role.kubernetes.io/"
MANAGED = {"app.kubernetes.io/managed-by": "skerry"}
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
MERGE = "application/merge-patch+json"


def remembered(node, annotation):
    """What an annotation of ours lists; an empty list when it is absent or damaged."""
    try:
        value = json.loads(node["metadata"].get("annotations", {}).get(annotation, "[]"))
    except ValueError:
        return []
    return [str(item) for item in value] if isinstance(value, list) else []


def wanted_labels(spec):
    """All labels that the inventory gives a node."""
    labels = {str(key): str(value) for key, value in (spec.get("labels") or {}).items()}
    labels.update({ROLE + role: "true" for role in spec.get("roles") or []})
    labels.update({HANDLER + handler: "true" for handler in spec.get("handlers") or []})
    check_labels(labels)
    return labels


def label_patch(node, spec):
    """The part of a merge patch that brings labels into their state, {} when they are."""
    present = node["metadata"].get("labels", {})
    wanted = wanted_labels(spec)
    patch = {key: value for key, value in wanted.items() if present.get(key) != value}
    patch.update({key: None for key in remembered(node, OUR_LABELS) if key not in wanted and key in present})
    return patch


def taint_list(node, spec):
    """The whole list of taints that the node should have, or None when it has them."""
    present = node.get("spec", {}).get("taints") or []
    wanted = [parse_taint(text) for text in spec.get("taints") or []]
    names = {(taint["key"], taint["effect"]) for taint in wanted}
    ours = {tuple(item.rsplit(":", 1)) for item in remembered(node, OUR_TAINTS)} | names
    others = [taint for taint in present if (taint["key"], taint["effect"]) not in ours]
    kept = [taint for taint in present if (taint["key"], taint["effect"]) in ours]

    def plain(taints):
        return sorted((taint["key"], taint.get("value", ""), taint["effect"]) for taint in taints)

    return None if plain(kept) == plain(wanted) else others + wanted


def node_patch(node, spec):
    """The merge patch for a node, {} when it is as the inventory has it."""
    patch, metadata = {}, {}
    labels = label_patch(node, spec)
    if labels:
        metadata["labels"] = labels
    notes = {
        OUR_LABELS: json.dumps(sorted(wanted_labels(spec))),
        OUR_TAINTS: json.dumps(
            sorted("{key}:{effect}".format(**parse_taint(text)) for text in spec.get("taints") or [])
        ),
    }
    present = node["metadata"].get("annotations", {})
    changed = {key: value for key, value in notes.items() if present.get(key) != value}
    if changed:
        metadata["annotations"] = changed
    taints = taint_list(node, spec)
    if taints is not None:
        patch["spec"] = {"taints": taints}
        # A taint that another party adds in this moment must not be lost: the patch then fails and is made again.
        metadata["resourceVersion"] = node["metadata"].get("resourceVersion")
    if metadata:
        patch["metadata"] = metadata
    return patch


def runtime_class(handler):
    """The RuntimeClass of a handler: only nodes that proved it."""
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": handler, "labels": MANAGED},
        "handler": handler,
        "scheduling": {"nodeSelector": {HANDLER + handler: "true"}},
    }


def class_steps(classes, handlers):
    """[(method, path, body, name)] that bring the RuntimeClasses into their state.

    ``handlers`` are those that some node of the cluster proved. A class of that name that is not ours stays as it is.
    """
    present = {item["metadata"]["name"]: item for item in classes}
    steps = []
    for handler in sorted(handlers):
        wanted, found = runtime_class(handler), present.get(handler)
        if found is None:
            steps.append(("POST", CLASSES, wanted, handler))
        elif (found["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") != "skerry":
            continue
        elif (
            found.get("handler") != handler
            or found.get("scheduling", {}).get("nodeSelector") != wanted["scheduling"]["nodeSelector"]
        ):
            steps += [("DELETE", CLASSES + "/" + handler, None, handler), ("POST", CLASSES, wanted, handler)]
    for name, item in sorted(present.items()):
        ours = (item["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == "skerry"
        if ours and name not in handlers:
            steps.append(("DELETE", CLASSES + "/" + name, None, name))
    return steps


class Objects:
    """One run of the module."""

    def __init__(self, module, api):
        self.module = module
        self.api = api
        self.diff = []

    def nodes(self):
        """Patch the nodes; returns the handlers that some node of the whole cluster proves afterwards."""
        items = {item["metadata"]["name"]: item for item in self.api.json("GET", "/api/v1/nodes")["items"]}
        for spec in self.module.params["nodes"]:
            node = items.get(spec["name"])
            if node is None:
                if self.module.check_mode:
                    self.diff.append({"header": spec["name"], "before": "", "after": "a new node\n"})
                    continue
                raise K3sError(
                    "K3S_019",
                    "the cluster has no node {}".format(spec["name"]),
                    "see whether its k3s runs: systemctl status k3s k3s-agent",
                )
            self.node(node, spec)
        labels = [item["metadata"].get("labels", {}) for item in items.values()]
        return {key[len(HANDLER) :] for one in labels for key in one if key.startswith(HANDLER)}

    def node(self, node, spec):
        """Bring one node into its state; the item in memory follows."""
        for attempt in range(5):
            patch = node_patch(node, spec)
            if not patch:
                return
            path = "/api/v1/nodes/" + spec["name"]
            if attempt == 0:
                self.show(node, patch)
            if self.module.check_mode:
                break
            try:
                node.update(self.api.json("PATCH", path, patch, MERGE))
            except K3sError as error:
                if "modified" not in error.cause or attempt == 4:
                    raise
                node.update(self.api.json("GET", path))
        labels = node["metadata"].setdefault("labels", {})
        for key, value in (patch.get("metadata", {}).get("labels") or {}).items():
            labels.pop(key, None)
            if value is not None:
                labels[key] = value

    def show(self, node, patch):
        """Add a node's patch to the diff."""
        labels = (patch.get("metadata") or {}).get("labels") or {}
        before = {key: (node["metadata"].get("labels") or {}).get(key) for key in labels}
        after = dict(labels)
        if "spec" in patch:
            before["taints"] = node.get("spec", {}).get("taints") or []
            after["taints"] = patch["spec"]["taints"]

        def text(value):
            return json.dumps({k: v for k, v in value.items() if v is not None}, indent=1, sort_keys=True) + "\n"

        self.diff.append({"header": "node " + node["metadata"]["name"], "before": text(before), "after": text(after)})

    def classes(self, handlers):
        """Bring the RuntimeClasses into their state; returns the names of ours."""
        steps = class_steps(self.api.json("GET", CLASSES)["items"], handlers)
        for method, path, body, name in steps:
            if not self.module.check_mode:
                self.api.json(method, path, body)
            after = "" if body is None else json.dumps(body, indent=1, sort_keys=True) + "\n"
            self.diff.append({"header": "RuntimeClass " + name, "before": "", "after": after})
        return sorted(handlers)

    def run(self):
        """Do everything; returns the module's result."""
        classes = self.classes(self.nodes())
        return {"changed": bool(self.diff), "diff": self.diff, "runtime_classes": classes, "kubeconfig": KUBECONFIG}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "dict", "required": True},
            "port": {"type": "int", "default": 6443},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    deadline = time.monotonic() + (0 if module.check_mode else module.params["timeout"])
    shown = []
    while True:
        work = Objects(module, Api("server", module.params["port"]))
        try:
            result = work.run()
            result["diff"] = shown + result["diff"]
            result["changed"] = bool(result["diff"])
            module.exit_json(**result)
        except UnavailableError as error:
            shown += work.diff
            if module.check_mode:
                module.exit_json(changed=True, msg="no API yet", runtime_classes=[], kubeconfig=KUBECONFIG)
            if time.monotonic() >= deadline:
                module.fail_json(**unanswered(error).as_result())
            time.sleep(0.5)
        except K3sError as error:
            module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
