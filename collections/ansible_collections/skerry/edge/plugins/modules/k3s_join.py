#!/usr/bin/python
"""Tell what a host needs to join the cluster of this server (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_join
short_description: Tell what a host needs to join the cluster of this server
description:
  - Runs on a server. Reads its tokens and the hash of its certificate authority, and gives them in the form that lets a
    joining host check the server before it says anything.
  - A server that has just been started makes its certificate authority within seconds; the module waits for it, and for
    the port of the supervisor, not for a cluster that is ready. Agents can so be started while the server comes up.
  - Changes nothing. Its result holds tokens, so the task needs C(no_log).
options:
  timeout:
    description: Seconds to wait. 0 only looks.
    type: int
    default: 0
  port:
    description: Port of the supervisor.
    type: int
    default: 6443
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
attributes:
  check_mode:
    description: Changes nothing anyway; does not wait then.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Ask the first server
  skerry.edge.k3s_join:
    timeout: 60
  no_log: true
  register: join
"""

RETURN = r"""
ready:
  description: Whether the server can be joined.
  returned: success
  type: bool
has_data:
  description: Whether the host holds a cluster's datastore.
  returned: success
  type: bool
node_ip:
  description: Address of the server's node.
  returned: success
  type: str
token:
  description: Token for servers.
  returned: success
  type: str
agent_token:
  description: Token for agents.
  returned: success
  type: str
agent_password:
  description: The agents' token as servers hold it.
  returned: success
  type: str
encrypted:
  description: Whether the cluster encrypts its Secrets.
  returned: success
  type: bool
"""

import socket
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import k3s_host as host
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import from_yaml, password_of, secure_token
from ansible_collections.skerry.edge.plugins.module_utils.k3s_guard import encrypts


def listening(port):
    """Whether something answers on the port of this host."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def look(port):
    """One look at the server; the module's result."""
    digest = host.ca_hash()
    server = password_of(host.read_text(host.TOKEN) or "")
    agent = password_of(host.read_text(host.AGENT_TOKEN) or "") or server
    ready = bool(digest and server)
    return {
        "has_data": host.has_server_data(),
        "ready": ready and listening(port),
        "node_ip": from_yaml(host.read_text(host.CONFIG) or "").get("node-ip", ""),
        "token": secure_token(digest, "server", server) if ready else "",
        "agent_token": secure_token(digest, "node", agent) if ready else "",
        "agent_password": agent,
        "encrypted": encrypts(),
    }


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={"timeout": {"type": "int", "default": 0}, "port": {"type": "int", "default": 6443}},
        supports_check_mode=True,
    )
    deadline = time.monotonic() + (0 if module.check_mode else module.params["timeout"])
    found = look(module.params["port"])
    while not found["ready"] and time.monotonic() < deadline:
        time.sleep(0.2)
        found = look(module.params["port"])
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
