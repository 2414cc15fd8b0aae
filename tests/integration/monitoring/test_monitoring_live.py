"""The role's configuration in Debian's Prometheus and Alertmanager: a real exporter scraped, alerts that arrive."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import monitoring_site
import pytest
from monitoring_live import FAST, MAIL_PASSWORD, PASSWORD, Live
from monitoring_site import Site, until

pytestmark = pytest.mark.monitoring


def test_a_host_is_scraped_with_tls_and_a_login(live: Live, support: Any) -> None:
    (sample,) = until(lambda: live.prometheus.query('up{job="hosts",host="well"} == 1'), "the exporter is up")
    assert {"region": "eu", "zone": "eu-shore", "host_type": "edge"}.items() <= sample["metric"].items()
    targets = live.prometheus.get("/api/v1/targets")["data"]["activeTargets"]
    (target,) = [item for item in targets if item["labels"].get("host") == "well"]
    assert target["scrapeUrl"].startswith("https://")
    (runtime,) = live.prometheus.query("skerry_wasm_runtime_info")
    assert runtime["metric"]["engine"] == "wasmedge"
    proved = live.prometheus.query("skerry_wasm_runtime_proved")
    assert {row["metric"]["runtime"]: row["value"][1] for row in proved} == {"crun": "1", "wasmtime": "0"}
    support("prometheus", "Debian 12", "amd64", "ran here", "a node exporter scraped with TLS and a login")


def test_a_wrong_password_is_refused(live: Live) -> None:
    """The exporter does want the login: without it the target above would say nothing."""
    (sample,) = until(lambda: live.prometheus.query('up{job="hosts",host="well"} == 1'), "the exporter is up")
    config = live.site.read("live.yml")
    (job, _) = config["scrape_configs"]
    site = Site(live.site.folder / "wrong")
    site.folder.mkdir()
    (site.folder / "password").write_text("wrong")
    job["basic_auth"]["password_file"] = str(site.folder / "password")
    site.write("prometheus.yml", {"global": config["global"], "scrape_configs": [job]})
    with monitoring_site.prometheus(site) as server:
        def refused() -> list[str]:
            targets = (server.get("/api/v1/targets") or {"data": {"activeTargets": []}})["data"]["activeTargets"]
            return [item["lastError"] for item in targets if item["labels"]["host"] == "well" and item["lastError"]]
        assert "401" in until(refused, "the exporter refuses")[0]
    assert sample["metric"]["job"] == "hosts"


def test_recording_rules_have_values_of_the_real_host(live: Live) -> None:
    for name in ("host:cpu_busy:ratio", "host:memory_used:ratio", "host:filesystem_used:ratio"):
        expression = f'{name}{{host="well"}}'
        found = until(functools.partial(live.prometheus.query, expression), name)
        assert all(0 <= float(row["value"][1]) <= 1 for row in found), found
    for name in ("host:network_received:bytes_rate", "certificate:remaining:seconds"):
        assert until(functools.partial(live.prometheus.query, name), name)


def test_an_alert_arrives_in_slack_and_by_mail(live: Live, support: Any) -> None:
    def told() -> list[Any]:
        return [body for _, body in live.slack.got if "dead does not answer" in json.dumps(body)]

    (body, *_) = until(told, f"Slack is told; it got {live.slack.got}")
    assert body["channel"] == "#edge"
    (attachment,) = body["attachments"]
    assert attachment["title"].startswith("[FIRING] dead does not answer")
    assert "See whether the host is up" in attachment["text"]
    assert {path for path, _ in live.slack.got} == {"/services/secret-part"}
    message = "\n".join(until(lambda: [m for m in live.mail.messages if "dead" in m], "mail arrives"))
    assert "on-call@example.org" in message
    assert re.search(r"Subject: .*FIRING.*dead", message), message
    assert "See whether the host is" in message.replace("=\n", "")
    assert live.mail.logins[0] == f"\0skerry\0{MAIL_PASSWORD}"
    assert not any("well does not answer" in json.dumps(body) for _, body in live.slack.got)
    support("prometheus", "Debian 12", "amd64", "ran here", "Alertmanager told Slack's and a mail protocol's receiver")


def test_no_secret_is_a_value(live: Live) -> None:
    """Passwords and the webhook are Secrets of Kubernetes, which pods see as files; values name the files."""
    shown = json.dumps([live.case[part] for part in ("values", "server_files", "alertmanager")])
    for secret in (PASSWORD, MAIL_PASSWORD, "secret-part"):
        assert secret not in shown
        assert secret in json.dumps(live.case["secrets"])
    assert {item["kind"] for item in live.case["secrets"]} == {"Secret"}


def test_what_a_dead_host_drags_along_is_not_told(live: Live) -> None:
    """Alertmanager inhibits alerts of a host that is down, and those of others go on."""
    def post(labels: dict[str, str]) -> None:
        words = [f"{key}={value}" for key, value in labels.items()]
        url = f"http://127.0.0.1:{live.alertmanager.port}"
        monitoring_site.tool("amtool", "alert", "add", *words, f"--alertmanager.url={url}")

    until(lambda: [a for a in live.alertmanager.get("/api/v2/alerts") or [] if a["labels"]["alertname"] == "HostDown"],
          "HostDown reaches Alertmanager")  # fmt: skip
    post({"alertname": "HostDiskFull", "host": "dead"})
    post({"alertname": "HostDiskFull", "host": "well"})

    def states() -> dict[str, str] | None:
        found = {
            alert["labels"]["host"]: alert["status"]["state"] for alert in live.alertmanager.get("/api/v2/alerts")
            if alert["labels"]["alertname"] == "HostDiskFull"
        }  # fmt: skip
        return found if set(found.values()) == {"suppressed", "active"} else None

    assert until(states, "one of both is inhibited") == {"dead": "suppressed", "well": "active"}


def check_config(tmp_path: Path, case: dict[str, Any]) -> None:
    site = Site.make(tmp_path, case)
    config = site.read("prometheus.yml")
    for job in config["scrape_configs"]:
        # Debian builds Prometheus without Kubernetes' discovery; everything else of these jobs is looked at.
        job.pop("kubernetes_sd_configs", None)
    site.write("prometheus.yml", config)
    assert "SUCCESS" in monitoring_site.tool("promtool", "check", "config", "prometheus.yml", cwd=site.folder)
    assert "SUCCESS" in monitoring_site.tool("amtool", "check-config", "alertmanager.yml", cwd=site.folder)


def test_configurations_are_valid(live: Live, tmp_path: Path) -> None:
    """All jobs, those that ask Kubernetes among them; with every variable of receivers, and with none."""
    bare = {**FAST, "prometheus_alertmanager": True}
    own = {"gateway": {"static_configs": [{"targets": ["192.0.2.9:9100"]}]}}
    cases = monitoring_site.rendered(
        tmp_path / "rendered", {"bare": bare, "own": {"prometheus_extra_scrape_configs": own}}
    )
    check_config(tmp_path / "live", live.case)
    for name, case in cases.items():
        check_config(tmp_path / name, case)
    jobs = {job["job_name"] for job in Site(tmp_path / "own").read("prometheus.yml")["scrape_configs"]}
    assert {"kubernetes-nodes", "kubernetes-nodes-cadvisor", "cluster-hosts", "gateway"} <= jobs
    assert "plain-hosts" not in jobs, "no host without k3s: an empty job"
    assert not {"kubernetes-api-servers", "prometheus-pushgateway", "kubernetes-services"} & jobs
