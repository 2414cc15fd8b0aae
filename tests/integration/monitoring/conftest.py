"""The small site that tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from monitoring_live import Live


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One small site for all tests of the session."""
    with ExitStack() as stack:
        yield Live(tmp_path_factory.mktemp("live"), stack)
