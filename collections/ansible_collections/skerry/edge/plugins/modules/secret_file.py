#!/usr/bin/python
"""Keep a generated secret in a file that only root can read (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_file
short_description: Keep a generated secret in a file that only root can read
description:
  - Makes a random secret where there is none, and returns the one that is there otherwise.
  - The file has mode 0600 and belongs to root; it is written beside and renamed. Neither the log nor a diff shows it.
options:
  path:
    description: The file; its folder is made when it is not there.
    type: path
    required: true
  length:
    description: Characters of a new secret (letters and digits, 5.9 bits each).
    type: int
    default: 32
  state:
    description: C(absent) removes the file.
    type: str
    choices: [present, absent]
    default: present
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
attributes:
  check_mode:
    description: Nothing is written; where there is no secret yet, a placeholder is returned.
"""

EXAMPLES = r"""
- name: Keep a password for Grafana
  skerry.edge.secret_file:
    path: /etc/skerry/grafana-admin-password
  register: __generated
"""

RETURN = r"""
secret:
  description: The secret.
  returned: when I(state=present)
  type: str
path:
  description: The file.
  returned: success
  type: str
"""

import os
import secrets
import stat
import string

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.files import replace_file

LETTERS = string.ascii_letters + string.digits
PLACEHOLDER = "made-by-the-first-real-run"


def present(module, path):
    """The module's result with a secret in place."""
    found, mode = "", None
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            found = stream.read().strip()
        mode = stat.S_IMODE(os.stat(path).st_mode)
    result = {"changed": False, "path": path, "secret": found}
    if not found:
        result["changed"] = True
        result["secret"] = PLACEHOLDER
        if not module.check_mode:
            result["secret"] = "".join(secrets.choice(LETTERS) for _ in range(module.params["length"]))
            replace_file(path, result["secret"] + "\n", 0o600)
    elif mode != 0o600:
        result["changed"] = True
        if not module.check_mode:
            os.chmod(path, 0o600)
    return result


def absent(module, path):
    """The module's result with the file gone."""
    there = os.path.lexists(path)
    if there and not module.check_mode:
        os.unlink(path)
    return {"changed": there, "path": path}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True, "no_log": False},
            "length": {"type": "int", "default": 32},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        result = present(module, path) if module.params["state"] == "present" else absent(module, path)
    except OSError as error:
        cause = f"cannot keep a secret in {path}: {error.strerror or error}"
        remedy = f"check rights and free space of {os.path.dirname(path)} (df -h), then run again"
        module.fail_json(msg=f"SECRET_001 {cause} | remedy: {remedy}", code="SECRET_001", cause=cause, remedy=remedy)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
