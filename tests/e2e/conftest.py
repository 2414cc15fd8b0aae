"""Hosts of end-to-end tests: converged ones, and ones of their own for tests that ruin hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deploying import converged
from own_hosts import HOSTS, OwnHosts
from sandboxes import up


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> Path:
    """Converged hosts: those of all scenarios, or those that SKERRY_RUN_INVENTORY names."""
    return converged(request)


@pytest.fixture(scope="session")
def own_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnHosts]:
    """Three bare hosts, plain ones without k3s. SKERRY_KEEP_HOSTS=1 leaves them up, for the inner loop."""
    hosts = OwnHosts(tmp_path_factory.mktemp("inventories"))
    with up(hosts.inventory("all", {name: {} for name in HOSTS})):
        yield hosts
