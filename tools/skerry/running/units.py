"""Sizes and durations as people write them."""

from __future__ import annotations

import re

from skerry.errors import SkerryError

_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size(text: str, option: str) -> int:
    """``64M``, ``64MiB``, ``1G``, ``1048576`` in bytes (powers of 1024). Raises SkerryError (RUN_030)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found or float(found.group(1)) <= 0:
        raise SkerryError("RUN_030", f"{option} {text!r} is no size", "write it like 64M or 1G")
    return int(float(found.group(1)) * _FACTORS[found.group(2).upper()])


def shown(number: int | None) -> str:
    """A size as tables show it; "-" for none."""
    if number is None:
        return "-"
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def seconds(value: float) -> str:
    """A duration as tables show it."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
