"""What the tests of the scenario share: where they can run, and the scenario's playbook for another run."""

from __future__ import annotations

from functools import partial

import pytest
from shared_hosts import run


@pytest.fixture(scope="module", autouse=True)
def _issuer_or_reason(host, k3s_server):
    if not host.file("/var/lib/rancher/k3s/server/static/charts/cert-manager.tgz").exists:
        pytest.skip("the mirror lacks cert-manager's chart, its images or that of k3s's Helm job")


@pytest.fixture(scope="session")
def role():
    """Runs the scenario's playbook once more, with other variables."""
    return partial(run, "molecule/cert_manager/converge.yml")
