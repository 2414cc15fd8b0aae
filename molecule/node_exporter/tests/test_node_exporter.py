"""The node exporter as the role leaves it: answering those who know the login, over TLS, with the host's facts."""

from __future__ import annotations

import base64
import json
import re
import shlex

FOLDER = "/etc/skerry/node-exporter"
URL = "https://127.0.0.1:9200/metrics"
LOGIN = "scraper:made-up-4-molecule"
ASK = """
import ssl, sys, urllib.error, urllib.request
url, login, authority = sys.argv[1:4]
context = ssl.create_default_context(cafile=authority)
context.check_hostname = False
request = urllib.request.Request(url, headers={"Authorization": "Basic " + login} if login else {})
try:
    answer = urllib.request.urlopen(request, timeout=10, context=context if url.startswith("https") else None)
    print(answer.status)
    print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"""


def ask(host, url=URL, login=""):
    """(status, text) of the exporter's answer, asked on the host itself."""
    words = [url, base64.b64encode(login.encode()).decode() if login else "", f"{FOLDER}/tls.crt"]
    out = host.check_output("python3 -c " + " ".join(shlex.quote(word) for word in [ASK, *words]))
    status, _, text = out.partition("\n")
    return int(status), text


def test_it_runs_and_starts_with_the_host(host, support):
    service = host.service("prometheus-node-exporter")
    assert service.is_running
    assert service.is_enabled
    support.ran(host, "node exporter", "TLS and a login, facts as metrics")


def test_it_answers_those_who_know_the_login(host):
    status, text = ask(host, login=LOGIN)
    assert status == 200
    assert "node_exporter_build_info" in text
    assert 'node_systemd_unit_state{name="ssh' in text, "a collector that was asked for"
    assert "node_nfs_" not in text, "a collector that was switched off"
    assert ask(host)[0] == 401
    assert ask(host, login="scraper:wrong")[0] == 401


def test_it_does_not_answer_without_tls(host):
    assert ask(host, "http://127.0.0.1:9200/metrics", LOGIN)[0] == 400


def test_the_facts_are_metrics(host):
    _, text = ask(host, login=LOGIN)
    (info,) = [line for line in text.splitlines() if line.startswith("skerry_host_info{")]
    assert 'region="eu"' in info
    assert f'host_type="{"cloud" if host.backend.hostname == "cloud-1" else "edge"}"' in info
    facts = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)
    for name, runtime in facts.get("wasm_runtime", {}).get("runtimes", {}).items():
        assert f'skerry_wasm_runtime_proved{{runtime="{name}"}} {int(bool(runtime["proved"]))}' in text
    assert 'skerry_certificate_not_after_timestamp_seconds{path="/etc/skerry/node-exporter/tls.crt"}' in text


def test_secrets_are_for_root_and_the_exporter_alone(host):
    for name in ("tls.key", "web-tls.yml"):
        file = host.file(f"{FOLDER}/{name}")
        assert (file.mode, file.user, file.group) == (0o640, "root", "prometheus")
    assert "made-up-4-molecule" not in host.file(f"{FOLDER}/web-tls.yml").content_string
    assert not host.file(f"{FOLDER}/web.yml").exists


def test_the_certificate_is_the_hosts_own_and_no_authority(host):
    text = host.check_output(f"openssl x509 -in {FOLDER}/tls.crt -noout -text")
    assert "CA:FALSE" in text
    assert f"DNS:{host.backend.hostname}" in text
    assert re.search(r"IP Address:10\.213\.\d+\.\d+", text)
    facts = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)["node_exporter"]
    assert facts["certificate"] == host.file(f"{FOLDER}/tls.crt").content_string
    assert facts["tls"] is True
