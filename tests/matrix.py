"""Tests marked ``full`` run in `skerry test --full` only: they are long, and others show the same thing in short."""

from __future__ import annotations

import os

import pytest

REASON = "part of the whole matrix: skerry test --full"


def leave_out(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this run leaves out."""
    if os.environ.get("SKERRY_TEST_MODE") == "full":
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason=REASON))
