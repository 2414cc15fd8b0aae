"""The controller's part of preflight_probe: never fails for a host that cannot be looked at, measures the clock's
skew."""

from __future__ import annotations

import re
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

NO_ROOT = re.compile(
    r"Missing \w+ password|Incorrect \w+ password|Duplicate become|privilege escalation|not in the sudoers|"
    r"a password is required|"
    r"(sudo|su|doas): (command )?not found|may not run sudo|not allowed to execute|must be owned by uid 0|"
    r"no new privileges"
)
NO_PYTHON = re.compile(
    r"interpreter .* was not found|(python[\d.]*|shims/\S+):? .*not found|python[\d.]*: No such file"
)
OLD_PYTHON = re.compile(r"minimum of Python|SyntaxError|future feature annotations is not defined")


class ActionModule(ActionBase):
    """Runs the module; turns what kept it from running into data."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Give probe, skew, settings and the reasons (empty: none) unreachable_reason, python_missing, no_root,
        failure."""
        variables = task_vars or {}
        result = super().run(tmp, variables)
        arguments = dict(self._task.args)
        result.update(
            changed=False,
            settings=arguments.pop("settings", {}),
            probe={},
            skew=0.0,
            unreachable_reason="",
            python_missing="",
            no_root="",
            failure="",
        )
        arguments["targets"] = _targets(arguments.pop("servers", []), arguments.pop("server_ports", []), variables)
        outcome, problem = self._attempt(arguments, variables, result)
        if problem and NO_ROOT.search(problem):
            result["no_root"] = _last_lines(problem)
            self._connection.set_become_plugin(None)  # look at the rest of the host with the rights that there are
            outcome, problem = self._attempt(arguments, variables, result)
        if problem and not result["unreachable_reason"]:
            self._sort_out(problem, variables, result)
        elif outcome:
            result["probe"] = outcome["probe"]
        return result

    def _attempt(
        self, arguments: dict[str, Any], variables: dict[str, Any], result: dict[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """(the module's result, '') or ({}, why there is none)."""
        before = time.time()
        try:
            outcome = self._execute_module(
                module_name="skerry.edge.preflight_probe", module_args=arguments, task_vars=variables
            )
        except AnsibleConnectionFailure as error:
            if not NO_ROOT.search(str(error)):
                result["unreachable_reason"] = str(error)
            return {}, str(error)
        except AnsibleError as error:
            return {}, str(error)
        after = time.time()
        if "probe" not in outcome:
            texts = (
                outcome.get("msg"),
                outcome.get("module_stderr"),
                outcome.get("module_stdout"),
                outcome.get("exception"),
            )
            return {}, "\n".join(str(text) for text in texts if text) or "the module gave no answer"
        there = outcome["probe"]["time"]
        # The module read its clock somewhere between the two times here: only what lies outside is known to be skew.
        result["skew"] = there - after if there > after else min(0.0, there - before)
        return outcome, ""

    def _sort_out(self, problem: str, variables: dict[str, Any], result: dict[str, Any]) -> None:
        """Tell a missing or old Python from any other failure."""
        chosen = str(variables.get("ansible_python_interpreter", "auto"))
        named = "" if chosen.startswith("auto") else f" (ansible_python_interpreter: {chosen})"
        if OLD_PYTHON.search(problem):
            result["python_missing"] = f"its Python is too old for Ansible's modules{named}"
        elif NO_PYTHON.search(problem):
            result["python_missing"] = f"no Python found{named}"
        else:
            result["failure"] = _last_lines(problem)


def _last_lines(text: str) -> str:
    """The part of an error that a person reads, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(dict.fromkeys(lines))[-300:]


def _targets(servers: list[str], ports: list[Any], variables: dict[str, Any]) -> list[dict[str, Any]]:
    """The other servers, by the address that nodes use, with the ports to ask: the given ones and SSH's."""
    targets = []
    for name in servers:
        if name != variables["inventory_hostname"]:
            server = variables["hostvars"][name]
            address = server.get("k3s_node_ip") or server.get("ansible_host") or name
            asked = [int(port) for port in ports] + [int(server.get("ansible_port") or 22)]
            targets.append({"name": name, "address": str(address), "ports": asked})
    return targets
