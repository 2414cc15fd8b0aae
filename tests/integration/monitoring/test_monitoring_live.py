"""The role's configuration in Debian's Prometheus and Alertmanager: a real exporter scraped, alerts that arrive."""

from __future__ import annotations

import base64
import json
import re
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import monitoring_site
import pytest
import yaml
from monitoring_site import Server, Site, free_port, running, until

from skerry import paths

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils import exporter_host, exporter_text

pytestmark = pytest.mark.monitoring
USER, PASSWORD, MAIL_PASSWORD = "scraper", "not-4-everyone", "mail-not-4-everyone"
#: Everything that takes minutes at a site takes seconds here, by the role's own variables.
FAST = {
    "prometheus_scrape_interval": "1s", "prometheus_scrape_timeout": "1s", "prometheus_rate_window": "5s",
    "prometheus_alert_down_for": "1s", "prometheus_alert_load_for": "1s", "prometheus_alert_group_wait": "1s",
}  # fmt: skip
#: The facts of a host, as the roles write them.
FACTS = {
    "wasm_runtime": {
        "runtimes": {
            "crun": {"version": "1.21", "proved": True, "engine": "wasmedge", "engine_version": "0.14.1"},
            "wasmtime": {"version": None, "proved": False, "error": "not packaged"},
        },
        "handlers": {"crun-wasm": {"runtime": "crun", "engine": "wasmedge"}},
    },
    "docker": {"version": "26.1.5", "wasm_runtime": "crun"},
}  # fmt: skip


@contextmanager
def exporter(folder: Path, port: int) -> Iterator[str]:
    """Debian's node exporter with TLS, a login and facts, made by the module's own functions; its certificate."""
    folder.mkdir()
    certificate, key = exporter_host.make_certificate(["well", "127.0.0.1"], 30)
    (folder / "tls.crt").write_text(certificate)
    (folder / "tls.key").write_text(key)
    web = {
        "tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"},
        "basic_auth_users": {USER: exporter_host.hashed(PASSWORD, "")},
    }
    (folder / "web.yml").write_text(yaml.safe_dump(web))
    ends = {"/etc/skerry/node-exporter/tls.crt": exporter_host.end_of(str(folder / "tls.crt"))}
    labels = {"host_type": "edge", "region": "eu", "zone": "eu-shore"}
    (folder / "skerry.prom").write_text(exporter_text.text(FACTS, labels, ends))
    words = [
        f"--web.listen-address=127.0.0.1:{port}", f"--web.config.file={folder / 'web.yml'}",
        f"--collector.textfile.directory={folder}",
    ]  # fmt: skip
    with running("prometheus-node-exporter", folder / "log", *words) as process:
        yield certificate
        assert process.poll() is None, (folder / "log").read_text()[-2000:]


class Slack(ThreadingHTTPServer):
    """Takes what Slack's incoming webhooks take, and keeps it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), _SlackHandler)


class _SlackHandler(BaseHTTPRequestHandler):
    server: Slack

    def do_POST(self) -> None:  # the name that http.server calls
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


class Mail(socketserver.ThreadingTCPServer):
    """A mail server that wants a login (PLAIN), and keeps logins and messages."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.logins: list[str] = []
        self.messages: list[str] = []
        super().__init__(("127.0.0.1", 0), _MailHandler)


class _MailHandler(socketserver.StreamRequestHandler):
    server: Mail

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self) -> None:
        self.say("220 mail.test ESMTP")
        for raw in self.rfile:
            line = raw.decode().strip()
            verb = line[:4].upper()
            if verb == "EHLO":
                self.say("250-mail.test\r\n250 AUTH PLAIN")
            elif verb == "AUTH":
                self.server.logins.append(base64.b64decode(line.split()[2]).decode())
                self.say("235 welcome")
            elif verb == "DATA":
                self.say("354 go on")
                lines: list[str] = []
                while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    lines.append(text)
                self.server.messages.append("\n".join(lines))
                self.say("250 kept")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 fine")


@contextmanager
def served(server: Any) -> Iterator[Any]:
    """A server of socketserver's in a thread."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Live:
    """A small site: two hosts without k3s of which one is dead, Prometheus, Alertmanager, a Slack and a mail server."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        ports = {name: free_port() for name in ("well", "dead", "alertmanager")}
        certificate = stack.enter_context(exporter(folder / "exporter", ports["well"]))
        self.slack: Slack = stack.enter_context(served(Slack()))
        self.mail: Mail = stack.enter_context(served(Mail()))
        hosts = {
            name: {
                "ansible_host": "127.0.0.1", "node_exporter_state": "present", "node_exporter_port": ports[name],
                "node_exporter_tls": True, "skerry_region": "eu", "skerry_zone": "eu-shore", "skerry_host_type": "edge",
            } for name in ("well", "dead")
        }  # fmt: skip
        variables = {
            **FAST, "prometheus_hosts_ca": certificate, "prometheus_hosts_user": USER,
            "prometheus_hosts_password": PASSWORD, "prometheus_alertmanager": True,
            "prometheus_slack_url": f"http://127.0.0.1:{self.slack.server_address[1]}/services/secret-part",
            "prometheus_slack_channel": "#edge", "prometheus_email_to": "on-call@example.org",
            "prometheus_email_from": "skerry@example.org", "prometheus_email_user": "skerry",
            "prometheus_email_smarthost": f"127.0.0.1:{self.mail.server_address[1]}",
            "prometheus_email_password": MAIL_PASSWORD, "prometheus_email_tls": False,
        }  # fmt: skip
        self.case = monitoring_site.rendered(folder / "rendered", {"live": variables}, hosts)["live"]
        self.site = Site.make(folder / "site", self.case)
        config = self.site.read("prometheus.yml")
        # Jobs that ask Kubernetes need one; the chart's own job for Prometheus itself comes from its defaults.
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] == "plain-hosts"]
        config["scrape_configs"].append({"job_name": "prometheus", "static_configs": [{"targets": ["127.0.0.1:1"]}]})
        alertmanager = {"static_configs": [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]}
        config["alerting"] = {"alertmanagers": [alertmanager]}
        self.site.write("live.yml", config)
        self.alertmanager = Server(ports["alertmanager"])
        words = [
            f"--config.file={self.site.folder / 'alertmanager.yml'}", f"--storage.path={self.site.folder / 'silences'}",
            f"--web.listen-address=127.0.0.1:{ports['alertmanager']}", "--cluster.listen-address=",
        ]  # fmt: skip
        stack.enter_context(running("prometheus-alertmanager", self.site.folder / "alertmanager.log", *words))
        until(lambda: self.alertmanager.get("/-/ready"), "Alertmanager is ready")
        self.prometheus = stack.enter_context(monitoring_site.prometheus(self.site, "live.yml"))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The small site, for all tests of this file."""
    with ExitStack() as stack:
        yield Live(tmp_path_factory.mktemp("live"), stack)


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
        found = until(lambda e=expression: live.prometheus.query(e), name)
        assert all(0 <= float(row["value"][1]) <= 1 for row in found), found
    for name in ("host:network_received:bytes_rate", "certificate:remaining:seconds"):
        assert until(lambda n=name: live.prometheus.query(n), name)


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
