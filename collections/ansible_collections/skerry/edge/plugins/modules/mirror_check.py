#!/usr/bin/python
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_check
short_description: Make sure that a mirror has what the hosts need
description:
  - Compares what M(skerry.edge.artifact) with C(state=described) was told in this run, for all hosts of the play, with
    a mirror's lock and files.
  - One thing that is missing fails the task, and names all that are missing. With C(run_once) its failure
    ends the run for all hosts, and nothing changes on any.
  - Which images a chart runs is read from the list that C(skerry mirror build) put beside the chart, in addition to the
    images that roles declare.
options:
  state:
    description:
      - C(complete) compares. C(hosts) only names one host of the play for each kind (architecture, in the cluster or
        not, variables), which has to be asked; the others of its kind need the same.
    type: str
    choices: [complete, hosts]
    default: complete
  mirror:
    description: A directory on the controller, or an http(s) URL with the same layout; for C(complete).
    type: str
    default: ""
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.looks
"""

EXAMPLES = r"""
- name: Compare with the mirror
  skerry.edge.mirror_check:
    mirror: "{{ skerry_mirror }}"
  run_once: true
"""

RETURN = r"""
hosts:
  description: Names of hosts, one of each kind.
  type: list
  elements: str
  returned: with C(state=hosts)
images:
  description: Full references of images that hosts of the play need, by architecture (amd64, arm64, arm).
  type: dict
  returned: with C(state=complete), when nothing is missing
"""
