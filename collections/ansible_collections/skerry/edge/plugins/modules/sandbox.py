# Copyright: Skerry contributors
# Apache-2.0 (see LICENSE)
"""Documentation of an action plugin (plugins/action/sandbox.py does the work, on the controller)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox
short_description: Prepare, link or remove Skerry's test hosts on this machine
version_added: "0.1.0"
description:
  - Does on the controller what test hosts need besides their containers, in one task for all hosts.
author: Skerry contributors
options:
  state:
    description:
      - V(prepared) makes sure of Docker Engine, host images, keys and settings, and returns what containers need.
      - V(linked) puts the asked link emulation in force for the chosen hosts that run.
      - V(absent) removes the chosen hosts with all that belongs to them; with the last one, network and keys too.
    type: str
    required: true
    choices: [prepared, linked, absent]
  name:
    description: Name of the sandbox.
    type: str
    required: true
  subnet:
    description: IPv4 network of the sandbox, such as 10.213.77.0/24.
    type: str
    required: true
  keys:
    description: Folder for keys, known_hosts and what each host gets.
    type: path
    required: true
  hosts:
    description: For each host of the inventory O(hosts) holds address, image, arch, memory, cpus and link.
    type: dict
    required: true
  chosen:
    description: Names of the hosts to work on.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
attributes:
  check_mode:
    description: Nothing is made or removed.
"""

EXAMPLES = r"""
- name: Remove all hosts
  skerry.edge.sandbox:
    state: absent
    name: skerry
    subnet: 10.213.77.0/24
    keys: .skerry/sandbox/skerry
    hosts: {}
    chosen: [edge-1]
"""

RETURN = r"""
hosts:
  description: For each chosen host its image, platform, memory, cpus, folder, volume and definition.
  returned: state is prepared
  type: dict
cap_drop:
  description: Capabilities that this machine itself lacks.
  returned: state is prepared
  type: list
  elements: str
settings:
  description: Kernel settings of this machine that were changed until the last host goes, as setting, before and now.
  returned: state is prepared
  type: list
  elements: str
restored:
  description: Kernel settings that were put back with the last host, as setting, before and now.
  returned: state is absent
  type: list
  elements: str
"""
