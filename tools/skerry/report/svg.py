"""The report's drawings, as SVG inside the page: colours come from its style sheet, so light and dark both hold.

Every sample is drawn; a tooltip on each says its value. Drawings are 440 units wide, so that one of them fills a
phone's screen at a readable size; the page sets several beside each other where there is room.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from skerry.report import stats, units

WIDTH = 440
LEFT, RIGHT = 10, 430
ROW, HEAD, FOOT = 50, 8, 26
_JITTER = 6.0

Show = Callable[[float], str]


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis over [low, high] with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    show: Show

    def at(self, value: float) -> float:
        """The x of a value."""
        share = (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return LEFT + share * (RIGHT - LEFT)


@dataclass(frozen=True)
class Band:
    """Values of one kind within a row: drawn as dots, the median as a tick with its interval."""

    values: Sequence[float]
    style: str
    name: str = ""


@dataclass
class Row:
    """One line of a strip chart: a label, a value said in words, the samples; or a reason why there are none.

    Rows with the same ``ladder`` have their medians joined: between them a step may be taken.
    """

    label: str
    said: str = ""
    bands: list[Band] = field(default_factory=list)
    missing: str = ""
    ladder: str = ""


def axis(values: Sequence[float], kind: str = "seconds") -> Axis:
    """An axis that holds all values with some air; ``kind``: ``seconds`` or ``size``."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 1.3, max(positive) * 1.3
    least = 8.0 if kind == "seconds" else 4.0
    if high / low < least:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(least), middle * math.sqrt(least)
    ticks = units.decades(low, high) if kind == "seconds" else units.binary_ticks(low, high)
    return Axis(low, high, tuple(ticks), _short_seconds if kind == "seconds" else _short_size)


def _short_seconds(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= factor * 0.999:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def _short_size(value: float) -> str:
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g} B"


def _jitter(name: str, at: int) -> float:
    """A shift that is the same in every drawing of the same sample."""
    byte = hashlib.blake2s(f"{name}/{at}".encode(), digest_size=2).digest()
    return (int.from_bytes(byte, "big") / 65535 * 2 - 1) * _JITTER


def _grid(axis_: Axis, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in axis_.ticks:
        x = axis_.at(tick)
        anchor = "start" if x < LEFT + 14 else "end" if x > RIGHT - 14 else "middle"
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.0f}" y2="{bottom:.0f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15:.0f}" text-anchor="{anchor}">'
                     f"{escape(axis_.show(tick))}</text>")
    return parts


def _band(band: Band, axis_: Axis, y: float, name: str, show: Show) -> list[str]:
    parts = []
    outlying = stats.outliers(band.values)
    for at, value in enumerate(band.values):
        mark = "dot out" if outlying[at] else "dot"
        parts.append(f'<circle class="{mark} {band.style}" cx="{axis_.at(value):.1f}" cy="{y + _jitter(name, at):.1f}" '
                     f'r="2.6"><title>{escape(show(value))}</title></circle>')
    summary = stats.summarise(band.values)
    if summary.low is not None and summary.high is not None:
        low, high = axis_.at(summary.low), axis_.at(summary.high)
        parts.append(f'<rect class="ci {band.style}" x="{low:.1f}" y="{y - 2.5:.1f}" '
                     f'width="{max(high - low, 1):.1f}" height="5" rx="2.5"/>')
    x = axis_.at(summary.median)
    parts.append(f'<line class="median {band.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}">'
                 f"<title>median {escape(show(summary.median))}</title></line>")
    return parts


def _joins(rows: Sequence[Row], axis_: Axis) -> list[str]:
    """Lines between the medians of rows of one ladder."""
    parts = []
    last: dict[str, tuple[float, float]] = {}
    y = float(HEAD)
    for row in rows:
        if row.bands and row.ladder:
            here = (axis_.at(stats.summarise(row.bands[-1].values).median), y + 33)
            if row.ladder in last:
                (x1, y1), (x2, y2) = last[row.ladder], here
                half = (y1 + y2) / 2
                path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {half:.1f} {x2:.1f} {half:.1f} {x2:.1f} {y2:.1f}"
                parts.append(f'<path class="join {row.bands[-1].style}" d="{path}"/>')
            last[row.ladder] = here
        y += ROW if row.bands else 24
    return parts


def strips(rows: Sequence[Row], axis_: Axis, description: str, show: Show = units.seconds) -> str:
    """A strip chart: each row's samples along the axis, none left out."""
    height = HEAD + sum(ROW if row.bands else 24 for row in rows) + FOOT
    bottom = height - FOOT
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">',
             *_grid(axis_, HEAD, bottom), *_joins(rows, axis_)]
    y = float(HEAD)
    for row in rows:
        parts.append(f'<text class="row{"" if row.bands else " none"}" x="{LEFT}" y="{y + 15:.0f}">'
                     f"{escape(row.label)}</text>")
        said = row.said if row.bands else row.missing
        parts.append(f'<text class="said{"" if row.bands else " none"}" x="{RIGHT}" y="{y + 15:.0f}" '
                     f'text-anchor="end">{escape(said)}</text>')
        if row.bands:
            middle = y + 33
            parts.append(f'<line class="rail" x1="{LEFT}" x2="{RIGHT}" y1="{middle}" y2="{middle}"/>')
            for band in row.bands:
                parts += _band(band, axis_, middle, row.label + band.name, show)
            y += ROW
        else:
            y += 24
    parts.append("</svg>")
    return "".join(parts)


@dataclass(frozen=True)
class Curve:
    """One cumulative distribution; ``style`` and ``dash`` tell it from the others."""

    values: Sequence[float]
    style: str
    dash: str
    label: str


def cumulative(curves: Sequence[Curve], axis_: Axis, description: str) -> str:
    """Empirical cumulative distributions: the share of samples at or below a time."""
    height, top, bottom = 230, 12, 204
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">']
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - top)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.0f}" y2="{y:.0f}"/>')
        parts.append(f'<text class="tick" x="{LEFT}" y="{y - 3:.0f}">{share:.0%}</text>')
    parts += _grid(axis_, top, bottom)
    for curve in curves:
        ordered = sorted(curve.values)
        path, before = f"M{axis_.at(ordered[0]):.1f} {bottom}", float(bottom)
        for at, value in enumerate(ordered, 1):
            y = bottom - at / len(ordered) * (bottom - top)
            path += f"L{axis_.at(value):.1f} {before:.1f}L{axis_.at(value):.1f} {y:.1f}"
            before = y
        path += f"L{RIGHT} {before:.1f}"
        name = f"<title>{escape(curve.label)}</title>"
        parts.append(f'<path class="curve {curve.style} {curve.dash}" d="{path}">{name}</path>')
    parts.append("</svg>")
    return "".join(parts)


@dataclass(frozen=True)
class Point:
    """One sample of the run's course."""

    order: float
    value: float
    style: str
    label: str
    failed: bool = False


def course(points: Sequence[Point], axis_: Axis, description: str) -> str:
    """Samples in the order in which they were taken, the value upward: drift and disturbances show here."""
    height, top, bottom = 230, 12, 204
    last = max((point.order for point in points), default=1.0) or 1.0
    span = math.log(axis_.high) - math.log(axis_.low)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">']

    def level(value: float) -> float:
        return bottom - (math.log(max(value, axis_.low)) - math.log(axis_.low)) / span * (bottom - top)

    for tick in axis_.ticks:
        y = level(tick)
        parts.append(f'<line class="grid" x1="{LEFT + 46}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT + 42}" y="{y + 4:.1f}" text-anchor="end">'
                     f"{escape(axis_.show(tick))}</text>")
    for point in points:
        x = LEFT + 50 + point.order / last * (RIGHT - LEFT - 54)
        mark = "dot out" if point.failed else "dot"
        parts.append(f'<circle class="{mark} {point.style}" cx="{x:.1f}" cy="{level(point.value):.1f}" r="2.2">'
                     f"<title>{escape(point.label)}</title></circle>")
    parts.append(f'<text class="tick" x="{LEFT + 50}" y="{bottom + 17}">first sample</text>')
    parts.append(f'<text class="tick" x="{RIGHT}" y="{bottom + 17}" text-anchor="end">last</text></svg>')
    return "".join(parts)
