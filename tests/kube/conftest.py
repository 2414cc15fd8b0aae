"""A real API server for all tests of this folder, which are skipped with the reason where it cannot be built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.testing.kube.cluster import Cluster, Plan

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below needs Kubernetes' programs; tests/conftest.py, which skips, comes after."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.kubernetes)


@pytest.fixture(scope="module")
def api_server() -> Iterator[Cluster]:
    """A cluster for each file, so that nobody finds what others left: three simulated nodes, scheduler, controllers."""
    with Cluster(Plan(nodes=3)) as cluster:
        yield cluster
