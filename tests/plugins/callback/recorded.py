"""Notes what tasks of a run were given, for modules named in ``SKERRY_RECORD_MODULES``: a JSON line a task and host.

Arguments are those that the module itself saw, templated and with its defaults; secrets are masked by Ansible. A failed
task of any module is noted too. Only for tests.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: recorded
type: aggregate
short_description: Note the arguments of tasks
description: Appends a JSON line to the file SKERRY_RECORD for each task of a module of interest, and for each failure.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """Writes as tasks end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "recorded"

    def __init__(self) -> None:
        super().__init__()
        self._path = Path(os.environ["SKERRY_RECORD"])
        self._modules = os.environ["SKERRY_RECORD_MODULES"].split(",")

    def _note(self, result: Any, failed: bool) -> None:
        module = result._task.action
        if module not in self._modules and not failed:
            return
        found = result._result
        line = {
            "host": result._host.get_name(),
            "module": module,
            "task": result._task.get_name(),
            "arguments": (found.get("invocation") or {}).get("module_args") or {},
            "failed": str(found.get("msg", found)) if failed else None,
        }
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._note(result, failed=not ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._note(result, failed=True)
