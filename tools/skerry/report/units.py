"""Numbers as people read them."""

from __future__ import annotations

import math


def digits(value: float, figures: int = 3) -> str:
    """``value`` with that many significant figures and no exponent: 0.0123, 1.23, 12.3, 123, 1234."""
    if value == 0:
        return "0"
    places = figures - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, places)}f}"


def seconds(value: float) -> str:
    """A time: 21.4 µs, 3.05 ms, 1.20 s."""
    size = abs(value)
    if size < 1e-3 and size > 0:
        return f"{digits(value * 1e6)} µs"
    if size < 1:
        return f"{digits(value * 1e3)} ms"
    return f"{digits(value)} s"


def difference(value: float) -> str:
    """A time with its sign: +21.4 ms, −3.05 ms."""
    return ("+" if value >= 0 else "−") + seconds(abs(value))


def size(value: float) -> str:
    """Bytes in binary units: 512 B, 12.5 KiB, 3.05 MiB."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= factor:
            return f"{digits(value / factor)} {unit}"
    return f"{value:.0f} B"


def ratio(value: float) -> str:
    """A factor: ×1.30, ×12.4."""
    return f"×{digits(value)}"


def interval(low: float | None, high: float | None, one: str = "seconds") -> str:
    """An interval in the unit of its larger end: 20.9 to 22.1 ms; ``too few samples`` for none."""
    if low is None or high is None:
        return "too few samples"
    if one == "ratio":
        return f"{ratio(low)} to {ratio(high)}"
    show = {"seconds": seconds, "difference": difference, "size": size}[one]
    first, second = show(low), show(high)
    if first.rsplit(" ", 1)[-1] == second.rsplit(" ", 1)[-1]:
        first = first.rsplit(" ", 1)[0]
    return f"{first} to {second}"


def decades(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten inside, with 2s and 5s where there are few decades."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 3 else (1, 3) if last - first > 2 else (1, 2, 5)
    return [step * 10.0**power for power in range(first, last + 1) for step in steps
            if low <= step * 10.0**power <= high]


def binary_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis of bytes: powers of two, at most seven of them."""
    powers = list(range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1))
    every = max(1, math.ceil(len(powers) / 6))
    return [2.0**power for power in powers if power % every == 0]
