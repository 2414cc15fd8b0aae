"""Take one host out of the run, as failed or as unreachable, with preflight's message."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ends what preflight_report has left out; needs no connection."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail, or count as unreachable, with the given message."""
        result = super().run(tmp, task_vars)
        unreachable = bool(self._task.args["unreachable"])
        result.update(changed=False, msg=self._task.args["message"], failed=not unreachable, unreachable=unreachable)
        return result
