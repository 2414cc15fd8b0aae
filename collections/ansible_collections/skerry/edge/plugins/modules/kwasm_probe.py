#!/usr/bin/python
"""Prove wasm runtimes of a cluster with a pod each (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kwasm_probe
short_description: Prove wasm runtimes of a cluster with a pod each
description:
  - Runs on a server. For each node and each RuntimeClass that it can serve, a pod with a tiny module runs to its end,
    and what it printed is compared; all pods at once. The image lies on the nodes already (M(skerry.edge.kwasm_node)).
  - What was proved is remembered in the cluster with the mark that the node gave; as long as that stays the same and is
    not too old, no pod is run again.
options:
  nodes:
    description: The nodes; each has C(node) and C(handlers), as M(skerry.edge.kwasm_node) returns them.
    type: list
    elements: dict
    default: []
  again:
    description: Whether what was proved earlier is proved again.
    type: str
    choices: [changed, always]
    default: changed
  max_age:
    description: Seconds that a proof holds.
    type: int
    default: 86400
  namespace:
    description: Namespace of the pods; it is made with Pod Security C(restricted).
    type: str
    default: skerry-probe
  timeout:
    description: Seconds that the pods may take.
    type: int
    default: 90
  fail:
    description: Whether a runtime that cannot be proved fails the task (RUNTIME_013).
    type: bool
    default: true
  state:
    description: C(absent) removes the namespace.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
  - skerry.edge.api
attributes:
  check_mode:
    description: No pod is run; C(due) says which would be.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Prove the wasm runtimes
  skerry.edge.kwasm_probe:
    nodes: "{{ ansible_play_hosts | map('extract', hostvars, '__kwasm_node') | list }}"
"""

RETURN = r"""
due:
  description: Pairs C(node/class) that were (or would be) proved in this run.
  returned: success
  type: list
  elements: str
proved:
  description: Pairs C(node/class) that are proved.
  returned: success
  type: list
  elements: str
failed_probes:
  description: What went wrong, by C(node/class).
  returned: success
  type: dict
broken_nodes:
  description: Nodes with a runtime that could not be proved, or with a handler that no RuntimeClass names.
  returned: success
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kwasm_pods import CLASSES, Probes, classes_of


def wanted(api, nodes):
    """({(node, class): mark} that are to be proved, {node/handler: why} of what cannot be)."""
    known = {item["metadata"]["name"]: item for item in api.json("GET", "/api/v1/nodes")["items"]}
    classes = api.json("GET", CLASSES)["items"]
    pairs, lost = {}, {}
    for spec in nodes:
        name, handlers = spec.get("node") or "", spec.get("handlers") or {}
        if not name:
            continue
        if name not in known:
            lost[name] = "the cluster has no such node"
            continue
        found = classes_of(classes, known[name], handlers)
        pairs.update({(name, runtime_class): mark for runtime_class, mark in found.items()})
        served = {item.get("handler") for item in classes if item["metadata"]["name"] in found}
        for handler in sorted(set(handlers) - served):
            lost[f"{name}/{handler}"] = "no RuntimeClass of this handler admits the node"
    return pairs, lost


def fresh(proof, mark, params):
    """Whether an earlier proof still holds."""
    if params["again"] == "always" or not isinstance(proof, dict) or proof.get("mark") != mark:
        return False
    return 0 <= time.time() - proof.get("at", 0) < params["max_age"]


def prove(module, api):
    """The module's result."""
    params = module.params
    probes = Probes(api, params["namespace"], params["timeout"])
    pairs, lost = wanted(api, params["nodes"])
    proofs = probes.proofs()
    due = sorted(pair for pair, mark in pairs.items() if not fresh(proofs.get("/".join(pair)), mark, params))
    result = {"changed": False, "due": ["/".join(pair) for pair in due], "failed_probes": dict(lost), "proved": []}
    if due and not module.check_mode:
        result["changed"] = probes.prepare()
        for pair, wrong in probes.run(due).items():
            proofs.pop("/".join(pair), None)
            if wrong:
                result["failed_probes"]["/".join(pair)] = wrong
            else:
                proofs["/".join(pair)] = {"mark": pairs[pair], "at": int(time.time())}
        probes.remember({name: proof for name, proof in proofs.items() if tuple(name.split("/", 1)) in pairs})
    result["proved"] = sorted(name for name in proofs if tuple(name.split("/", 1)) in pairs)
    result["broken_nodes"] = sorted({name.split("/", 1)[0] for name in result["failed_probes"]})
    if result["failed_probes"] and params["fail"] and not module.check_mode:
        words = "; ".join(f"{name}: {why}" for name, why in sorted(result["failed_probes"].items()))
        raise K3sError(
            "RUNTIME_013",
            f"wasm pods do not run: {words}"[:1500],
            "look at `k3s ctr version` and `journalctl -u k3s -u k3s-agent` on these nodes; playbooks/hosts.yml proves "
            "the runtimes outside the cluster, kwasm_provider chooses who brings them",
        )
    return result


def remove(module, api):
    """Remove the namespace; the module's result."""
    path = "/api/v1/namespaces/" + module.params["namespace"]
    present = api.json("GET", path, missing_ok=True)
    metadata = (present or {}).get("metadata") or {}
    going = bool(metadata.get("deletionTimestamp"))
    ours = (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") == "skerry" and not going
    if ours and not module.check_mode:
        api.json("DELETE", path, missing_ok=True)
    return {"changed": ours, "due": [], "proved": [], "failed_probes": {}, "broken_nodes": []}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "dict", "default": []},
            "again": {"type": "str", "choices": ["changed", "always"], "default": "changed"},
            "max_age": {"type": "int", "default": 86400},
            "namespace": {"type": "str", "default": "skerry-probe"},
            "timeout": {"type": "int", "default": 90},
            "fail": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "port": {"type": "int", "default": 6443},
        },
        supports_check_mode=True,
    )
    act = prove if module.params["state"] == "present" else remove
    empty = {"due": [], "proved": [], "failed_probes": {}, "broken_nodes": []}
    try:
        module.exit_json(**act(module, Api("server", module.params["port"])))
    except UnavailableError as error:
        if module.check_mode or module.params["state"] == "absent":
            module.exit_json(changed=False, msg=f"the API cannot be asked: {error}", **empty)
        silent = K3sError("RUNTIME_014", f"the API does not answer: {error}", "see systemctl status k3s on this server")
        module.fail_json(**silent.as_result())
    except K3sError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
