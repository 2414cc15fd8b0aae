"""`skerry ps --watch` without hosts: which answers are told, and in which words."""

from __future__ import annotations

from typing import Any

from skerry.deploy.watch import Picture, words
from skerry.errors import SkerryError

LOST = SkerryError("TARGET_003", "host h: it cannot be reached", "check it")


def row(name: str = "a", state: str = "running", **more: Any) -> dict[str, Any]:
    return {"name": name, "owner": "o", "kind": "service", "rung": "process", "runtime": "wasmtime 48", "state": state,
            "ready": state == "running", "revision": "1" * 64, "number": 1, "for_seconds": 1.0, "restarts": 0,
            "memory_bytes": 1, "last": None, **more}


def ended(invocation: str, **more: Any) -> dict[str, Any]:
    return {"invocation": invocation, "exit_code": 0, "trap": None, "signal": None, "limit": None, **more}


def picture(*names: str) -> Picture:
    return Picture(names, lambda host: [{"host": host, "name": "a", "owner": "o", "state": "unknown"}])


def told(of: Picture, answer: Any) -> list[tuple[str, str]]:
    return [(event.what, words(event).plain.split(" ", 1)[1]) for event in of.take("h", answer)]


def test_only_what_matters_is_told() -> None:
    seen = picture()
    assert told(seen, [row()]) == [("new", "a h running r1 11111111")]
    assert told(seen, [row(for_seconds=2.0, memory_bytes=2)]) == []
    assert told(seen, [row(state="restarting", restarts=3)]) == [
        ("changed", "a h running -> restarting, restarts 0 -> 3")]
    assert told(seen, [row(revision="2" * 64, number=2, restarts=3)]) == [
        ("changed", "a h restarting -> running, now r2 22222222")]
    assert told(seen, []) == [("gone", "a h gone")]


def test_each_run_of_a_schedule_is_told_once() -> None:
    seen = picture()
    list(seen.take("h", [row(state="waiting")]))
    assert told(seen, [row(state="waiting", last=ended("x"))]) == [("changed", "a h a run ended: exit 0")]
    assert told(seen, [row(state="waiting", last=ended("x"))]) == []
    assert told(seen, [row(state="last failed", last=ended("y", exit_code=None, limit="time"))]) == [
        ("changed", "a h waiting -> last failed, a run ended: limit: time")]


def test_a_lost_host_is_unknown_until_it_answers_again() -> None:
    seen = picture()
    list(seen.take("h", [row()]))
    assert told(seen, LOST) == [("lost", "h cannot be asked: TARGET_003 host h: it cannot be reached"),
                                ("changed", "a h running -> unknown")]
    assert told(seen, LOST) == []
    assert [one["state"] for one in seen.all()] == ["unknown"]
    assert told(seen, [row(restarts=5)]) == [("found", "h answers again"), ("changed", "a h unknown -> running")]


def test_names_choose() -> None:
    seen = picture("b")
    assert [event.row["name"] for event in seen.take("h", [row(), row("b")])] == ["b"]
    assert [event.what for event in seen.take("h", LOST)] == ["lost", "gone"]
    assert not seen.all(), "nothing is known of b there"
