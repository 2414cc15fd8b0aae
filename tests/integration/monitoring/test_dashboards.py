"""The dashboards' expressions and the alerts' texts, computed by a real Prometheus from what is really scraped."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import monitoring_site
import pytest
from monitoring_live import FAST, Live, served
from monitoring_site import Server, Site, until

from skerry import paths

pytestmark = pytest.mark.monitoring
#: What kubelet, cAdvisor and kube-state-metrics of a k3s with WebAssembly pods said; see the folder's README.
SCRAPES = paths.root() / "tests" / "data" / "scrapes"
#: File in that folder -> the job of the role whose rules for series are applied to it.
JOBS = {
    "kubelet.prom": "kubernetes-nodes",
    "cadvisor.prom": "kubernetes-nodes-cadvisor",
    "kube-state-metrics.prom": "kubernetes-service-endpoints",
    "cert-manager.prom": "kubernetes-pods",
}
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
WORDS = {
    "sum", "min", "max", "avg", "count", "by", "without", "on", "ignoring", "group_left", "group_right", "and", "or",
    "unless", "bool", "offset", "rate", "increase", "time", "vector", "label_replace", "predict_linear", "sort",
    "min_over_time", "label_values",
}  # fmt: skip
#: Series that Prometheus makes itself.
OWN = {"up", "ALERTS", "prometheus_rule_evaluation_failures_total"}


def dashboard(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((paths.root() / "roles/prometheus/files/dashboards" / name).read_text())
    return loaded


def expressions(name: str) -> Iterator[tuple[str, str]]:
    """(panel, expression with Grafana's variables filled in) of a dashboard."""
    for panel in dashboard(name)["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5s")
            yield panel["title"], re.sub(r"\$\w+", ".*", text)


def names(expression: str) -> set[str]:
    """Names of series in an expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return {word for word in NAME.findall(bare) if word not in WORDS and not word.isdigit()}


class _Scraped(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name that http.server calls
        body = (SCRAPES / self.path.strip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture(scope="module")
def cluster(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Prometheus with the rules and the recorded answers of a cluster, through the role's own rules for series."""
    if missing := [name for name in JOBS if not (SCRAPES / name).is_file()]:
        pytest.skip(f"no recording of {', '.join(missing)}")
    site = Site.make(tmp_path_factory.mktemp("cluster"), live.case)
    config = site.read("prometheus.yml")
    with served(ThreadingHTTPServer(("127.0.0.1", 0), _Scraped)) as server:
        jobs = []
        for name, job in JOBS.items():
            ours = live.case["values"]["scrapeConfigs"].get(job, {})
            target = {"targets": [f"127.0.0.1:{server.server_address[1]}"], "labels": {"host": "edge-1"}}
            jobs.append({
                "job_name": job, "metrics_path": f"/{name}", "honor_labels": True,
                "static_configs": [target],
                "metric_relabel_configs": ours.get("metric_relabel_configs", []),
            })  # fmt: skip
        site.write("prometheus.yml", {**config, "scrape_configs": jobs})
        with monitoring_site.prometheus(site) as running:
            until(lambda: running.query("wasm:pod:info"), "the recording rules have run")
            yield running


@pytest.mark.parametrize(("panel", "expression"), [*expressions("hosts.json")])
def test_hosts(panel: str, expression: str, live: Live) -> None:
    """Every panel shows something of a real host."""
    assert until(lambda: live.prometheus.query(expression), f"{panel} has no data: {expression}")


@pytest.mark.parametrize(("panel", "expression"), [*expressions("wasm.json")])
def test_wasm(panel: str, expression: str, live: Live, cluster: Server) -> None:
    """Every panel shows something of a real cluster with WebAssembly pods, or of a real host with runtimes."""
    server = live.prometheus if "skerry_" in expression else cluster
    assert until(lambda: server.query(expression), f"{panel} has no data: {expression}")


def test_every_name_is_scraped(live: Live, cluster: Server) -> None:
    """A name that nobody exports would leave a rule or a panel blind without a word."""
    known = OWN | set(live.prometheus.get("/api/v1/label/__name__/values")["data"])
    known |= set(cluster.get("/api/v1/label/__name__/values")["data"])
    used = set()
    for file in ("recording_rules.yml", "alerting_rules.yml"):
        for group in live.case["server_files"][file]["groups"]:
            for rule in group["rules"]:
                used |= names(rule["expr"])
                known |= {rule["record"]} if "record" in rule else set()
    for file in ("hosts.json", "wasm.json"):
        for _, expression in expressions(file):
            used |= names(expression)
    assert {"host:cpu_busy:ratio", "kube_pod_status_phase", "k3s_certificate_expiration_seconds"} <= used
    assert used - known == set()


def test_variables_of_dashboards_have_values(live: Live, cluster: Server) -> None:
    for name, server in (("hosts.json", live.prometheus), ("wasm.json", cluster)):
        assert dashboard(name)["templating"]["list"], name
        for variable in dashboard(name)["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert found, variable
            assert any(found[2] in row["metric"] for row in server.query(found[1])), variable["name"]


def test_dashboards_use_the_data_source_that_is_provisioned(live: Live) -> None:
    uids = {item["uid"] for item in live.case["datasources"]["datasources.yaml"]["datasources"]}
    assert {"hosts.json", "wasm.json"} <= set(live.case["dashboards"])
    for name, text in live.case["dashboards"].items():
        loaded = json.loads(text)
        assert loaded["panels"], name
        assert loaded["uid"] == f"skerry-{name.removesuffix('.json')}"
        assert {panel["datasource"]["uid"] for panel in loaded["panels"]} <= uids
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in loaded["panels"]]
        assert len(places) == len(set(places))


# The alerts' texts ----------------------------------------------------------------------------------------------------


class Bad(ThreadingHTTPServer):
    """A target on which everything is wrong, more so with every scrape."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _BadHandler)

    def text(self) -> str:
        self.asked += 1
        end = "certmanager_certificate_expiration_timestamp_seconds"
        disk = 'device="/dev/mmcblk0p2",fstype="ext4",mountpoint="/"'
        lines = [
            f'node_cpu_seconds_total{{cpu="0",mode="idle"}} {self.asked * 0.001}',
            "node_memory_MemTotal_bytes 1000", "node_memory_MemAvailable_bytes 10",
            f"node_vmstat_oom_kill {self.asked}",
            f"node_filesystem_size_bytes{{{disk}}} 1000",
            # Nearly full first, then full.
            f"node_filesystem_avail_bytes{{{disk}}} {max(1, 120 - self.asked)}",
            f"node_filesystem_files{{{disk}}} 1000", f"node_filesystem_files_free{{{disk}}} 10",
            f"node_filesystem_readonly{{{disk}}} {1 if self.asked > 3 else 0}",
            'node_filesystem_size_bytes{device="/dev/sdb1",fstype="ext4",mountpoint="/srv"} 1000',
            'node_filesystem_avail_bytes{device="/dev/sdb1",fstype="ext4",mountpoint="/srv"} 10',
            'kube_node_status_condition{node="edge-1",condition="Ready",status="true"} 0',
            f'kube_pod_container_status_restarts_total{{namespace="n",pod="p",container="c"}} {self.asked * 3}',
            'kube_pod_container_status_waiting_reason{namespace="n",pod="p",container="c",reason="CrashLoopBackOff"} 1',
            'kube_pod_status_phase{namespace="n",pod="q",phase="Pending"} 1',
            'kubelet_volume_stats_capacity_bytes{namespace="n",persistentvolumeclaim="v"} 1000',
            'kubelet_volume_stats_available_bytes{namespace="n",persistentvolumeclaim="v"} 10',
            f'{end}{{namespace="n",name="soon"}} {time.time() + 15 * 86400:.0f}',
            f'{end}{{namespace="n",name="late"}} 1000',
            'certmanager_certificate_ready_status{namespace="n",name="late",condition="True"} 0',
            'up{job="kubernetes-pods",instance="10.42.0.7:80",namespace="n",pod="p"} 0',
            f'prometheus_rule_evaluation_failures_total{{rule_group="g"}} {self.asked}',
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


class _BadHandler(BaseHTTPRequestHandler):
    server: Bad

    def do_GET(self) -> None:  # the name that http.server calls
        body = self.server.text().encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def everything_wrong(live: Live, folder: Path) -> Iterator[Server]:
    site = Site.make(folder, live.case)
    rules = site.read("alerting_rules.yml")
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    site.write("alerting_rules.yml", rules)
    with served(Bad()) as bad:
        jobs = [
            {"job_name": "hosts", "honor_labels": True,
             "static_configs": [{"targets": [f"127.0.0.1:{bad.server_address[1]}"], "labels": {"host": "edge-1"}}]},
            {"job_name": "nobody",
             "static_configs": [{"targets": ["127.0.0.1:1"], "labels": {"job": "hosts", "host": "x"}}]},
        ]  # fmt: skip
        site.write("prometheus.yml", {**site.read("prometheus.yml"), "scrape_configs": jobs})
        with monitoring_site.prometheus(site) as server:
            yield server


def test_every_alert_speaks_in_whole_sentences(live: Live, tmp_path: Path) -> None:
    """All alerts fire at once; none of their texts has a hole or an error of a template."""
    groups = live.case["server_files"]["alerting_rules.yml"]["groups"]
    wanted = {rule["alert"] for group in groups for rule in group["rules"]}
    said: dict[str, list[dict[str, str]]] = {}

    with everything_wrong(live, tmp_path) as server:
        def all_fire() -> bool:
            for alert in (server.get("/api/v1/alerts") or {"data": {"alerts": []}})["data"]["alerts"]:
                said.setdefault(alert["labels"]["alertname"], []).append(alert["annotations"])
            return set(said) >= wanted

        end = time.monotonic() + 90
        while not all_fire() and time.monotonic() < end:
            threading.Event().wait(0.2)
    assert wanted - set(said) == set()
    for name, texts in said.items():
        for text in texts:
            for part in ("summary", "description", "remedy"):
                assert text[part].strip(), f"{name} says no {part}"
                # A label that is not there leaves two blanks, or one at the edge of a sentence or a bracket.
                hole = re.search(r"<no value>|<error|\{\{|%!|  |^ | [,.;:)]|\( |[(/]\)", text[part])
                assert not hole, f"{name}: {text[part]!r}"


def test_fast_variables_are_the_roles_own(live: Live) -> None:
    """What these tests shorten is what a site may set."""
    options = (paths.root() / "roles/prometheus/meta/argument_specs.yml").read_text()
    assert all(f"      {name}:" in options for name in FAST)
    assert live.case["values"]["server"]["global"]["scrape_interval"] == "1s"
