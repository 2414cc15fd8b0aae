#!/usr/bin/python
"""Wait for the node of this host, with a deadline and a diagnosis (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_ready
short_description: Wait for the node of this host, with a deadline and a diagnosis
description:
  - Polls the unit, the API and the node until the node is Ready. Nothing blocks without limit.
  - When the deadline passes, or when the unit fails over and over for a reason that waiting cannot mend, the journal
    is read and the task fails with a code, the cause and a remedy.
  - Changes nothing.
options:
  role:
    description: What the host is.
    type: str
    choices: [server, agent]
    required: true
  node_name:
    description: Name of the node.
    type: str
    required: true
  timeout:
    description: Seconds until the deadline.
    type: int
    default: 300
  port:
    description: Port of the API on this host; 0 for the usual one.
    type: int
    default: 0
  describe:
    description: What M(skerry.edge.k3s_objects) needs of the node (labels, taints, roles); returned with its handlers.
    type: dict
    default: {}
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
attributes:
  check_mode:
    description: Looks once and never fails.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Wait for the node
  skerry.edge.k3s_ready:
    role: agent
    node_name: edge-1
    timeout: 120
"""

RETURN = r"""
ready:
  description: Whether the node is Ready. False in check mode only.
  returned: success
  type: bool
node:
  description: Name, labels, taints, roles and proved wasm handlers of the node.
  returned: success
  type: dict
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.broker_host import look, unable
from ansible_collections.skerry.edge.plugins.module_utils.host import Host
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_host import proved_handlers
from ansible_collections.skerry.edge.plugins.module_utils.k3s_wait import Wait, poll


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "required": True, "choices": ["server", "agent"]},
            "node_name": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 300},
            "port": {"type": "int", "default": 0},
            "describe": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    node = {**params["describe"], "name": params["node_name"], "handlers": proved_handlers()}
    host = Host()
    if unable(look(host), host.machine()):
        # Only the host itself sees what its processor lacks: the role redpanda leaves nodes with this label out.
        node["labels"] = {**(node.get("labels") or {}), "skerry.dev/broker": "unable"}
    wait = Wait(params["role"], params["node_name"], params["port"], module.run_command)
    if module.check_mode:
        module.exit_json(changed=False, ready=wait.look()[0], node=node, seconds=0.0)
    try:
        seconds = poll(wait, params["timeout"])
    except K3sError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, ready=True, node=node, seconds=round(seconds, 1))


if __name__ == "__main__":
    main()
