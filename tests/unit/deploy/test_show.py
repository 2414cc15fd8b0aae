"""What a submission came to, as programs read it."""

from __future__ import annotations

import json

import pytest

from skerry.deploy import show
from skerry.deploy.placement import Assignment, Chosen, Passed
from skerry.deploy.rollout import Outcome, Report


def test_programs_are_told_why_hosts_were_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    found = Report([Outcome("edge-1", "web", "created", rung="process")])
    found.chosen["web"] = Chosen(
        [Assignment("edge-1", "process", {}, "asked for")],
        [Passed("edge-2", "its region is us, not eu")],
        "1 of 2 replicas have a place",
    )
    show.submission(found, diff=False, as_json=True, seconds=1.0)
    outcome, missing = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (outcome["host"], outcome["action"]) == ("edge-1", "created")
    assert missing == {
        "name": "web",
        "short": "1 of 2 replicas have a place",
        "passed_over": {"edge-2": "its region is us, not eu"},
    }
    assert found.failed


def test_hosts_that_were_not_needed_are_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    found = Report(chosen={"web": Chosen(passed=[Passed("edge-2", "placement.hosts does not name it")])})
    show.submission(found, diff=False, as_json=True, seconds=1.0)
    assert capsys.readouterr().out == ""
