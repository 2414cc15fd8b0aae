"""A small site on this machine: a real node exporter, Prometheus and Alertmanager with the role's configuration."""

from __future__ import annotations

import base64
import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import monitoring_site
import yaml
from monitoring_site import Server, Site, free_port, running, until

from skerry import paths

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils import exporter_host, exporter_text

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
