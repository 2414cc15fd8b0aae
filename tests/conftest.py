"""Fixtures and settings of all tests."""

from hypothesis import settings
from support_record import pytest_runtest_makereport, support

__all__ = ["pytest_runtest_makereport", "support"]

# Examples share the machine with everything else that runs: a slow one is no failure.
settings.register_profile("skerry", deadline=None)
settings.load_profile("skerry")
