"""Causes on a terminal and as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from skerry.doctor.facts import Facts
from skerry.doctor.findings import Finding

FORMAT = 1
#: Causes that are shown in full; the rest in a line each.
FULL = 5
#: Of the rest, so many of one code; the others are counted.
ALIKE = 3
DIM = "bright_black"


def looked_at(facts: Facts) -> list[str]:
    """What the verdict rests on, and what could not be seen."""
    known = sum(look.fault is None for look in facts.looks.values())
    said = []
    if facts.looks:
        said.append(f"{known} of {len(facts.looks)} hosts")
    if facts.cluster is not None:
        if facts.cluster.error is not None:
            said.append(f"cluster {facts.cluster.name}: no answer of its API")
        else:
            said.append(
                f"cluster {facts.cluster.name}: {len(facts.cluster.nodes):,} nodes, {facts.cluster.pod_count:,} pods"
            )
    return said


def unseen(facts: Facts) -> list[str]:
    """What was asked for and did not come: a cause may hide there."""
    found = [f"host {look.name}: {part}: {why}" for look in facts.looks.values() if look.fault is None
             for part, why in (look.report.get("missing") or {}).items()]  # fmt: skip
    if facts.api is not None:
        found += [f"{one.name}: {one.error}" for one in facts.api.partial if one.name not in ("metrics", "usage")]
    return found


def document(facts: Facts, found: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """What ``skerry doctor --json`` prints."""
    return {
        "format": FORMAT,
        "seconds": round(seconds, 3),
        "looked_at": looked_at(facts),
        "unseen": unseen(facts),
        "causes": [one.as_dict() for one in found],
    }


def _style(one: Finding) -> str:
    return "red" if one.likelihood >= 0.8 else "yellow" if one.likelihood >= 0.5 else "cyan"


def _full(number: int, one: Finding) -> RenderableType:
    head = Text.assemble((f"{number}. {one.code}", f"bold {_style(one)}"), ("  " + one.cause, "bold"),
                         (f"  {one.likelihood:.0%}", DIM))  # fmt: skip
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style=DIM, no_wrap=True)
    rows.add_column(overflow="fold")
    for index, text in enumerate(one.evidence):
        rows.add_row("" if index else "seen", Text(text))
    if one.follows:
        for index, below in enumerate(one.follows[:4]):
            rows.add_row("" if index else "so", Text.assemble((below.code, DIM), "  ", below.cause))
        if len(one.follows) > 4:
            rows.add_row("", Text(f"... and {len(one.follows) - 4} more", DIM))
    if one.confirm:
        rows.add_row("confirm", Text(one.confirm, "cyan"))
    rows.add_row("remedy", Text(one.remedy))
    return Group(head, Padding(rows, (0, 0, 1, 3)))


def render(facts: Facts, found: Sequence[Finding], seconds: float, everything: bool = False) -> RenderableType:
    """The verdict; ``everything``: each cause in full."""
    parts: list[RenderableType] = []
    full = len(found) if everything else FULL
    said = f"looked at {'; '.join(looked_at(facts)) or 'nothing'} in {seconds:.1f} s"
    if found:
        count = "one cause" if len(found) == 1 else f"{len(found)} causes, the likeliest first"
        parts.append(Text.assemble((f"● {count}", f"bold {_style(found[0])}"), (f"  {said}\n", DIM)))
    else:
        parts.append(Text.assemble(("● nothing is wrong that I know of", "bold green"), (f"  {said}", DIM)))
    parts += [_full(number, one) for number, one in enumerate(found[:full], 1)]
    seen: Counter[str] = Counter()
    for number, one in enumerate(found[full:], full + 1):
        seen[one.code] += 1
        if seen[one.code] <= ALIKE:
            likely = (f"  {one.likelihood:.0%}", DIM)
            parts.append(Text.assemble((f"{number}. {one.code}", _style(one)), f"  {one.cause}", likely))
    more = {code: count - ALIKE for code, count in seen.items() if count > ALIKE}
    parts += [Text(f"   ... and {count:,} more of {code}", DIM) for code, count in more.items()]
    if len(found) > full:
        parts.append(Text("--all shows these in full", DIM))
    if hidden := unseen(facts):
        parts.append(Text("\nNot seen, so a cause may hide there:", "yellow"))
        parts += [Text(f"  {one}", DIM) for one in hidden[:8]]
    return Group(*parts)
