"""Every alert, by promtool's unit tests: fires for what is bad, stays quiet otherwise, follows its thresholds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monitoring_site
import pytest
import yaml
from monitoring_site import Site

from skerry import paths

pytestmark = pytest.mark.monitoring
UNIT_TESTS = paths.root() / "tests" / "data" / "alerts.test.yml"
HOST = 'job="hosts", host="h"'
DISK = f'{HOST}, device="/dev/sda1", fstype="ext4", mountpoint="/"'
POD = 'namespace="n", pod="p"'
DAY = 86400
#: Variable -> a stricter value, series that the default lets pass (alert_for ones: by then), when to look, the alert.
STRICTER: dict[str, tuple[Any, dict[str, str], str, str]] = {
    "prometheus_alert_down_for": ("2m", {f"up{{{HOST}}}": "0x9"}, "3m", "HostDown"),
    "prometheus_alert_load_for": (
        "3m", {f'kube_pod_status_phase{{{POD}, phase="Pending"}}': "1x9"}, "5m", "PodPending"
    ),
    "prometheus_alert_cpu_percent": (
        40, {f'node_cpu_seconds_total{{{HOST}, cpu="0", mode="idle"}}': "0+30x60"}, "50m", "HostCpuHigh"
    ),
    "prometheus_alert_memory_percent": (
        60, {f"node_memory_MemTotal_bytes{{{HOST}}}": "100x60", f"node_memory_MemAvailable_bytes{{{HOST}}}": "35x60"},
        "50m", "HostMemoryHigh",
    ),
    "prometheus_alert_disk_percent": (
        60, {f"node_filesystem_size_bytes{{{DISK}}}": "100x60", f"node_filesystem_avail_bytes{{{DISK}}}": "35x60"},
        "50m", "HostDiskNearlyFull",
    ),
    "prometheus_alert_disk_critical_percent": (
        70, {f"node_filesystem_size_bytes{{{DISK}}}": "100x60", f"node_filesystem_avail_bytes{{{DISK}}}": "25x60"},
        "50m", "HostDiskFull",
    ),
    # 4800 left at one a minute: full after 80 hours.
    "prometheus_alert_disk_hours": (
        96,
        {f"node_filesystem_size_bytes{{{DISK}}}": "20000x480", f"node_filesystem_avail_bytes{{{DISK}}}": "5280-1x480"},
        "8h", "HostDiskFillsUp",
    ),
    "prometheus_alert_pod_restarts": (
        2, {f'kube_pod_container_status_restarts_total{{{POD}, container="c"}}': "0x5 1 2 3 4x60"},
        "30m", "PodRestartsOften",
    ),
    "prometheus_alert_certificate_days": (
        60, {'k3s_certificate_expiration_seconds{host="h", subject="CN=x"}': f"{50 * DAY}x60"},
        "10m", "CertificateExpiresSoon",
    ),
    "prometheus_alert_certificate_critical_days": (
        15, {'k3s_certificate_expiration_seconds{host="h", subject="CN=x"}': f"{12 * DAY}x60"},
        "10m", "CertificateExpired",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The role with its defaults, and with each threshold made stricter alone."""
    stricter = {name: {name: value} for name, (value, *_) in STRICTER.items()}
    return monitoring_site.rendered(tmp_path_factory.mktemp("rendered"), {"defaults": {}, **stricter})


@pytest.fixture(scope="module")
def defaults(cases: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Files of the role's defaults."""
    return Site.make(tmp_path_factory.mktemp("defaults"), cases["defaults"])


def alerts(site: Site) -> Iterator[dict[str, Any]]:
    for group in site.read("alerting_rules.yml")["groups"]:
        yield from (rule for rule in group["rules"] if "alert" in rule)


def test_promtool_takes_the_rules(defaults: Site) -> None:
    names = ("recording_rules.yml", "alerting_rules.yml")
    said = monitoring_site.tool("promtool", "check", "rules", *names, cwd=defaults.folder)
    assert said.count("SUCCESS") == 2


def test_every_alert_fires_and_stays_quiet_as_the_unit_tests_say(defaults: Site) -> None:
    shutil.copy(UNIT_TESTS, defaults.folder)
    assert "SUCCESS" in monitoring_site.tool("promtool", "test", "rules", UNIT_TESTS.name, cwd=defaults.folder)


def test_the_unit_tests_can_fail(defaults: Site, tmp_path: Path) -> None:
    """A rule that never fires, and one that always does, must both be noticed."""
    shutil.copytree(defaults.folder, tmp_path / "copy")
    all_tests = yaml.safe_load(UNIT_TESTS.read_text())
    first = {**all_tests, "tests": all_tests["tests"][:1]}
    (tmp_path / "copy" / UNIT_TESTS.name).write_text(yaml.safe_dump(first))
    rules = tmp_path / "copy" / "alerting_rules.yml"
    text = rules.read_text()
    for broken in ("== 2", ">= 0"):
        rules.write_text(re.sub(r'(expr: up\{job="hosts"\}) == 0', rf"\1 {broken}", text))
        assert rules.read_text() != text
        with pytest.raises(AssertionError, match="HostDown"):
            monitoring_site.tool("promtool", "test", "rules", UNIT_TESTS.name, cwd=rules.parent)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not(defaults: Site) -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for group in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for case in group.get("promql_expr_test", []):
            if found := re.search(r'alertname="(\w+)", alertstate="firing"', case["expr"]):
                (fires if case["exp_samples"] else quiet).add(found[1])
    names = {rule["alert"] for rule in alerts(defaults)}
    assert len(names) >= 15
    assert names - fires == set()
    assert names - quiet == set()


def test_every_alert_says_what_to_do(defaults: Site) -> None:
    for rule in alerts(defaults):
        assert set(rule["annotations"]) == {"summary", "description", "remedy"}, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]


@pytest.mark.parametrize("variable", STRICTER)
def test_thresholds_are_variables(variable: str, cases: dict[str, Any], tmp_path: Path) -> None:
    """What the default lets pass fires with the stricter value; nothing else differs."""
    _value, series, moment, alert = STRICTER[variable]
    for case, count in (("defaults", 0), (variable, 1)):
        site = Site.make(tmp_path / case, cases[case])
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": moment,
                "exp_samples": [{"labels": "{}", "value": count}],
            }],
        }  # fmt: skip
        rules = ["recording_rules.yml", "alerting_rules.yml"]
        site.write("one.test.yml", {"rule_files": rules, "evaluation_interval": "1m", "tests": [test]})
        said = monitoring_site.tool("promtool", "test", "rules", "one.test.yml", cwd=site.folder)
        assert "SUCCESS" in said
