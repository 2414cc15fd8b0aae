"""HelmChart objects: what is written, what counts as a difference, what a failed job's log means."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils import helm_job
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

PARAMS: dict[str, Any] = {
    "namespace": "web",
    "chart": "hello",
    "version": "1.0.0",
    "repo": "https://charts.example.org",
    "values": {"b": 1, "a": [True, None]},
    "failure_policy": "abort",
    "bootstrap": False,
    "job_image": "",
    "timeout": 600,
}


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (90, "1m30s"), (600, "10m0s"), (3600, "1h0m0s"), (0, "0s")])
def test_durations_are_written_as_go_writes_them(seconds: int, text: str) -> None:
    """k3s reads and writes the whole object when it claims it: any other form would look like a change for ever."""
    assert helm_job.go_duration(seconds) == text


def test_only_what_is_set_is_written() -> None:
    spec = helm_job.chart_spec(PARAMS, {}, "")
    assert spec == {
        "targetNamespace": "web",
        "chart": "hello",
        "version": "1.0.0",
        "repo": "https://charts.example.org",
        "valuesContent": '{\n  "a": [\n    true,\n    null\n  ],\n  "b": 1\n}\n',
        "failurePolicy": "abort",
        "timeout": "10m0s",
    }


def test_a_chart_of_an_oci_registry_is_named_whole() -> None:
    spec = helm_job.chart_spec({**PARAMS, "repo": "oci://registry.example.org/charts/"}, {}, "")
    assert spec["chart"] == "oci://registry.example.org/charts/hello"
    assert "repo" not in spec


def test_an_archive_travels_in_the_object_or_by_its_address() -> None:
    content = helm_job.archive_spec("/x/hello-1.0.0.tgz", "content", lambda path: b"archive")
    spec = helm_job.chart_spec(PARAMS, content, "")
    assert base64.b64decode(spec["chartContent"]) == b"archive"
    assert "repo" not in spec
    served = helm_job.archive_spec("/x/hello-1.0.0.tgz", "static")
    assert helm_job.chart_spec(PARAMS, served, "")["chart"] == (
        "https://%{KUBERNETES_API}%/static/charts/hello-1.0.0.tgz"
    )


def test_an_archive_that_does_not_fit_is_refused() -> None:
    with pytest.raises(K3sError, match=r"CHART_008 .* 768001 bytes.*helm_chart_delivery: static"):
        helm_job.archive_spec("/x.tgz", "content", lambda path: b"x" * 768001)


def test_an_archive_that_is_not_there_is_named() -> None:
    with pytest.raises(K3sError, match=r"CHART_008 .*/nowhere/x\.tgz cannot be read"):
        helm_job.archive_spec("/nowhere/x.tgz", "content")


def test_what_others_add_to_a_chart_is_no_difference() -> None:
    wanted = helm_job.chart_spec(PARAMS, {}, "")
    assert helm_job.same_spec({**wanted, "serverSide": "auto", "backOffLimit": 10}, wanted)
    assert not helm_job.same_spec({**wanted, "jobImage": "other"}, wanted)
    assert not helm_job.same_spec({**wanted, "version": "1.0.1"}, wanted)
    assert helm_job.same_spec({**wanted, "timeout": "1m0s"}, wanted)
    assert not helm_job.same_spec({key: wanted[key] for key in wanted if key != "valuesContent"}, wanted)


def test_secret_values_change_the_chart_by_the_name_of_their_secret() -> None:
    one, other = (helm_job.chart_spec(PARAMS, {}, name) for name in ("values-web-1", "values-web-2"))
    assert one["valuesSecrets"] == [{"name": "values-web-1", "keys": ["values"]}]
    assert not helm_job.same_spec(one, other)


def test_a_diff_shows_an_archive_by_its_digest() -> None:
    chart = helm_job.manifest("web", {"chartContent": base64.b64encode(b"archive").decode()}, "uid")
    text = helm_job.shown(chart)["spec"]["chartContent"]
    assert text.startswith("archive of 7 bytes, sha256:0eb3")
    assert chart["spec"]["chartContent"] == base64.b64encode(b"archive").decode()


LOGS = {
    "Error: values don't meet the specifications of the schema(s) in the following chart(s):": "CHART_003",
    "Error: INSTALLATION FAILED: unable to continue with install: ClusterRole \"x\" exists and cannot be imported "
    "into the current release: invalid ownership metadata; label validation error": "CHART_006",
    "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress": "CHART_007",
    "Error: looks like \"https://x.org\" is not a valid chart repository or cannot be reached": "CHART_002",
    "Error: failed to fetch https://x/y.tgz : 404 Not Found": "CHART_002",
    "Error: INSTALLATION FAILED: failed post-install: timed out waiting for the condition": "CHART_005",
}  # fmt: skip


@pytest.mark.parametrize(("log", "code"), LOGS.items(), ids=[f"{code}-{n}" for n, code in enumerate(LOGS.values())])
def test_known_causes_are_told_from_the_log(log: str, code: str) -> None:
    found = helm_job.diagnose("+ helm install\n" + log + "\n")
    assert found is not None
    assert found[0] == code


def test_an_unknown_log_has_no_known_cause() -> None:
    assert helm_job.diagnose("Error: something else\n") is None
