#!/usr/bin/python
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_gate
short_description: Take one host out of the run
description:
  - Ends the run for a host that M(skerry.edge.preflight_report) left out, as failed or as unreachable.
options:
  message:
    description: What to say.
    type: str
    required: true
  unreachable:
    description: Whether the host counts as unreachable instead of failed.
    type: bool
    required: true
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.looks
"""

EXAMPLES = r"""
- name: Leave out hosts that did not pass
  skerry.edge.preflight_gate:
    message: "{{ report.left_out[inventory_hostname].message }}"
    unreachable: "{{ report.left_out[inventory_hostname].unreachable }}"
  when: inventory_hostname in report.left_out
"""

RETURN = r"""
msg:
  description: The message.
  type: str
  returned: always
"""
