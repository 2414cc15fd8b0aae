"""What is no WASI command is refused before anything is sent."""

from __future__ import annotations

import os
import time
from pathlib import Path

import hostile_modules
import pytest
import wasm_modules
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.running.module import MOST_BYTES, inspect

GOOD = wasm_modules.exiting(3)


def _code(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "m.wasm"
    path.write_bytes(data)
    with pytest.raises(SkerryError) as caught:
        inspect(path)
    assert caught.value.remedy
    return caught.value.code


def test_a_command_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "m.wasm"
    path.write_bytes(GOOD)
    module = inspect(path)
    assert module.imports == (("wasi_snapshot_preview1", "proc_exit"),)
    assert module.exports == {"memory": "memory", "_start": "function"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "RUN_002"),
        (b"#!/bin/sh\n", "RUN_002"),
        (b"(module)", "RUN_002"),
        (b"\0asm\x0d\0\x01\0", "RUN_003"),
        (b"\0asm\x02\0\0\0", "RUN_003"),
        (GOOD[:-3], "RUN_004"),
        (GOOD + b"\x01", "RUN_004"),
        (b"\0asm\x01\0\0\0", "RUN_005"),
        (wasm_modules.wat('(module (func (export "main")))'), "RUN_005"),
        (wasm_modules.wat('(module (memory (export "_start") 1))'), "RUN_005"),
        (wasm_modules.wat('(module (import "env" "f" (func)) (func (export "_start")))'), "RUN_006"),
    ],
)
def test_what_is_refused(tmp_path: Path, data: bytes, code: str) -> None:
    assert _code(tmp_path, data) == code


def test_bombs_are_read_in_no_time(tmp_path: Path) -> None:
    """What is sent is read here, without any limit around it: its cost follows its size, and both have a bound."""
    for name, make in hostile_modules.BOMBS.items():
        path = tmp_path / f"{name}.wasm"
        path.write_bytes(make())
        begun = time.process_time()
        assert inspect(path).exports == {"memory": "memory", "_start": "function"}
        assert time.process_time() - begun < 2, name
    assert _code(tmp_path, hostile_modules.many_names()) == "RUN_004"
    twice = b"\x01\x01\0"
    assert _code(tmp_path, b"\0asm\x01\0\0\0" + twice * 2) == "RUN_004"


def test_what_has_no_end_is_not_begun(tmp_path: Path) -> None:
    large, pipe = tmp_path / "large.wasm", tmp_path / "pipe.wasm"
    with large.open("wb") as file:
        file.write(GOOD)
        file.truncate(MOST_BYTES + 1)
    os.mkfifo(pipe)
    for path, code in ((large, "RUN_008"), (pipe, "RUN_001"), (Path("/dev/zero"), "RUN_001")):
        with pytest.raises(SkerryError, match=code):
            inspect(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SkerryError) as caught:
        inspect(tmp_path / "none.wasm")
    assert caught.value.code == "RUN_001"


@given(st.integers(8, len(GOOD) - 1), st.integers(0, 255))
def test_no_damage_makes_it_fall_over(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.wasm"
    path.write_bytes(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    try:
        assert inspect(path).size == len(GOOD)
    except SkerryError as error:
        assert error.code.startswith("RUN_00")
