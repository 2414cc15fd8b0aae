#!/usr/bin/python
"""Prove that two nodes share a volume, or see who uses a storage class (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_proof
short_description: Prove that two nodes share a volume, or see who uses a storage class
description:
  - Runs on a server of the cluster. C(state=proved) makes a claim for many writers and a pod on each of two nodes; each
    pod writes and reads what the other wrote while both have the volume. Everything is removed again.
  - C(state=unused) fails with a code while pods use volumes of the class, and returns the class's claims; a server that
    goes while its volumes are mounted leaves processes that cannot even be killed.
options:
  state:
    description: What to do.
    type: str
    choices: [proved, unused]
    default: proved
  storage_class:
    description: Name of the class.
    type: str
    required: true
  namespace:
    description: Namespace of the pods.
    type: str
    default: default
  image:
    description: Image with a shell (sh, ls, grep, cat, sleep).
    type: str
    default: docker.io/rancher/mirrored-library-busybox:1.37.0
  size:
    description: Size of the volume.
    type: str
    default: 1Mi
  nodes:
    description: Names of the nodes that may be chosen; empty for all.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds until both pods must have read.
    type: int
    default: 180
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
  - skerry.edge.api
attributes:
  check_mode:
    description: No pod is made.
  diff_mode:
    description: Nothing stays behind.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Prove that two nodes share a volume
  skerry.edge.storage_proof:
    storage_class: nfs
    namespace: nfs-provisioner
  become: true
"""

RETURN = r"""
nodes:
  description: The two nodes; the same one twice on a cluster of one.
  returned: when proved
  type: list
  elements: str
seconds:
  description: How long it took.
  returned: when proved
  type: float
claims:
  description: Claims of the class, each with namespace and name.
  returned: with C(state=unused)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError, unanswered
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.storage_proof import Proof, users


def unused(api, storage_class):
    """The module's result for state unused. Raises K3sError STORAGE_003."""
    claims, pods = users(api, storage_class)
    if pods:
        more = f" and {len(pods) - 5} more" if len(pods) > 5 else ""
        raise K3sError(
            "STORAGE_003",
            f"volumes of class {storage_class} are in use by {', '.join(pods[:5])}{more}",
            "take these pods away first: without its server a mounted volume blocks them for good",
        )
    return {"claims": claims}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["proved", "unused"], "default": "proved"},
            "storage_class": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": "default"},
            "image": {"type": "str", "default": "docker.io/rancher/mirrored-library-busybox:1.37.0"},
            "size": {"type": "str", "default": "1Mi"},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 180},
            "port": {"type": "int", "default": 6443},
        },
        supports_check_mode=True,
    )
    params = module.params
    api = Api("server", params["port"])
    try:
        if params["state"] == "unused":
            module.exit_json(changed=False, **unused(api, params["storage_class"]))
        if module.check_mode:
            module.exit_json(changed=False, nodes=[], seconds=0.0)
        options = {key: params[key] for key in ("storage_class", "namespace", "image", "size", "nodes", "timeout")}
        module.exit_json(changed=False, **Proof(api, options).run())
    except UnavailableError as error:
        if module.check_mode or params["state"] == "unused":
            module.exit_json(changed=False, claims=[], msg=f"no API: {error}")
        module.fail_json(**unanswered(error).as_result())
    except K3sError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
