"""Sessions with the probe on hosts. They bring engines along: what only reads an inventory does without."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from skerry.errors import SkerryError
from skerry.targets.api import Fault, Session, Target
from skerry.targets.session import ProbeSession

__all__ = ["open_session", "open_sessions"]

#: Logins under way at once: each costs a process here and key exchange there.
_AT_ONCE = 16


def open_session(target: Target) -> Session:
    """A session with one host.

    Raises:
        SkerryError: TARGET_..., naming the host.
    """
    return ProbeSession(target)


def open_sessions(targets: Iterable[Target]) -> tuple[dict[str, Session], dict[str, Fault]]:
    """Sessions with many hosts, opened at once; the hosts that failed with their faults, by name."""

    def attempt(target: Target) -> Session | Fault:
        try:
            return open_session(target)
        except SkerryError as error:
            return Fault(error.code, error.cause, error.remedy)

    chosen = list(targets)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        outcomes = list(pool.map(attempt, chosen))
    sessions: dict[str, Session] = {}
    faults: dict[str, Fault] = {}
    for target, outcome in zip(chosen, outcomes, strict=True):
        if isinstance(outcome, Fault):
            faults[target.name] = outcome
        else:
            sessions[target.name] = outcome
    return sessions, faults
