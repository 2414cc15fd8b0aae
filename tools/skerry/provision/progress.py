"""What a run of a playbook has done so far, built from ansible-runner's events."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from skerry.provision.diagnosis import Diagnosis, coded, diagnose, named

PLAY_ITSELF = "play"  #: the name shown for tasks that belong to no role


@dataclass
class RoleProgress:
    """One role on one host."""

    ok: int = 0
    changed: int = 0
    failed: bool = False
    seconds: float = 0.0


@dataclass
class HostProgress:
    """One host of the run."""

    roles: dict[str, RoleProgress] = field(default_factory=dict)
    unreachable: bool = False
    failures: list[Diagnosis] = field(default_factory=list)
    current: str = ""

    @property
    def ok(self) -> int:
        return sum(role.ok for role in self.roles.values())

    @property
    def changed(self) -> int:
        return sum(role.changed for role in self.roles.values())

    @property
    def failed(self) -> bool:
        return bool(self.failures)


@dataclass
class Progress:
    """The whole run.

    Attributes:
        hosts: by name, in the order in which they appeared.
        roles: names of roles in the order in which they ran.
        tasks: number of tasks started.
        role_seconds: wall-clock seconds a role had the stage, all hosts together.
        general: failures that belong to no host (a playbook that does not parse, an empty inventory).
    """

    hosts: dict[str, HostProgress] = field(default_factory=dict)
    roles: list[str] = field(default_factory=list)
    play: str = ""
    role: str = ""
    task: str = ""
    tasks: int = 0
    role_seconds: dict[str, float] = field(default_factory=dict)
    general: list[Diagnosis] = field(default_factory=list)
    _role_since: float = field(default_factory=time.monotonic)

    def host(self, name: str) -> HostProgress:
        return self.hosts.setdefault(name, HostProgress())

    def take(self, event: dict[str, Any]) -> bool:
        """Take one event of ansible-runner; true when something that is shown changed."""
        kind = str(event.get("event", ""))
        data: dict[str, Any] = event.get("event_data") or {}
        if kind == "playbook_on_play_start":
            self.play = str(data.get("name") or data.get("play") or "")
        elif kind == "playbook_on_task_start":
            self._task_started(data)
        elif kind == "runner_on_start":
            self.host(str(data.get("host"))).current = str(data.get("task", ""))
        elif kind in {"runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped"}:
            self._task_ended(kind, data)
        else:
            return False
        return True

    def close(self) -> None:
        """Book the time since the last change of role."""
        if self.role:
            self.role_seconds[self.role] = self.role_seconds.get(self.role, 0.0) + time.monotonic() - self._role_since

    def _judged(self, findings: list[str], verdict: Diagnosis) -> None:
        """One task judged all hosts (``HOST: CODE cause | remedy: ...``) and ended the run: each host gets its own."""
        self.general.append(verdict)
        for finding in findings:
            name, _, message = finding.partition(": ")
            self.host(name).failures += coded(message)

    def _task_started(self, data: dict[str, Any]) -> None:
        role = str(data.get("role") or PLAY_ITSELF)
        if role != self.role:
            self.close()
            self.role, self._role_since = role, time.monotonic()
        self.task = str(data.get("name") or data.get("task") or "")
        self.tasks += 1

    def _task_ended(self, kind: str, data: dict[str, Any]) -> None:
        host = self.host(str(data.get("host")))
        host.current = ""
        name = str(data.get("role") or PLAY_ITSELF)
        if name not in self.roles and kind != "runner_on_skipped":
            self.roles.append(name)
        result: dict[str, Any] = data.get("res") or {}
        if kind == "runner_on_unreachable":
            host.unreachable = True
            host.failures += _failures(result, str(data.get("task", "")), unreachable=True)
            return
        if kind == "runner_on_skipped":
            return
        role = host.roles.setdefault(name, RoleProgress())
        role.seconds += float(data.get("duration") or 0.0)
        if kind == "runner_on_failed" and not data.get("ignore_errors"):
            role.failed = True
            if findings := result.get("findings"):
                self._judged(findings, diagnose(result, "", unreachable=False))
            else:
                host.failures += _failures(result, str(data.get("task", "")), unreachable=False)
        else:
            role.ok += 1
            role.changed += bool(result.get("changed"))


def _failures(result: dict[str, Any], task: str, unreachable: bool) -> list[Diagnosis]:
    """All that a result says in our roles' own codes, else the one thing that it is recognised as."""
    return named(result) or coded(str(result.get("msg", ""))) or [diagnose(result, task, unreachable)]
