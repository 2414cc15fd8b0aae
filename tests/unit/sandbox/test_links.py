"""Links: their texts, and what the relay does to frames."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.sandbox.links import PRESETS, QUEUE_SECONDS, Link, parse, same
from skerry.sandbox.measure import parse_ping
from skerry.sandbox.measure_host import rate
from skerry.sandbox.relay import Lane


@pytest.mark.parametrize(
    "text, link",
    [
        ("", Link()),
        ("none", Link()),
        ("4g", PRESETS["4g"]),
        ("latency=40ms,jitter=10ms,loss=1%,rate=10mbit", Link(40, 10, 1, 10, 10)),
        ("latency=0.5s", Link(latency=500)),
        ("rate=1gbit/500kbit", Link(down=1000, up=0.5)),
        ("rate=10mbit/s", Link(down=10, up=10)),
        ("4g,loss=2%", Link(45, 5, 2, 7.21, 7.21)),
    ],
)
def test_a_text_is_read(text: str, link: Link) -> None:
    assert parse(text) == link


@pytest.mark.parametrize(
    "text, part",
    [
        ("3g", "3g"),
        ("latency=fast", "fast"),
        ("latency=-1", "-1"),
        ("speed=3", "speed"),
        ("loss=100%", "at most 99"),
        ("latency=5,jitter=10", "jitter is larger"),
        ("loss=1%,4g", "4g"),
        ("rate=10parsec", "10parsec"),
    ],
)
def test_a_wrong_text_is_refused_with_the_part_that_is_wrong(text: str, part: str) -> None:
    with pytest.raises(SkerryError) as caught:
        parse(text)
    assert caught.value.code == "SANDBOX_020"
    assert part in caught.value.cause
    assert "satellite" in caught.value.remedy


def test_every_preset_is_sound_and_noted_values_are_recognised() -> None:
    for name, link in PRESETS.items():
        assert link.shapes, name
        assert link.jitter <= link.latency, name
        assert same(link, link.as_dict())
        assert not same(link, {**link.as_dict(), "loss": link.loss + 0.5})


def frames_through(lane: Lane, arrivals: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Feed frames at their times, collect departures at the lane's own times."""
    left: list[tuple[float, bytes]] = []
    for at, frame in arrivals:
        while (due := lane.next()) is not None and due <= at:
            left += [(due, out) for out in lane.due(due)]
        lane.put(frame, at)
    while (due := lane.next()) is not None:
        left += [(due, out) for out in lane.due(due)]
    return left


@given(
    gaps=st.lists(st.floats(0, 0.02), min_size=1, max_size=200),
    latency=st.floats(1, 100),
    part=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_frames_keep_their_order_and_are_late_by_no_more_than_asked(
    gaps: list[float], latency: float, part: float, seed: int
) -> None:
    link = Link(latency=latency, jitter=latency * part)
    now, arrivals = 0.0, []
    for index, gap in enumerate(gaps):
        now += gap
        arrivals.append((now, index.to_bytes(4, "big")))
    left = frames_through(Lane(link, 0, random.Random(seed)), arrivals)
    assert [frame for _, frame in left] == [frame for _, frame in arrivals]
    for (came, _), (went, _) in zip(arrivals, left, strict=True):
        assert came + (latency - link.jitter) / 1000 - 1e-9 <= went <= came + (latency + link.jitter) / 1000 + 1e-9


def test_the_share_asked_is_lost() -> None:
    lane = Lane(Link(loss=10), 0, random.Random(1))
    left = frames_through(lane, [(index / 1000, b"x") for index in range(20_000)])
    assert lane.lost + len(left) == 20_000
    assert 0.09 < lane.lost / 20_000 < 0.11


def test_the_rate_holds_and_a_full_queue_drops() -> None:
    """2 s of frames at twice the rate: what leaves, leaves at the rate; the queue never holds more than its time."""
    size, mbit = 1250, 10.0  # 1 ms a frame at this rate
    lane = Lane(Link(), mbit, random.Random(1))
    arrivals = [(index * 0.0005, bytes(size)) for index in range(4000)]
    left = frames_through(lane, arrivals)
    seconds = left[-1][0] - left[0][0]
    assert (len(left) - 1) * size * 8 / seconds / 1e6 == pytest.approx(mbit, rel=0.01)
    assert lane.dropped == 4000 - len(left) > 1000
    assert left[-1][0] - arrivals[-1][0] <= QUEUE_SECONDS + 0.002


def test_ping_is_read_with_and_without_answers() -> None:
    good = parse_ping(
        "200 packets transmitted, 197 received, 1.5% packet loss, time 4600ms\n"
        "rtt min/avg/max/mdev = 62.506/80.004/97.747/8.141 ms, pipe 5\n"
    )
    assert (good.rtt_ms, good.rtt_deviation_ms, good.loss_percent) == (80.004, 8.141, 1.5)
    dead = parse_ping("200 packets transmitted, 0 received, 100% packet loss, time 2000ms\n")
    assert (dead.rtt_ms, dead.loss_percent, dead.why) == (None, 100.0, "")
    assert "bad address" in parse_ping("ping: bad address").why


def test_a_rate_leaves_the_first_burst_out() -> None:
    burst = [(0.0, 1_000_000)]
    steady = [(0.2 + 0.01 * index, 12_500) for index in range(1, 101)]
    assert rate(burst + steady) == pytest.approx(10.0, rel=0.01)
    assert rate(burst) == 0.0
