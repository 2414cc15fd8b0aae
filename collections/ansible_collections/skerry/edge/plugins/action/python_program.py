"""Send a Python package from the controller to its module, in one piece."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Reads the sources of ``src`` (a role's ``files/`` is looked into) and calls the module with them."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        source = arguments.pop("src", None)
        if arguments.get("state", "present") == "present":
            if not source:
                raise AnsibleActionFail("python_program: src is needed to place a program")
            folder = Path(self._find_needle("files", source))
            files = {str(path.relative_to(folder)): path.read_text("utf-8") for path in sorted(folder.rglob("*.py"))}
            arguments["sources"] = base64.b64encode(zlib.compress(json.dumps(files).encode(), 9)).decode()
        result.update(self._execute_module("skerry.edge.python_program", arguments, task_vars=task_vars))
        return result
