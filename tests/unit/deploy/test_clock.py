"""Schedules on the controller: what it lets through, hosts can say, and systemd comes at the same times."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from skerry.deploy import clock
from skerry.deploy.model import Workload
from skerry_host.calendar import on_calendar

BEGIN = datetime(2026, 2, 27, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize("cron", [
    "", "* * * *", "* * * * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "@never",
    "0 0 L * *", "0 0 LW * *", "0 0 * * 5L", "0 0 * * mon#1", "0 0 ? * *", "0 0 31 2 *", "٣ * * * *",
])
def test_what_is_no_cron_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match=r"cron expression|timers of hosts"):
        clock.fields(cron)


@pytest.mark.parametrize("name", ["Mars", "", "America", "europe/berlin", "/etc/localtime", "../UTC", "localtime",
                                  "right/UTC", "zone.tab", "Europe/Berlin\n"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        clock.zone(name)


def document(**schedule: Any) -> Workload:
    return Workload.model_validate({"name": "a", "kind": "schedule", "module": "m.wasm", "schedule": schedule})


def test_the_workload_file_takes_nicknames_and_names_the_key_that_is_wrong() -> None:
    found = document(cron=" @Weekly", time_zone="Europe/Berlin").schedule
    assert found is not None
    assert (found.cron, found.time_zone) == ("0 0 * * 0", "Europe/Berlin")
    assert document(cron="0  2 * jan-mar mon-fri") is not None
    with pytest.raises(ValidationError, match=r"schedule\.cron"):
        document(cron="0 25 * * *")


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).filter(lambda two: two[0] < two[1]).map(lambda two: f"{two[0]}-{two[1]}")
    step = st.tuples(st.one_of(st.just("*"), span), st.integers(1, 7)).map(lambda two: f"{two[0]}/{two[1]}")
    part = st.one_of(number.map(str), span, step)
    return st.one_of(st.just("*"), step, st.lists(part, min_size=1, max_size=3).map(",".join))


CRON = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)).map(" ".join)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@settings(max_examples=60, deadline=None)
@given(cron=CRON)
def test_systemd_comes_at_the_times_of_cron(cron: str) -> None:
    lines = on_calendar(clock.fields(cron), "UTC")
    since = f"--base-time={BEGIN:%Y-%m-%d %H:%M:%S} UTC"
    done = subprocess.run(["systemd-analyze", "calendar", since, "--iterations=3", *lines],
                          capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"})
    said = {line.rsplit(": ", 1)[1].split(" ", 1)[1] for line in done.stdout.splitlines() if line.endswith(" UTC")
            and ("elapse" in line or "Iter" in line)}
    times = CronSim(cron, BEGIN)
    expected = [f"{next(times):%Y-%m-%d %H:%M:%S} UTC" for _ in range(3)]
    assert sorted(said)[:3] == expected
