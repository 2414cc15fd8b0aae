"""JUnit reports as counts and reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree


@dataclass
class Counts:
    """Cases of one stage: how many passed and failed, which were skipped and which failed, and why."""

    passed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def text(self) -> str:
        """`12 passed, 1 skipped`."""
        parts = [(len(self.failed), "failed"), (self.passed, "passed"), (len(self.skipped), "skipped")]
        return ", ".join(f"{count} {word}" for count, word in parts if count) or "no cases"


def read(path: Path) -> Counts | None:
    """What the report at ``path`` says, or None when there is none or it was cut off."""
    try:
        tree = ElementTree.parse(path)
    except (OSError, ElementTree.ParseError):
        return None
    counts = Counts()
    for case in tree.iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        skipped = case.find("skipped")
        failed = next((found for kind in ("failure", "error") if (found := case.find(kind)) is not None), None)
        if failed is not None:
            counts.failed.append((name, _reason(failed)))
        elif skipped is not None:
            counts.skipped.append((name, _reason(skipped)))
        else:
            counts.passed += 1
    return counts


def _reason(element: ElementTree.Element) -> str:
    """Its message on one line."""
    return " ".join((element.get("message") or "no reason given").split())
