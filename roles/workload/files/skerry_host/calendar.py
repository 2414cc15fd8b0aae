"""Cron expressions in systemd's words (systemd.time(7), "Calendar Events")."""

from __future__ import annotations

import re

from .faults import HostError

_MONTHS = {name: str(number) for number, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}  # fmt: skip
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _wrong(cron: str, why: str) -> HostError:
    return HostError("HOST_021", f"{cron!r} is no cron expression: {why}", "minute, hour, day, month, day of week")


def _values(field: str, which: int, cron: str) -> list[int]:
    """All numbers that a field names."""
    low, high = _BOUNDS[which]
    names = _MONTHS if which == 3 else {name.lower(): str(at) for at, name in enumerate(_DAYS)} if which == 4 else {}
    found: set[int] = set()
    text = field.lower()
    for name, number in names.items():
        text = text.replace(name, number)
    for part in text.split(","):
        match = re.fullmatch(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        if match is None:
            raise _wrong(cron, f"{part!r}")
        star, first, last, step = match.groups()
        begin = low if star else int(first)
        end = high if star or (step and last is None) else int(last or first)
        if not low <= begin <= end <= high or step == "0":
            raise _wrong(cron, f"{part!r} is not within {low} to {high}")
        found.update(range(begin, end + 1, int(step or 1)))
    return sorted({0 if which == 4 and one == 7 else one for one in found})


def _written(values: list[int], which: int) -> str:
    low, high = _BOUNDS[which]
    if len(values) == high - low + (0 if which == 4 else 1):
        return "*"
    return ",".join(str(one) for one in values)


def on_calendar(cron: str, time_zone: str) -> list[str]:
    """One or two ``OnCalendar=`` values; two where both day fields are given, which cron takes as "or" (cron(8) of
    Debian: a field that begins with a star is not "given").

    Raises:
        HostError: HOST_021 for what is no cron expression of five fields.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise _wrong(cron, f"it has {len(fields)} fields")
    minute, hour, day, month, weekday = (_values(field, at, cron) for at, field in enumerate(fields))
    clock = f"{_written(hour, 1)}:{_written(minute, 0)}:00"
    days = "" if _written(weekday, 4) == "*" else ",".join(_DAYS[one] for one in weekday) + " "
    date = f"*-{_written(month, 3)}-"
    if not fields[2].startswith("*") and not fields[4].startswith("*"):
        return [f"{days}{date}* {clock} {time_zone}", f"{date}{_written(day, 2)} {clock} {time_zone}"]
    return [f"{days}{date}{_written(day, 2)} {clock} {time_zone}"]
