#!/usr/bin/python
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_bootstrap
short_description: Install Python on a host that has none
description:
  - Installs Python 3.9 or newer by the package manager when no such interpreter is found (Debian, Ubuntu, EL,
    openSUSE).
  - Uses plain shell commands only. In check mode it tells what it would install.
options: {}
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
"""

EXAMPLES = r"""
- name: Install Python
  skerry.edge.python_bootstrap:
  become: true
  register: python
"""

RETURN = r"""
problem:
  description: Why there is no usable Python, empty when there is.
  type: str
  returned: always
would_install:
  description: The command that would be run, in check mode.
  type: str
  returned: always
"""
