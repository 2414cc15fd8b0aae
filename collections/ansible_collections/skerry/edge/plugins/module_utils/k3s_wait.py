"""Waiting for a node, with a deadline and a diagnosis.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import re
import time

from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_diagnosis import diagnose, last_words
from ansible_collections.skerry.edge.plugins.module_utils.k3s_host import UNITS, Unit

#: Restarts of the unit after which a final cause ends the wait; the first ones may be due to a server that is late.
ENOUGH_RESTARTS = 2


def attempts(journal):
    """The journal in pieces, one for each start of k3s; what lies before the first start is left out."""
    return re.split(r"(?m)^(?=.*msg=\"?Starting k3s )", journal)[1:] or [journal]


def ended_attempts(journal):
    """The starts that are over: all but the last."""
    return attempts(journal)[:-1]


class Wait:
    """One wait for one node."""

    def __init__(self, role, name, port, run_command, api=None):
        self.role = role
        self.name = name
        self.unit = Unit(UNITS[role], run_command)
        self.api = api or Api(role, port or None, timeout=5)

    def look(self):
        """(is Ready, why not)."""
        try:
            if self.role == "server" and not self.api.healthy():
                return False, "the API is not ready"
            ready, reason = self.api.node_ready(self.name)
        except UnavailableError as error:
            return False, f"the API does not answer: {error}"
        except K3sError as error:  # a kubelet may not see its node before it has registered it
            return False, error.cause
        # A node stays Ready for 40 s after its kubelet was lost: what counts is that of this start.
        if ready and self.unit.show().get("ActiveState") != "active":
            return False, "the unit is still starting"
        return ready, reason

    def hopeless(self):
        """The final cause that the last two starts both ended with, else None: a late server fails a start or two."""
        state = self.unit.show()
        restarts = int(state.get("NRestarts") or 0)
        if state.get("ActiveState") != "failed" and restarts < ENOUGH_RESTARTS:
            return None
        found = [diagnose(text) for text in ended_attempts(self.unit.journal())[-2:]]
        if len(found) < 2 or not all(found) or found[0][0] is not found[1][0]:
            return None
        return found[1] if found[1][0].final else None

    def failure(self, reason, found=None):
        """The error to end with."""
        journal = self.unit.journal()
        recent = "\n".join(attempts(journal)[-2:])
        found = found or diagnose(recent)
        if found:
            known, cause = found
            return K3sError(known.code, f"{self.name}: {cause}", known.remedy)
        return K3sError(
            "K3S_100",
            f"node {self.name} is not Ready: {reason}; its last words:\n{last_words(recent)}",
            f"read the whole journal: journalctl -u {self.unit.name}",
        )


def poll(wait, timeout, clock=time.monotonic, sleep=time.sleep):
    """Poll until Ready; returns the seconds it took. Raises K3sError when it will not be."""
    start = clock()
    examined = start
    while True:
        ready, reason = wait.look()
        now = clock()
        if ready:
            return now - start
        if now - start >= timeout:
            raise wait.failure(f"{reason} (waited {timeout} s)")
        if now - examined >= 5:
            examined = now
            found = wait.hopeless()
            if found:
                raise wait.failure(reason, found)
        sleep(0.3)
