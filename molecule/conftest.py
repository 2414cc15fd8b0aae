"""Fixtures of the scenarios' testinfra tests."""

from support_record import pytest_runtest_makereport, support

__all__ = ["pytest_runtest_makereport", "support"]
