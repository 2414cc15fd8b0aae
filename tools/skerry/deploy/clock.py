"""When schedules run: cron expressions and time zones, judged on the controller before anything is sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

#: What all rungs can say: systemd's timers and Kubernetes' CronJobs know no last day (L), weekday (W) or nth (#).
_PLAIN = re.compile(r"[0-9a-z*,/-]+")
_NICKNAMES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
              "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}
#: Files below zoneinfo that are no zones of the IANA database, or another reading of one.
_NO_ZONES = ("right/", "posix/", "localtime", "posixrules", "Factory")


def fields(cron: str) -> str:
    """The five fields of a cron expression, nicknames written out, one blank between them.

    Raises:
        ValueError: for what is no expression, or never comes.
    """
    found = _NICKNAMES.get(cron.strip().lower(), cron).split()
    if len(found) != 5:
        raise ValueError(f"{cron!r} is no cron expression: minute, hour, day of month, month, day of week; or @daily")
    for field in found:
        if not _PLAIN.fullmatch(field.lower()) or re.search(r"\dl|^lw?$", field.lower()):
            raise ValueError(f"{cron!r}: {field} is more than timers of hosts can say: use numbers, names, * , - and /")
    text = " ".join(found)
    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"{cron!r} is no cron expression: {error}") from error
    except StopIteration as error:
        raise ValueError(f"{cron!r} never comes") from error
    return text


def zone(name: str) -> str:
    """The name of a time zone of the IANA database.

    Raises:
        ValueError: for what is none.
    """
    refused = ValueError(f"{name!r} is no time zone: write it like Europe/Berlin")
    if name.startswith(_NO_ZONES):
        raise refused
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of zones, such as "America"
        raise refused from error
    return name
