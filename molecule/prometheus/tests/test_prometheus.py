"""Prometheus on a real k3s: what it scrapes, and what a real kubelet shows of what the rules read."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from shared_cluster import SERVER

from skerry import paths

pytestmark = pytest.mark.usefixtures("k3s_server")

DEFAULTS = yaml.safe_load((paths.root() / "roles/prometheus/defaults/main.yml").read_text())


@pytest.fixture
def prometheus(host):
    """Asks Prometheus through the API server; skips where its images are not to be had."""
    if host.run("k3s kubectl -n monitoring get deployment prometheus-server").rc != 0:
        pytest.skip("Prometheus's images are in no mirror here, and no registry answers")

    def ask(path):
        where = "/api/v1/namespaces/monitoring/services/prometheus-server:80/proxy"
        return json.loads(host.check_output(f"k3s kubectl get --raw '{where}{path}'"))["data"]

    return ask


def kubelet(host, path):
    """Names of the series at a path of the server's kubelet."""
    text = host.check_output(f"k3s kubectl get --raw /api/v1/nodes/{SERVER}/proxy{path}")
    return {found[0] for line in text.splitlines() if (found := re.match(r"[a-zA-Z_:][\w:]*", line))}


def test_a_kubelet_shows_what_is_kept_of_it(host):
    """Each pattern of names that the role keeps finds something on a real k3s: a name that went away is noticed."""
    shown = {"prometheus_kubelet_keep": kubelet(host, "/metrics"),
             "prometheus_cadvisor_keep": kubelet(host, "/metrics/cadvisor")}
    # Volumes and containers come and go: none of them may be there now.
    now_and_then = re.compile(r"kubelet_volume_stats|container_")
    for variable, names in shown.items():
        for pattern in DEFAULTS[variable]:
            if not now_and_then.match(pattern):
                assert any(re.fullmatch(pattern, name) for name in names), f"{variable}: {pattern}"
    assert "k3s_certificate_expiration_seconds" in shown["prometheus_kubelet_keep"]


def test_pods_verify_what_kubelets_show(host):
    """The jobs of kubelets verify certificates: pods get the authority that k3s signs those of kubelets with."""
    root = host.check_output("k3s kubectl get configmap kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}'")
    address = host.check_output(f"k3s kubectl get node {SERVER} -o jsonpath='{{.status.addresses[0].address}}'")
    script = (
        "import socket, ssl, sys; root, name = sys.argv[1:]; c = ssl.create_default_context(cadata=root); "
        "print(c.wrap_socket(socket.create_connection((name, 10250), 10), server_hostname=name).version())"
    )
    assert host.check_output("python3 -c %s %s %s", script, root, address).startswith("TLS")


def test_targets_are_scraped(host, prometheus, support):
    targets = prometheus("/api/v1/targets?state=active")["activeTargets"]
    up = {target["labels"]["job"] for target in targets if target["health"] == "up"}
    assert {"prometheus", "hosts", "kubernetes-nodes", "kubernetes-nodes-cadvisor"} <= up, targets
    hosts = {target["labels"]["host"] for target in targets if target["labels"]["job"] == "hosts"}
    assert SERVER in hosts
    support.ran(host, "prometheus", "targets of a k3s scraped: kubelet, cAdvisor, node exporter")


def test_rules_are_computed(prometheus):
    groups = {group["name"]: group for group in prometheus("/api/v1/rules")["groups"]}
    assert {"skerry-hosts", "skerry-pods", "skerry-certificates", "skerry-wasm"} <= set(groups)
    assert not [rule for group in groups.values() for rule in group["rules"] if rule["health"] == "err"]
