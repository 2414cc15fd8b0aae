"""Findings of preflight: their shape, the table of all checks, and what one host brings to be judged.

Pure Python: no host, no Ansible. The checks themselves register here (preflight_host, preflight_cluster).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """What a check says of one host; ``severity`` overrides that of the check, ``host`` names another host."""

    cause: str
    remedy: str
    severity: str = ""
    host: str = ""


@dataclass(frozen=True)
class Finding:
    """A problem with its code: one line of the table."""

    code: str
    severity: str
    host: str
    cause: str
    remedy: str

    def message(self) -> str:
        """The form of every coded message of this project."""
        return f"{self.code} {self.cause} | remedy: {self.remedy}"


@dataclass(frozen=True)
class Report:
    """One host as preflight saw it.

    ``role`` is server, agent or plain. ``settings`` are the role's thresholds and wishes
    (roles/preflight/vars/main.yml), ``probe`` is what the module returned, empty where it could not run. ``skew`` is
    in seconds.
    """

    name: str
    role: str = "plain"
    settings: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)
    skew: float = 0.0
    unreachable: str = ""
    python_missing: str = ""
    would_install: str = ""
    install_later: bool = False
    no_root: str = ""
    failure: str = ""

    @property
    def cluster(self) -> bool:
        """Whether the host becomes part of the k3s cluster."""
        return self.role in ("server", "agent")

    @property
    def label(self) -> str:
        """The distribution's name for messages."""
        return str(self.probe["system"]["name"])

    def is_like(self, *families: str) -> bool:
        """Whether the distribution, or one that it descends from, is among ``families`` (os-release's ID, ID_LIKE)."""
        system = self.probe["system"]
        return bool({system["id"], *system["like"]} & set(families))

    def major(self) -> int:
        """Major version of the distribution, 0 where it has none (rolling releases)."""
        head = self.probe["system"]["version"].partition(".")[0]
        return int(head) if head.isdigit() else 0


HostCheck = Callable[[Report], Iterable[Problem]]
ClusterCheck = Callable[[list[Report], dict[str, Any]], Iterable[Problem]]


@dataclass(frozen=True)
class Check:
    """A check with its place in the documentation. Exactly one of the two functions is there."""

    code: str
    severity: str
    title: str
    explanation: str
    host: HostCheck | None = None
    cluster: ClusterCheck | None = None


CHECKS: dict[str, Check] = {}


def _explanation(function: Callable[..., Any]) -> str:
    return " ".join((function.__doc__ or "").split())


def host_check(code: str, severity: str, title: str) -> Callable[[HostCheck], HostCheck]:
    """Register a check of one host that could be looked at; its docstring becomes the documentation."""

    def register(function: HostCheck) -> HostCheck:
        CHECKS[code] = Check(code, severity, title, _explanation(function), host=function)
        return function

    return register


def cluster_check(code: str, severity: str, title: str) -> Callable[[ClusterCheck], ClusterCheck]:
    """Register a check over all hosts at once; it names the host of each problem."""

    def register(function: ClusterCheck) -> ClusterCheck:
        CHECKS[code] = Check(code, severity, title, _explanation(function), cluster=function)
        return function

    return register
