"""The node exporter is taken away and comes back, its certificate with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_hosts import converge, on

pytestmark = pytest.mark.hosts
HOST = "edge-1"
FOLDER = "/etc/skerry/node-exporter"


@pytest.fixture
def present(shared_inventory: Path) -> Iterator[None]:
    """The exporter as its scenario leaves it; again at the end."""
    assert shared_inventory.is_dir()
    done = converge("node_exporter", "--limit", HOST)
    assert done.code == 0, done.output[-3000:]
    yield
    done = converge("node_exporter", "--limit", HOST)
    assert done.code == 0, done.output[-3000:]


def test_it_is_taken_away_whole(present: None) -> None:
    done = converge("node_exporter", "--limit", HOST, node_exporter_state="absent")
    assert done.code == 0, done.output[-3000:]
    assert done.recap(HOST)["changed"] > 0
    left = on(HOST, f"ls -d {FOLDER} /etc/systemd/system/prometheus-node-exporter.service.d/skerry.conf "
                    "/var/lib/prometheus/node-exporter/skerry.prom 2>/dev/null || true")  # fmt: skip
    assert left == ""
    assert on(HOST, "systemctl is-active prometheus-node-exporter || true").strip() != "active"
    assert "node_exporter" not in json.loads(on(HOST, "cat /etc/ansible/facts.d/skerry.fact"))
    again = converge("node_exporter", "--limit", HOST, node_exporter_state="absent")
    assert again.recap(HOST)["changed"] == 0


def test_a_port_that_somebody_has_is_told(present: None) -> None:
    """The message says what the exporter's last words were, and the old one is not lost."""
    on(HOST, "systemd-run -q --unit skerry-hog python3 -m http.server 9209")
    try:
        done = converge("node_exporter", "--limit", HOST, node_exporter_port=9209, node_exporter_ready_timeout=5)
        assert done.code != 0
        assert "MONITOR_018" in done.output
        assert "address already in use" in " ".join(done.output.split()), "its last words, wrapped by Ansible"
    finally:
        on(HOST, "systemctl stop skerry-hog")


def test_a_certificate_is_kept_until_it_does_not_fit(present: None) -> None:
    before = on(HOST, f"cat {FOLDER}/tls.crt")
    assert converge("node_exporter", "--limit", HOST).recap(HOST)["changed"] == 0
    assert on(HOST, f"cat {FOLDER}/tls.crt") == before
    done = converge("node_exporter", "--limit", HOST, node_exporter_address="192.0.2.99")
    assert done.code == 0, done.output[-3000:]
    after = on(HOST, f"cat {FOLDER}/tls.crt")
    assert after != before
    assert "192.0.2.99" in on(HOST, f"openssl x509 -in {FOLDER}/tls.crt -noout -ext subjectAltName")
    assert json.loads(on(HOST, "cat /etc/ansible/facts.d/skerry.fact"))["node_exporter"]["certificate"] == after
