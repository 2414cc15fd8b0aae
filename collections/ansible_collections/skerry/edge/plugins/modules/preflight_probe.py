#!/usr/bin/python
"""Collect what preflight judges (see DOCUMENTATION); the action plugin does the controller's part."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_probe
short_description: Collect everything that preflight judges, in one go
description:
  - Reads a host's system, memory, storage, kernel features, clock, names, network and ports. Changes nothing.
  - The action plugin of the same name never fails for a host that cannot be looked at. It returns
    C(unreachable_reason), C(python_missing) or C(no_root) instead, so that M(skerry.edge.preflight_report) can show
    all hosts in one table.
options:
  paths:
    description: Directories, existing or not, whose file systems matter.
    type: list
    elements: str
    default: []
  ports:
    description: Ports that have to be free, such as C(6443/tcp).
    type: list
    elements: str
    default: []
  servers:
    description: Hosts of the inventory to be reached over TCP; the action plugin makes C(targets) of them.
    type: list
    elements: str
    default: []
  server_ports:
    description: Ports asked at each server, next to SSH's.
    type: list
    elements: int
    default: []
  targets:
    description: Hosts to be reached over TCP, each with C(name), C(address) and C(ports).
    type: list
    elements: dict
    default: []
  names:
    description: Names that have to resolve.
    type: list
    elements: str
    default: []
  package_sources:
    description: Whether the servers of the host's own package sources have to resolve as well.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for a name or a target.
    type: float
    default: 2
  settings:
    description: What the findings are judged by; stays on the controller.
    type: dict
    default: {}
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.looks
"""

EXAMPLES = r"""
- name: Look at the host
  skerry.edge.preflight_probe:
    paths: [/var/lib/rancher]
    ports: [6443/tcp, 10250/tcp]
  become: true
  register: probe
"""

RETURN = r"""
probe:
  description: What was found, by subject (system, memory, storage, kernel, network and so on).
  type: dict
  returned: when the host could be looked at
skew:
  description: Seconds by which the host's clock is ahead of the controller's, less what the way there explains.
  type: float
  returned: when the host could be looked at
unreachable_reason:
  description: Why the host could not be reached, empty when it could.
  type: str
  returned: always
python_missing:
  description: Why no module can run there, empty when one could.
  type: str
  returned: always
no_root:
  description: Why root's rights could not be had, empty when they could.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.host import Host
from ansible_collections.skerry.edge.plugins.module_utils.host_facts import collect


def main() -> None:
    """Run on the host."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "str", "default": []},
            "targets": {"type": "list", "elements": "dict", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "package_sources": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 2},
            "settings": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, probe=collect(Host(), module.params))


if __name__ == "__main__":
    main()
