"""The role prometheus as files that Debian's Prometheus and Alertmanager read, and these programs as processes."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import programs
import yaml
from role_values import render

from skerry.testing import monitoring

#: What is rendered of the role, by name.
RENDERED = {
    "recording": "{{ __prometheus_recording_rules }}",
    "server_files": "{{ __prometheus_server_files }}",
    "values": "{{ __prometheus_values }}",
    "alertmanager": "{{ __prometheus_alertmanager_config }}",
    "secrets": "{{ __prometheus_objects_before }}",
    "dashboards": "{{ __prometheus_dashboards }}",
    "datasources": "{{ __prometheus_grafana_values.datasources }}",
}
#: Where the chart mounts files in the pods.
MOUNTS = {
    "/var/run/secrets/kubernetes.io/serviceaccount": "account",
    "/etc/skerry-hosts": "skerry-hosts",
    "/etc/skerry-receivers": "skerry-receivers",
}
DEADLINE = 30.0
T = TypeVar("T")


def rendered(folder: Path, cases: dict[str, dict[str, Any]], hosts: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the role makes of each case's variables: case -> `RENDERED`. ``hosts``: further ones of the inventory."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "releases": [RENDERED], "cases": cases, "groups": {"plain": hosts or {}},
        "vars": {"node_exporter_state": "absent"},  # the cases themselves are no hosts to scrape
    }  # fmt: skip
    return {name: items[0] for name, items in render("prometheus", folder, cases=told).cases.items()}


def prometheus_yml(values: dict[str, Any]) -> dict[str, Any]:
    """Prometheus's configuration as the chart (29.27.0) makes it of our jobs."""
    jobs = []
    for name, job in values["scrapeConfigs"].items():
        if job.get("enabled", True):
            kept = {key: value for key, value in job.items() if key not in ("enabled", "job_name")}
            jobs.append({"job_name": job.get("job_name") or name, **kept})
    return {
        "global": values["server"]["global"],
        "rule_files": ["recording_rules.yml", "alerting_rules.yml"],
        "scrape_configs": jobs,
    }


@dataclass(frozen=True)
class Site:
    """A folder with one case's files, the mounts of the pods being folders in it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, case: dict[str, Any]) -> Site:
        """Write the case's rules, secrets, and configurations."""
        folder.mkdir(parents=True, exist_ok=True)
        site = cls(folder)
        for name in MOUNTS.values():
            (folder / name).mkdir(exist_ok=True)
        for name in ("ca.crt", "token"):
            (folder / "account" / name).write_text("")
        for item in case["secrets"]:
            for name, text in item["stringData"].items():
                (folder / item["metadata"]["name"] / name).write_text(text)
        site.write("recording_rules.yml", case["server_files"]["recording_rules.yml"])
        site.write("alerting_rules.yml", case["server_files"]["alerting_rules.yml"])
        site.write("prometheus.yml", prometheus_yml(case["values"]))
        site.write("alertmanager.yml", case["alertmanager"])
        return site

    def write(self, name: str, content: Any) -> Path:
        """Write YAML, with the pods' mounts replaced by the folders here."""
        text = yaml.safe_dump(content, sort_keys=False, width=10000)
        for mount, local in MOUNTS.items():
            text = text.replace(mount, str(self.folder / local))
        path = self.folder / name
        path.write_text(text)
        return path

    def read(self, name: str) -> Any:
        """A file written by `write`."""
        return yaml.safe_load((self.folder / name).read_text())


def program(name: str) -> str:
    """Path of one of Debian's programs; tests that need it have the marker ``monitoring``."""
    found = monitoring.find(name)
    assert found is not None, f"{name} is not there"
    return str(found)


def tool(name: str, *words: str | Path, cwd: Path | None = None) -> str:
    """Run promtool or amtool; what it printed. Fails the test when it fails."""
    done = subprocess.run(
        [program(name), *map(str, words)], capture_output=True, text=True, check=False, timeout=120, cwd=cwd
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(name: str, log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of Debian's programs as a process that ends with the block."""
    with programs.running([*monitoring.command(name), *words], log) as process:
        yield process


def until(question: Callable[[], T | None], what: str, deadline: float = DEADLINE) -> T:
    """Ask again and again until the answer is neither None nor empty; ``what`` is said when it never is."""
    end = time.monotonic() + deadline
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Server:
    """The HTTP API of a Prometheus or an Alertmanager on this machine."""

    port: int

    def get(self, path: str, **query: str) -> Any:
        """The decoded answer, or None while nobody answers or the answer is an error."""
        url = f"http://127.0.0.1:{self.port}{path}" + ("?" + urllib.parse.urlencode(query) if query else "")
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                text = answer.read().decode()
        except (OSError, urllib.error.HTTPError):
            return None
        return json.loads(text) if text.startswith(("{", "[")) else text

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector (or the scalar, as one sample) of an expression. Fails the test when it does not parse."""
        answer = self.get("/api/v1/query", query=expression)
        assert answer is not None and answer["status"] == "success", f"{expression}: {answer}"
        data = answer["data"]
        found = data["result"] if data["resultType"] != "scalar" else [{"metric": {}, "value": data["result"]}]
        return list(found)


@contextmanager
def prometheus(site: Site, config: str = "prometheus.yml") -> Iterator[Server]:
    """Debian's Prometheus with a configuration of the site; ready when the block begins."""
    server = Server(free_port())
    words = [
        f"--config.file={site.folder / config}", f"--storage.tsdb.path={site.folder / 'samples'}",
        f"--web.listen-address=127.0.0.1:{server.port}", "--log.level=warn",
    ]  # fmt: skip
    log = site.folder / "prometheus.log"
    with running("prometheus", log, *words) as process:
        until(lambda: process.poll() is not None or server.get("/-/ready"), f"Prometheus is ready, see {log}")
        assert process.poll() is None, log.read_text()[-3000:]
        yield server
