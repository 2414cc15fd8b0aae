"""What the role prometheus makes of an inventory: which hosts are asked and where, and how much is kept."""

from __future__ import annotations

from typing import Any

import pytest
from role_values import render

HOSTS = {
    "plain-1": {"ansible_host": "192.0.2.31", "skerry_zone": "roof", "skerry_host_type": "edge"},
    "plain-2": {"ansible_host": "2001:db8::2", "node_exporter_tls": True, "node_exporter_port": 9200},
    "plain-3": {"node_exporter_state": "absent"},
    "plain-4": {"node_exporter_state": "unmanaged"},
    "plain-5": {"ansible_host": "203.0.113.5", "node_exporter_address": "10.9.8.5"},
    "plain-6": {},
}
SHOWN = {
    "targets": "{{ __prometheus_static_configs }}", "tls": "{{ __prometheus_tls_hosts }}",
    "size": "{{ __prometheus_retention_size }}", "ca": "{{ __prometheus_certificates }}",
    "job": "{{ __prometheus_job_plain_hosts }}", "secret": "{{ __prometheus_objects_before }}",
    "unknown": "{{ __prometheus_uncertified }}",
    "charts": "{{ __prometheus_charts | map(attribute='chart') | list }}",
}  # fmt: skip
READ = {"results": [
    {"item": "plain-2", "facts": {"node_exporter": {"certificate": "-----BEGIN A-----\n-----END A-----\n"}}},
    {"item": "plain-7", "facts": {"node_exporter": {"certificate": "-----BEGIN B-----\n-----END B-----\n"}}},
    {"item": "plain-8", "facts": {"docker": {}}},
]}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "read": {"__prometheus_exporters": READ},
    "none": {"prometheus_hosts": False, "prometheus_grafana": True},
    "small": {"prometheus_storage_size": "500Mi"},
    "large": {"prometheus_storage_size": "2Ti"},
    "said": {"prometheus_retention_size": "6GB", "prometheus_hosts_ca": "SITE", "prometheus_hosts_user": "u"},
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The cases are servers of a cluster; the hosts above are none."""
    told = {"releases": [SHOWN], "cases": CASES, "groups": {"plain": HOSTS},
            "vars": {"prometheus_server_group": "cases"}}  # fmt: skip
    done = render("prometheus", tmp_path_factory.mktemp("rendered"), cases=told)
    return {name: items[0] for name, items in done.cases.items()}


def test_hosts_without_k3s_are_asked_where_they_answer(cases: dict[str, Any]) -> None:
    targets = {item["labels"]["host"]: item for item in cases["defaults"]["targets"]}
    assert {name: item["targets"] for name, item in targets.items()} == {
        "plain-1": ["192.0.2.31:9100"],
        "plain-2": ["[2001:db8::2]:9200"],
        "plain-5": ["10.9.8.5:9100"],
        "plain-6": ["plain-6:9100"],
    }
    assert targets["plain-1"]["labels"] == {
        "__scheme__": "http", "host": "plain-1", "host_type": "edge", "zone": "roof",
    }  # fmt: skip
    assert targets["plain-2"]["labels"]["__scheme__"] == "https"
    assert cases["none"]["targets"] == []


def test_certificates_come_from_the_hosts_or_the_site(cases: dict[str, Any]) -> None:
    assert cases["defaults"]["tls"] == ["plain-2"]
    assert cases["defaults"]["ca"] == ""
    assert "tls_config" not in cases["defaults"]["job"]
    assert cases["read"]["secret"][0]["stringData"] == {
        "ca.crt": "-----BEGIN A-----\n-----END A-----\n-----BEGIN B-----\n-----END B-----\n",
    }  # fmt: skip
    assert cases["read"]["unknown"] == ["plain-8"]
    assert cases["said"]["ca"] == "SITE"
    assert cases["said"]["secret"][0]["stringData"]["ca.crt"] == "SITE\n"
    assert cases["said"]["job"]["tls_config"] == {"ca_file": "/etc/skerry-hosts/ca.crt"}
    assert cases["said"]["job"]["basic_auth"]["password_file"] == "/etc/skerry-hosts/password"
    assert set(cases["said"]["secret"][0]["stringData"]) == {"password", "ca.crt"}


def test_the_size_that_is_kept_follows_the_volume(cases: dict[str, Any]) -> None:
    sizes = {name: case["size"] for name, case in cases.items()}
    assert sizes["defaults"] == "6553MB"
    assert sizes["small"] == "400MB"
    assert sizes["large"] == f"{int(2 * 1024 * 1024 * 0.8)}MB"
    assert sizes["said"] == "6GB"


def test_a_mirror_holds_what_is_asked_for(cases: dict[str, Any]) -> None:
    assert cases["defaults"]["charts"] == ["prometheus"]
    assert cases["none"]["charts"] == ["prometheus", "grafana"]
