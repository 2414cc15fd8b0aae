"""What the modules of monitoring do on a host, without one: metrics, hashes, certificates, secrets."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils import exporter_host, exporter_text
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import without_secrets
from ansible_collections.skerry.edge.plugins.modules import node_exporter, prometheus_targets
from one_module import call

FACTS = {
    "wasm_runtime": {
        "runtimes": {
            "wasmedge": {"version": "0.14.1", "source": "debian", "proved": True},
            "crun": {"version": None, "proved": False, "error": 'no "wasm"\nhere'},
        },
        "handlers": {"crun-wasm": {"runtime": "crun", "engine": "wasmedge"}},
    },
    "k3s": {"version": "v1.36.5+k3s1", "role": "agent"},
}  # fmt: skip
LINE = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{\w+="([^"\\]|\\.)*"(,\w+="([^"\\]|\\.)*")*\})? -?\d+)')


def test_facts_become_metrics() -> None:
    text = exporter_text.text(FACTS, {"host_type": "edge", "region": "", "zone": 'a "b"\\'}, {"/x.crt": 1700000000})
    assert all(LINE.fullmatch(line) for line in text.splitlines()), text
    assert 'skerry_host_info{host_type="edge",zone="a \\"b\\"\\\\"} 1' in text
    assert 'skerry_wasm_runtime_proved{runtime="crun"} 0' in text
    assert 'skerry_wasm_runtime_info{runtime="wasmedge",version="0.14.1",source="debian"} 1' in text
    assert 'skerry_wasm_runtime_info{runtime="crun"' not in text
    assert 'skerry_certificate_not_after_timestamp_seconds{path="/x.crt"} 1700000000' in text
    assert text.count("# TYPE skerry_wasm_runtime_proved gauge") == 1


def test_a_host_without_facts_still_says_where_it_is() -> None:
    assert exporter_text.text({}, {"region": "eu"}, {}).splitlines()[-1] == 'skerry_host_info{region="eu"} 1'


def test_a_password_is_hashed_once() -> None:
    known = exporter_host.hashed("geheim", "")
    assert known.startswith("$2b$10$")
    assert exporter_host.hashed("geheim", known) == known, "a second run changes nothing"
    assert exporter_host.hashed("other", known) != known
    assert exporter_host.hashed("geheim", "")[7:] != known[7:], "salted"


def test_a_certificate_fits_its_names_its_key_and_its_time(tmp_path: Path) -> None:
    names = ["edge-7", "192.0.2.7", "2001:db8::7"]
    paths_of = [str(tmp_path / name) for name in ("tls.crt", "tls.key")]

    def keep(texts: list[str]) -> None:
        for path, text in zip(paths_of, texts, strict=True):
            Path(path).write_text(text)

    assert not exporter_host.certificate_fits(*paths_of, names)
    keep(exporter_host.make_certificate(names, 365))
    assert exporter_host.end_of(paths_of[0]) > 0
    told = subprocess.run(["openssl", "x509", "-in", paths_of[0], "-noout", "-text"], capture_output=True, check=True)
    assert b"CA:FALSE" in told.stdout
    assert exporter_host.certificate_fits(*paths_of, names)
    assert not exporter_host.certificate_fits(*paths_of, ["edge-7"])
    _, other_key = exporter_host.make_certificate(names, 365)
    certificate, _ = (Path(path).read_text() for path in paths_of)
    keep([certificate, other_key])
    assert not exporter_host.certificate_fits(*paths_of, names), "not its key"
    keep(exporter_host.make_certificate(names, exporter_host.RENEW_DAYS - 1))
    assert not exporter_host.certificate_fits(*paths_of, names), "it ends soon"


def test_arguments_survive_the_unit_file() -> None:
    assert node_exporter.quoted("--web.listen-address=:9100") == "--web.listen-address=:9100"
    assert node_exporter.quoted("a b%c$d") == '"a b%%c$$d"'


def test_targets_are_counted_by_job() -> None:
    answer = {"data": {"activeTargets": [
        {"labels": {"job": "hosts", "host": "edge-1"}, "health": "up", "lastError": ""},
        {"labels": {"job": "hosts", "host": "edge-2"}, "health": "down", "lastError": "connection refused"},
        {"labels": {"job": "prometheus", "instance": "localhost:9090"}, "health": "unknown"},
    ]}}  # fmt: skip
    assert prometheus_targets.summary(answer) == (
        {"hosts": 1},
        [
            {"job": "hosts", "instance": "edge-2", "error": "connection refused"},
            {"job": "prometheus", "instance": "localhost:9090", "error": "not scraped yet"},
        ],
    )


def test_secrets_among_objects_are_not_shown_as_arguments() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "geheim"}}
    params = {"name": "x", "objects": [secret, {"kind": "ConfigMap", "data": {"a": "b"}}], "ready": ["text"]}
    shown = without_secrets(params)
    assert "geheim" not in json.dumps(shown)
    assert shown["objects"][1] == {"kind": "ConfigMap", "data": {"a": "b"}}
    assert secret["stringData"] == {"password": "geheim"}, "the objects themselves stay as they are"


# The module secret_file, as Ansible runs it ---------------------------------------------------------------------------


def secret_file(path: Path, *words: str, state: str = "present") -> dict[str, Any]:
    result = call("skerry.edge.secret_file", {"path": str(path), "state": state}, *words).result
    assert not result.get("failed"), result
    return result


@pytest.mark.timeout(180)
def test_a_secret_is_made_once_and_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "password"
    assert secret_file(path, "--check")["changed"]
    assert not path.exists()
    made = secret_file(path)
    assert made["changed"]
    assert len(made["secret"]) == 32
    assert path.read_text() == made["secret"] + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    again = secret_file(path)
    assert (again["changed"], again["secret"]) == (False, made["secret"])
    path.chmod(0o644)
    assert secret_file(path)["changed"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret_file(path, state="absent")["changed"]
    assert not path.exists()
