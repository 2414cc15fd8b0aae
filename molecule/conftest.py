"""Fixtures of the scenarios' testinfra tests, and what a run leaves out."""

import pytest
from matrix import leave_out
from shared_cluster import SERVER, facts
from support_record import pytest_runtest_makereport, support

__all__ = ["pytest_runtest_makereport", "support"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what is for the whole matrix only."""
    leave_out(items)


@pytest.fixture(scope="module")
def k3s_server(host):
    """For tests of the cluster, which are asked on its server; skips on the other hosts, and where there is none."""
    if host.backend.hostname != SERVER:
        pytest.skip("asked on the server")
    section = facts(host, "k3s")
    if "role" not in section:
        pytest.skip(section.get("reason", "there is no k3s on the hosts"))
