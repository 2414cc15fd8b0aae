#!/usr/bin/python
"""Take a node out of its cluster (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_drain
short_description: Take a node out of its cluster
description:
  - Runs on a server that stays. C(drained) cordons the node and moves its pods away; C(absent) deletes the Node object,
    and its password, and the etcd member of a server, go with it.
  - Delete only when k3s on the host has stopped; a kubelet that still runs registers its node again.
  - A node that cannot be drained within the time (or whose host is gone) is a warning, no failure.
options:
  node_name:
    description: Name of the node.
    type: str
    required: true
  state:
    description: How far to go.
    type: str
    choices: [drained, absent]
    default: drained
  timeout:
    description: Seconds for the drain; 0 does not drain.
    type: int
    default: 60
  binary:
    description: The k3s binary.
    type: path
    default: /usr/local/bin/k3s
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
  - skerry.edge.api
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Take an edge host out
  skerry.edge.k3s_drain:
    node_name: edge-1
  delegate_to: cloud-1
"""

RETURN = r"""
drained:
  description: Whether all pods went in time.
  returned: when it was drained
  type: bool
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError


def drain(module):
    """Move the pods away; (done in time, what kubectl said)."""
    seconds = module.params["timeout"]
    code, out, err = module.run_command(
        [
            module.params["binary"],
            "kubectl",
            "--cache-dir=" + module.tmpdir,
            "drain",
            module.params["node_name"],
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            f"--timeout={seconds}s",
        ]
    )
    return code == 0, (err or out).strip()[-500:]


def remove(api, path, patience=90):
    """Delete the node and wait until it is gone; a server's stays until its etcd member has left. Raises K3S_024."""
    api.json("DELETE", path, missing_ok=True)
    deadline, silence = time.monotonic() + patience, ""
    while time.monotonic() < deadline:
        try:
            if api.json("GET", path, missing_ok=True) is None:
                return
            silence = ""
        except UnavailableError as error:  # etcd elects another leader; one that never does is told
            silence = f"; the API does not answer: {error}"
        time.sleep(0.5)
    raise K3sError(
        "K3S_024",
        f"{path.rsplit('/', 1)[-1]} is still a node {patience} s after it was deleted{silence}",
        "see what holds it: k3s kubectl get node NAME -o yaml (finalizers), then run again",
    )


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "node_name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "absent"], "default": "drained"},
            "timeout": {"type": "int", "default": 60},
            "port": {"type": "int", "default": 6443},
            "binary": {"type": "path", "default": "/usr/local/bin/k3s"},
        },
        supports_check_mode=True,
    )
    path = "/api/v1/nodes/" + module.params["node_name"]
    api = Api("server", module.params["port"])
    try:
        node = api.json("GET", path, missing_ok=True)
        drained = bool(node) and bool(node.get("spec", {}).get("unschedulable"))
        if module.params["state"] == "absent":
            if node and not module.check_mode:
                remove(api, path)
            module.exit_json(changed=bool(node))
        if not node or drained or not module.params["timeout"]:
            module.exit_json(changed=False)
        if module.check_mode:
            module.exit_json(changed=True)
        done, said = drain(module)
        if not done:
            module.warn("{} was not drained: {}".format(module.params["node_name"], said))
        module.exit_json(changed=True, drained=done)
    except UnavailableError as error:
        module.fail_json(
            msg=f"K3S_020 the API does not answer: {error} | remedy: start k3s on this server, or reset without "
            "draining: -e k3s_reset_drain_timeout=0",
            code="K3S_020",
        )
    except K3sError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
