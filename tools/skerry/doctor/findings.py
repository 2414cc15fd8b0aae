"""A cause, and the order in which causes are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from skerry.doctor.facts import Facts


@dataclass(frozen=True)
class Finding:
    """One cause.

    Attributes:
        code: stable (docs/doctor.md); cause: one sentence; remedy: what to do.
        where: the host, node or object that it is about; "" for the cluster.
        confirm: a command that shows it to a person.
        likelihood: 0 to 1, that this is a cause of trouble and not a symptom or a peculiarity.
        evidence: what was seen, in the words of those who said it.
        explains: (code, where) of findings that follow from this one; "*" stands for any place.
        follows: those findings, once they are known.
    """

    code: str
    cause: str
    remedy: str
    where: str = ""
    confirm: str = ""
    likelihood: float = 0.5
    evidence: tuple[str, ...] = ()
    explains: tuple[tuple[str, str], ...] = ()
    follows: tuple[Finding, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "code": self.code, "cause": self.cause, "where": self.where, "likelihood": round(self.likelihood, 2),
            "evidence": list(self.evidence), "confirm": self.confirm, "remedy": self.remedy,
            "follows": [one.as_dict() for one in self.follows],
        }  # fmt: skip


class Known(NamedTuple):
    """Words that have one meaning: the code, the pattern, what it means, what to do."""

    code: str
    pattern: str
    cause: str
    remedy: str


def meaning(table: Sequence[Known], text: str, otherwise: Known) -> Known:
    """The first entry of a table whose pattern is in ``text``."""
    return next((one for one in table if re.search(one.pattern, text)), otherwise)


Rule = Callable[[Facts], Iterator[Finding]]


def rank(found: Iterable[Finding]) -> list[Finding]:
    """Causes, likeliest first; what follows from another one stands below that one."""
    ordered = sorted(dict.fromkeys(found), key=lambda one: (-one.likelihood, one.code, one.where))
    causes: dict[tuple[str, str], list[int]] = {}
    for index, one in enumerate(ordered):
        for explained in dict.fromkeys(one.explains):
            causes.setdefault(explained, []).append(index)
    parents: dict[int, int] = {}
    for index in reversed(range(len(ordered))):  # of two that explain each other the likelier one stays
        one = ordered[index]
        for other in sorted({*causes.get((one.code, one.where), ()), *causes.get((one.code, "*"), ())}):
            if other != index and not _below(parents, other, index):
                parents[index] = other
                break
    roots = [index for index in range(len(ordered)) if index not in parents]
    below: dict[int, list[Finding]] = {index: [] for index in roots}
    for index in parents:
        top = index
        while top in parents:
            top = parents[top]
        below[top].append(ordered[index])
    return [replace(ordered[index], follows=tuple(below[index])) for index in roots]


def _below(parents: dict[int, int], index: int, top: int) -> bool:
    """Whether ``index`` already stands below ``top``: two findings may not explain each other."""
    while index in parents:
        index = parents[index]
        if index == top:
            return True
    return False


def examine(facts: Facts, rules: Sequence[Rule]) -> list[Finding]:
    """Apply all rules."""
    return rank(one for rule in rules for one in rule(facts))


def some(names: Iterable[str], most: int = 4) -> str:
    """A few names of many: ``a, b, c and 7 more``."""
    listed = list(dict.fromkeys(names))
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def short(text: str, most: int = 220) -> str:
    """Words on one line."""
    joined = " ".join(text.split())
    return joined if len(joined) <= most else joined[: most - 3] + "..."
