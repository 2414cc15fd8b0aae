"""What our roles apply is taken by a real API server, strictly validated, and a second time changes nothing."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

import pytest
import yaml
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from kube import applying
from kube.applying import Case, Recorded
from support_record import Support

from skerry import paths
from skerry.inventory.specs import load_roles
from skerry.testing.kube import build
from skerry.testing.kube.cluster import Cluster
from skerry.testing.support import MACHINES, family_of

#: Roles, as docs/support.md calls them.
COMPONENTS = {
    "cert_manager": "cert-manager", "kwasm": "kwasm", "nfs_provisioner": "nfs", "prometheus": "prometheus",
    "redpanda": "redpanda", "security_baseline": "security baseline",
}  # fmt: skip
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Recorded]:
    return applying.record(applying.cases(), tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def cluster(api_server: Cluster) -> Cluster:
    """The API server with the kinds that k3s and charts add."""
    groups = set()
    for path in (DATA / "helmchart.yml", *build.definitions("cert-manager")):
        for definition in yaml.safe_load_all(path.read_text()):
            assert api_server.admin.apply(definition).status in (200, 201), path
            groups.add(f"/apis/{definition['spec']['group']}/{definition['spec']['versions'][0]['name']}")
    assert "/apis/cert-manager.io/v1" in groups

    def served() -> bool:
        return all(api_server.admin.ask("GET", group).status == 200 for group in groups)

    api_server.wait("with all kinds", served, 30)
    return api_server


def test_the_kinds_are_those_of_the_version_that_the_role_installs() -> None:
    pinned = (paths.root() / "tests/kube/definitions/go.mod").read_text()
    assert f"cert-manager {load_roles()['cert_manager'].defaults['cert_manager_version']}\n" in pinned


@pytest.mark.parametrize("case", applying.cases(), ids=str)
def test_a_role_s_objects(case: Case, recorded: dict[Case, Recorded], cluster: Cluster, support: Support) -> None:
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
    assert differences, "the case applies nothing"
    if case.role in COMPONENTS:
        record(support, COMPONENTS[case.role])


def record(support: Support, component: str) -> None:
    """Note it for the release that this machine runs; one that the table does not have is not noted."""
    here = platform.freedesktop_os_release()
    with contextlib.suppress(ValueError):
        family, arch = family_of(here["ID"], here.get("VERSION_ID", "")), MACHINES[platform.machine()]
        support(component, family, arch, "accepted by a real API", "objects applied, strictly validated, twice")
