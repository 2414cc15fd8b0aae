"""Hosts of their own for tests that ruin hosts: made once a session, removed at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from own_hosts import HOSTS, OwnHosts
from sandboxes import up


@pytest.fixture(scope="session")
def own_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnHosts]:
    """Three bare hosts, plain ones without k3s. SKERRY_KEEP_HOSTS=1 leaves them up, for the inner loop."""
    hosts = OwnHosts(tmp_path_factory.mktemp("inventories"))
    with up(hosts.inventory("all", {name: {} for name in HOSTS})):
        yield hosts
