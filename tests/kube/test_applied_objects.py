"""What our roles apply is taken by a real API server, strictly validated, and a second time changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from kube import applying
from kube.applying import Case, Recorded

from skerry.testing.kube.cluster import Cluster

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Recorded]:
    return applying.record(applying.cases(), tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def cluster(api_server: Cluster) -> Cluster:
    """The API server with the kind that k3s adds."""
    definition = yaml.safe_load((DATA / "helmchart.yml").read_text())
    assert api_server.admin.apply(definition).status in (200, 201)
    api_server.wait("with HelmCharts", lambda: api_server.admin.ask("GET", "/apis/helm.cattle.io/v1").status == 200, 30)
    return api_server


@pytest.mark.parametrize("case", applying.cases(), ids=str)
def test_a_role_s_objects(case: Case, recorded: dict[Case, Recorded], cluster: Cluster) -> None:
    found = recorded[case]
    assert not found.failure, found.failure
    if not found.calls and case.name == "defaults":
        pytest.skip(f"with its defaults {case.role} installs nothing")
    differences = []
    for module, arguments in found.calls:
        try:
            differences += applying.bring(cluster, module, arguments)
        except K3sError as error:
            if error.code == "CHART_022":
                pytest.skip(f"{error.cause}: a chart brings it, and charts come with a mirror")
            raise
        assert applying.bring(cluster, module, arguments) == []
        assert applying.bring(cluster, module, arguments, check=True) == []
    assert differences
