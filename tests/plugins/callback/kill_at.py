"""Kills the whole ansible-playbook run, hard, when its task number ``SKERRY_KILL_AT_TASK`` is about to start.

With ``SKERRY_KILL_DELAY`` it does so that many seconds later, in the midst of whatever runs then. Only for tests: a
power cut of the controller, at a chosen place.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kill_at
type: aggregate
short_description: Kill the run at a task boundary
description: Kills the process group with SIGKILL when the task of that number starts, or some time after.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """Counts tasks as they start."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill_at"

    def __init__(self) -> None:
        super().__init__()
        self._at = int(os.environ.get("SKERRY_KILL_AT_TASK", "0"))
        self._delay = float(os.environ.get("SKERRY_KILL_DELAY", "0"))
        self._started = 0

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._started += 1
        if self._started == self._at:
            if not self._delay:
                _kill()
            timer = threading.Timer(self._delay, _kill)
            timer.daemon = True
            timer.start()


def _kill() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)
