# Copyright: Skerry contributors
# Apache-2.0 (see LICENSE)
"""Runs on the controller, in Ansible's own process: what a sandbox needs besides its containers."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# The checkout's own package; this file lies at collections/ansible_collections/skerry/edge/plugins/action.
_TOOLS = str(Path(__file__).resolve().parents[6] / "tools")


class ActionModule(ActionBase):
    """See the module's documentation: skerry.edge.sandbox."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = {
            "state": {"type": "str", "required": True, "choices": ["prepared", "linked", "absent"]},
            "name": {"type": "str", "required": True},
            "subnet": {"type": "str", "required": True},
            "keys": {"type": "path", "required": True},
            "hosts": {"type": "dict", "required": True},
            "chosen": {"type": "list", "elements": "str", "required": True},
        }
        _, given = self.validate_argument_spec(argument_spec=arguments)
        if _TOOLS not in sys.path:
            sys.path.insert(0, _TOOLS)
        from skerry.errors import SkerryError
        from skerry.sandbox import tasks

        try:
            return tasks.run(check=self._task.check_mode, **given)
        except SkerryError as error:
            cause = "; ".join(line.strip() for line in error.cause.splitlines() if line.strip())
            raise AnsibleActionFail(f"{error.code} {cause} | remedy: {error.remedy}") from error
