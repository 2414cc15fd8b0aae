"""Fixtures of the scenarios' testinfra tests, and what a run leaves out."""

import pytest
from matrix import leave_out
from support_record import pytest_runtest_makereport, support

__all__ = ["pytest_runtest_makereport", "support"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what is for the whole matrix only."""
    leave_out(items)
