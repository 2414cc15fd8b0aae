"""The images that roles declare, against what Helm shows of the real charts, where the default mirror has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from skerry import paths
from skerry.mirror import charts
from skerry.mirror.charts import Chart
from skerry.mirror.plan import Plan, needs
from skerry.mirror.reference import parse

#: Everything that roles can install; what excludes each other has sites of its own.
SITES = {
    "all of it": {
        "cert_manager_state": "present", "prometheus_state": "present", "prometheus_alertmanager": True,
        "prometheus_grafana": True,
        "nfs_provisioner_state": "present", "redpanda_state": "present", "kwasm_provider": "kwasm_operator",
    },
    "the others": {
        "nfs_provisioner_state": "present", "nfs_provisioner_provider": "csi", "redpanda_state": "present",
        "prometheus_state": "present", "redpanda_tls": True, "redpanda_console": True,
        "kwasm_provider": "runtime_class_manager",
    },
}  # fmt: skip


def test_every_role_that_needs_something_is_asked() -> None:
    roles = {path.parents[1].name for path in (paths.root() / "roles").glob("*/tasks/artifacts.yml")} - {"helm_chart"}
    asked = set()

    def walk(tasks: list[dict[str, object]]) -> None:
        for task in tasks:
            if isinstance(block := task.get("block"), list):
                walk(block)
            role = task.get("ansible.builtin.import_role")
            if isinstance(role, dict):
                asked.add(str(role["name"]))

    walk(yaml.safe_load((paths.root() / "playbooks" / "tasks" / "needs.yml").read_text()))
    assert asked == roles


@pytest.fixture(scope="module", params=SITES)
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    hosts = {"skerry_servers": {"hosts": {"one": None}}, "skerry_agents": {"hosts": {"two": None}}}
    inventory = tmp_path_factory.mktemp("declared") / "inventory.yml"
    variables = {"skerry_arch": "amd64", **SITES[request.param]}
    inventory.write_text(yaml.safe_dump({"all": {"children": hosts, "vars": variables}}))
    yield needs(inventory, [])


def rendered(chart: Chart, kubernetes: str) -> set[str]:
    """References in the real chart with the role's values."""
    archive = paths.mirror() / chart.chart / chart.version / "noarch" / chart.file
    text = charts.render(charts.helm(), Path(archive), chart, kubernetes)
    return {parse(reference).text for reference in charts.images_of(text)}


@pytest.mark.skipif(not charts.helm(), reason="no helm: it is built by ./skerry test 'kubernetes build'")
def test_what_a_chart_shows_is_declared(plan: Plan) -> None:
    declared = {reference for reference, _ in plan.images}
    there = [
        chart for chart, _ in plan.charts
        if (paths.mirror() / chart.chart / chart.version / "noarch" / chart.file).is_file()
    ]  # fmt: skip
    if not there:
        wanted = ", ".join(f"{chart.chart} {chart.version}" for chart, _ in plan.charts)
        pytest.skip(f"the mirror {paths.mirror()} has none of the charts: {wanted}")
    missing = {chart.chart: sorted(rendered(chart, plan.kubernetes) - declared) for chart in there}
    assert not {name: images for name, images in missing.items() if images}


def test_images_that_no_manifest_shows_are_declared(plan: Plan) -> None:
    declared = {reference for reference, _ in plan.images}
    names = {chart.chart for chart, _ in plan.charts}
    if "cert-manager" in names:
        assert any("cert-manager-acmesolver:" in reference for reference in declared)
    assert not [reference for reference in declared if reference.endswith(":latest")]  # they are always pulled anew
