"""Every value that a role can set, against the chart's defaults and schema: an unknown key fails.

A role that installs charts has a file in cases/ (its name): ``releases`` (chart, version, values: templates over the
role's own variables), ``cases`` (name -> variables; together they set every variable of the role that is not listed in
``not_values``), and, where the values depend on more, ``vars`` of all cases and ``groups`` of further hosts. The values
are made by Ansible from the role's own defaults, vars and specification.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from chart_values import DATA, Chart, commented_keys, folders, load, problems, sources
from role_values import CASES, Rendered, charts_of, render

from skerry import paths

ROLES = sorted(path.stem for path in CASES.glob("*.yml"))


@pytest.fixture(scope="module", params=ROLES)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """All cases of one role."""
    return render(request.param, tmp_path_factory.mktemp(request.param))


def test_every_value_is_known_to_its_chart(rendered: Rendered) -> None:
    found = []
    for case, releases in rendered.cases.items():
        assert releases, f"{rendered.role}, case {case}: no release"
        for release in releases:
            chart = load(release["chart"], release["version"])
            found += [f"{case}: {chart.name}: {line}" for line in problems(chart, release["values"])]
    assert not found, "\n".join(found)


def test_every_variable_is_tried(rendered: Rendered) -> None:
    """A variable that no case sets would have its values unchecked."""
    specification = yaml.safe_load((paths.root() / f"roles/{rendered.role}/meta/argument_specs.yml").read_text())
    options = set(specification["argument_specs"]["main"]["options"])
    untried = options - rendered.tried - rendered.not_values
    assert not untried, f"in no case of {CASES.name}/{rendered.role}.yml, nor in its not_values: {sorted(untried)}"
    assert rendered.not_values <= options, f"not_values unknown to the role: {sorted(rendered.not_values - options)}"


def test_every_role_with_a_chart_has_cases() -> None:
    using = [
        path.parent.name for path in (paths.root() / "roles").glob("*/tasks")
        if any(re.search(r"name:\s*helm_chart\s*$", file.read_text(), re.MULTILINE) for file in path.rglob("*.yml"))
    ]  # fmt: skip
    missing = set(using) - set(ROLES)
    assert not missing, f"no file in tests/unit/platform/cases for {sorted(missing)}"


# The check itself -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chart", "version"), [(path.parent.name, path.name) for path in folders()])
def test_a_charts_own_defaults_pass(chart: str, version: str) -> None:
    data = load(chart, version)
    # Defaults of a parent stand for those of its sub-charts, which need not set everything that their schema wants.
    own = {key: value for key, value in data.defaults.items() if key not in data.children}
    assert problems(data, own) == []


def test_the_data_says_where_it_came_from() -> None:
    assert {(path.parent.name, path.name) for path in folders()} == {
        (chart, version) for chart, versions in sources().items() for version in versions
    }
    assert all({"repository", "commit", "license"} <= set(row) for rows in sources().values() for row in rows.values())
    assert DATA.is_dir()


UNKNOWN: list[tuple[str, str, dict[str, Any], str]] = [
    ("redpanda", "26.2.1", {"statefulset": {"replica": 1}}, "statefulset.replica"),
    ("redpanda", "26.2.1", {"resources": {"cpu": {"core": 1}}}, "resources.cpu.core"),
    ("redpanda", "26.2.1", {"console": {"enabled": True, "replicas": 2}}, "console.replicas"),
    ("cert-manager", "v1.21.2", {"webhook": {"timeout": 30}}, "webhook.timeout"),
    ("nfs-server-provisioner", "1.8.0", {"persistence": {"storageclass": "local-path"}}, "persistence.storageclass"),
    ("nfs-server-provisioner", "1.8.0", {"persistance": {"enabled": True}}, "persistance"),
    ("nfs-server-provisioner", "1.8.0", {"service": 3}, "service"),
    ("nfs-server-provisioner", "1.8.0", {"storageClass": {"mountOptions": "vers=4.1"}}, "storageClass.mountOptions"),
    ("csi-driver-nfs", "4.13.4", {"controller": {"replicaCount": 1}}, "controller.replicaCount"),
    ("prometheus", "29.27.0", {"server": {"retentionsize": "1GB"}}, "server.retentionsize"),
    ("prometheus", "29.27.0", {"alertmanager": {"persistence": {"sice": "1Gi"}}}, "alertmanager.persistence.sice"),
    ("prometheus", "29.27.0", {"kube-state-metrics": {"replica": 1}}, "kube-state-metrics.replica"),
    ("grafana", "12.11.1", {"sidecars": {}}, "sidecars"),
    ("kwasm-operator", "0.2.3", {"kwasmOperator": {"installerimage": "x"}}, "kwasmOperator.installerimage"),
    ("runtime-class-manager", "0.1.0", {"rcm": {"nodeInstaller": {}}}, "rcm.nodeInstaller"),
]


@pytest.mark.parametrize(("chart", "version", "values", "path"), UNKNOWN, ids=[f"{row[0]}-{row[3]}" for row in UNKNOWN])
def test_an_unknown_key_fails(chart: str, version: str, values: dict[str, Any], path: str) -> None:
    assert any(line.startswith(f"{path}:") for line in problems(load(chart, version), values)), problems(
        load(chart, version), values
    )


KNOWN: list[tuple[str, str, dict[str, Any]]] = [
    ("redpanda", "26.2.1", {"config": {"cluster": {"log_retention_ms": 60000}}}),
    ("redpanda", "26.2.1", {"podTemplate": {"spec": {"nodeSelector": {"kubernetes.io/arch": "amd64"}}}}),
    ("redpanda", "26.2.1", {"resources": {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}}}),
    ("nfs-server-provisioner", "1.8.0", {"persistence": {"storageClass": "x"}, "extraArgs": {"grace-period": 10}}),
    ("cert-manager", "v1.21.2", {"nodeSelector": {"skerry.dev/host-type": "cloud"}}),
    ("prometheus", "29.27.0", {"kube-state-metrics": {"enabled": False}, "serverFiles": {"own.yml": {}}}),
]  # fmt: skip


@pytest.mark.parametrize(("chart", "version", "values"), KNOWN, ids=[f"{row[0]}-{next(iter(row[2]))}" for row in KNOWN])
def test_a_known_key_passes(chart: str, version: str, values: dict[str, Any]) -> None:
    assert problems(load(chart, version), values) == []


def test_a_key_that_only_a_comment_shows_is_known() -> None:
    text = "a:\n  b: 1\n  # c: 2\n  ## Prose about it: nothing\n#  d:\n# e:\n"
    assert commented_keys(text) == {"a": {"c", "d"}, "": {"d", "e"}}


def test_a_value_that_the_schema_refuses_fails() -> None:
    found = problems(load("redpanda", "26.2.1"), {"external": {"enabled": True, "type": "Ingress"}})
    assert any(line.startswith("external.type:") for line in found), found


def test_a_version_without_data_is_named() -> None:
    with pytest.raises(LookupError, match=r"no data of chart redpanda 1\.0\.0"):
        load("redpanda", "1.0.0")


def test_a_wrong_value_of_a_role_is_found(tmp_path: Any) -> None:
    """The whole way, with a role made for it: what a person would misspell in `extra_values`."""
    role = tmp_path / "roles" / "made_up"
    for name, content in {
        "defaults/main.yml": {"made_up_extra_values": {}},
        "vars/main.yml": {
            "__made_up_values": "{{ {'replicaCount': 1} | combine(made_up_extra_values, recursive=true) }}"
        },
    }.items():
        (role / name).parent.mkdir(parents=True, exist_ok=True)
        (role / name).write_text(json.dumps(content))
    cases = {
        "releases": [{"chart": "nfs-server-provisioner", "version": "1.8.0", "values": "{{ __made_up_values }}"}],
        "cases": {"well": {}, "misspelt": {"made_up_extra_values": {"image": {"tags": "v1"}}}},
    }
    done = render("made_up", tmp_path / "run", role=role, cases=cases)
    chart: Chart = load("nfs-server-provisioner", "1.8.0")
    found = {case: problems(chart, releases[0]["values"]) for case, releases in done.cases.items()}
    assert found == {"well": [], "misspelt": ["image.tags: unknown to chart nfs-server-provisioner 1.8.0"]}
    assert charts_of(done) == {("nfs-server-provisioner", "1.8.0")}
