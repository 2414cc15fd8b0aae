"""The runtime's own words and the module's output are told apart, however the output is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.probe.rungs.words import Words

LOG = (
    b"[2026-11-21 11:45:17.983] [error] execution failed: integer divide by zero, Code: 0x404\n"
    b'[2026-11-21 11:45:17.983] [error]     When executing function name: "_start"\n'
)
LIKE = b"[2026-11-21 11:45:17.983] [error] printed by the module itself\n"


def _pass(data: bytes, size: int, failed: bool) -> tuple[bytes, str]:
    out = bytearray()
    words = Words(lambda _, piece: out.extend(piece))
    for start in range(0, len(data), size):
        words("stdout", data[start : start + size])
    said = words.finish(failed)
    return bytes(out), said


@given(st.binary(max_size=120), st.integers(1, 40))
def test_output_without_an_error_is_untouched(data: bytes, size: int) -> None:
    assert _pass(data + LIKE + data, size, failed=False) == (data + LIKE + data, "")


@given(st.text("ab[]-: 0123456789\n", max_size=60), st.integers(1, 40))
def test_the_words_after_the_output_are_taken_out(text: str, size: int) -> None:
    data = text.encode() + b"\n"
    assert _pass(data + LOG, size, failed=True) == (data, LOG.decode().rstrip("\n"))


def test_a_line_that_the_module_did_not_end() -> None:
    out, said = _pass(b"half a line" + LOG, 7, failed=True)
    assert out == b"half a line"
    assert said.startswith("[2026-11-21") and "integer divide" in said


def test_a_look_alike_before_more_output_is_the_modules() -> None:
    out, said = _pass(LIKE + b"more\n" + LOG, 16, failed=True)
    assert out == LIKE + b"more\n"
    assert "printed by" not in said


def test_a_failure_without_words() -> None:
    assert _pass(b"x\n", 1, failed=True) == (b"x\n", "")


@pytest.mark.parametrize("stream", ["stderr"])
def test_standard_error_is_not_looked_at(stream: str) -> None:
    out = bytearray()
    words = Words(lambda _, piece: out.extend(piece))
    words(stream, LOG)
    assert bytes(out) == LOG
