#!/usr/bin/python
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Judge all hosts at once and show one table
description:
  - Runs once. Takes what M(skerry.edge.preflight_probe) registered as C(__preflight_probe) for every host of the play.
  - Fails for all hosts when one has an error, unless it is told to leave such hosts out.
options:
  failed_hosts:
    description: Whether an error of one host stops all, or only leaves that host out.
    type: str
    choices: [stop, leave_out]
    required: true
  unreachable_hosts:
    description: The same for hosts that cannot be reached.
    type: str
    choices: [stop, leave_out]
    required: true
  final:
    description: Whether Python was installed already where it was missing; then a host still without it is an error.
    type: bool
    default: false
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.looks
"""

EXAMPLES = r"""
- name: Judge all hosts
  skerry.edge.preflight_report:
    failed_hosts: stop
    unreachable_hosts: leave_out
  run_once: true
  register: report
"""

RETURN = r"""
findings:
  description: 'One line for each finding: host, code, cause and remedy.'
  type: list
  elements: str
  returned: unless Python has to be installed first
install_python:
  description: Hosts that need Python, when nothing else speaks against the run.
  type: list
  elements: str
  returned: always
left_out:
  description: By host that may not go on, its message and whether it was unreachable.
  type: dict
  returned: always
unseen:
  description: Hosts that check mode could not look at, since Python would be installed first.
  type: list
  elements: str
  returned: always
"""
