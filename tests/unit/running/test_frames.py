"""Frames survive any way of cutting the stream; nonsense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.probe import frames

HEADERS = st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=20), st.none()), max_size=4)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=200)), max_size=6), st.integers(1, 50))
def test_any_pieces_give_the_same_frames(sent: list[tuple[dict[str, object], bytes]], size: int) -> None:
    stream = b"".join(frames.encode(header, payload) for header, payload in sent)
    decoder = frames.Decoder()
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == sent


@pytest.mark.parametrize(
    "data",
    [
        b"Welcome to host 7!\n" * 3,  # a login shell that talks
        frames.LENGTHS.pack(2, 0) + b"[]",
        frames.LENGTHS.pack(3, 0) + b"{x}",
        frames.LENGTHS.pack(frames.HEADER_LIMIT + 1, 0),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(frames.FrameError):
        list(frames.Decoder().feed(data))
