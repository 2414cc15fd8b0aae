"""The charts of Prometheus and Grafana, rendered by Helm with the role's values."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendered_charts import Object, containers, images, one, pod_specs, template
from role_values import Rendered, render

from skerry.testing import monitoring
from skerry.testing.kube.build import program

Objects = Callable[..., list[Object]]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """The role's values in all its cases."""
    return render("prometheus", tmp_path_factory.mktemp("prometheus"))


@pytest.fixture
def objects(rendered: Rendered, tmp_path: Path) -> Objects:
    """objects(case, chart): what the chart gives."""

    def ask(case: str, chart: str = "prometheus") -> list[Object]:
        (release,) = [item for item in rendered.cases[case] if item["chart"] == chart]
        return template(program("helm"), release, tmp_path, "monitoring")

    return ask


def server(found: list[Object]) -> dict[str, Any]:
    """The container of Prometheus itself."""
    spec = one(found, "Deployment", "prometheus-server")["spec"]["template"]["spec"]
    return next(item for item in containers(spec) if item["name"] == "prometheus-server")


def test_the_light_chart_is_light(objects: Objects) -> None:
    """Three images; no Alertmanager, push gateway or reloader unless asked for."""
    assert {image.rpartition("/")[2].partition(":")[0] for image in images(objects("defaults"))} == {
        "prometheus", "node-exporter", "kube-state-metrics",
    }  # fmt: skip
    asked = {image.rpartition("/")[2].partition(":")[0] for image in images(objects("everything"))}
    assert {"alertmanager", "prometheus-config-reloader"} <= asked
    assert len(pod_specs(objects("small"))) == 1


def test_samples_are_kept_by_size(objects: Objects) -> None:
    arguments = server(objects("defaults"))["args"]
    assert "--storage.tsdb.retention.size=6553MB" in arguments, "80 % of 8 GiB"
    assert "--storage.tsdb.retention.time=30d" in arguments
    assert "--storage.tsdb.retention.size=6GB" in server(objects("everything"))["args"]
    claim = one(objects("defaults"), "PersistentVolumeClaim", "prometheus-server")
    assert claim["spec"]["resources"]["requests"]["storage"] == "8Gi"
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    small = objects("small")
    assert not [item for item in small if item["kind"] == "PersistentVolumeClaim"]
    volumes = one(small, "Deployment", "prometheus-server")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "storage-volume", "emptyDir": {"sizeLimit": "500Mi"}} in volumes


def test_nobody_ends_prometheus_over_the_network(objects: Objects) -> None:
    assert "--web.enable-lifecycle" not in server(objects("defaults"))["args"]
    assert "--web.enable-lifecycle" in server(objects("everything"))["args"], "the reloader needs it"


def test_a_changed_rule_makes_a_new_pod(objects: Objects) -> None:
    def note(case: str) -> str:
        deployment = one(objects(case), "Deployment", "prometheus-server")
        return str((deployment["spec"]["template"]["metadata"].get("annotations") or {}).get("skerry.dev/config", ""))

    assert len(note("defaults")) == 64
    assert note("defaults") != note("small")
    assert note("everything") == "", "the reloader sees it"


def test_pods_are_modest(objects: Objects) -> None:
    """All but the node exporter, which has to see the host, would be let into a namespace with the level restricted."""
    for case, chart in (("everything", "prometheus"), ("defaults", "prometheus"), ("everything", "grafana")):
        found = [item for item in objects(case, chart) if item["kind"] in ("Deployment", "StatefulSet")]
        assert found, (case, chart)
        for item in found:
            spec = item["spec"]["template"]["spec"]
            assert spec["securityContext"]["runAsNonRoot"] is True
            for container in containers(spec):
                if container["name"].endswith("configmap-reload"):
                    continue
                assert container["securityContext"]["capabilities"]["drop"] == ["ALL"], container["name"]
                assert container["securityContext"]["allowPrivilegeEscalation"] is False, container["name"]
                assert container["resources"]["limits"]["memory"], container["name"]


def test_the_node_exporter_is_on_every_node_and_finds_the_facts(objects: Objects) -> None:
    daemons = one(objects("everything"), "DaemonSet")["spec"]["template"]["spec"]
    assert daemons["tolerations"] == [{"operator": "Exists"}]
    (container,) = containers(daemons)
    assert "--collector.textfile.directory=/host/root/var/lib/prometheus/node-exporter" in container["args"]
    assert "--web.listen-address=[$(HOST_IP)]:9101" in container["args"]
    service = one(objects("everything"), "Service", "prometheus-prometheus-node-exporter")
    assert service["metadata"]["annotations"]["prometheus.io/scrape"] == "false", "it has a job of its own"
    assert service["metadata"]["labels"]["app.kubernetes.io/name"] == "prometheus-node-exporter", "known by that"


def test_secrets_are_files(objects: Objects) -> None:
    found = objects("everything")
    text = yaml.safe_dump_all(found)
    assert "made-up" not in text
    spec = one(found, "Deployment", "prometheus-server")["spec"]["template"]["spec"]
    assert {"name": "skerry-hosts", "secret": {"secretName": "skerry-hosts"}} in spec["volumes"]
    mounts = {mount["name"]: mount["mountPath"] for mount in server(found)["volumeMounts"]}
    assert mounts["skerry-hosts"] == "/etc/skerry-hosts"
    alertmanager = one(found, "StatefulSet")["spec"]["template"]["spec"]
    assert {"name": "skerry-receivers", "secret": {"secretName": "skerry-receivers"}} in alertmanager["volumes"]
    assert "secretName" not in yaml.safe_dump_all(objects("small"))


@pytest.mark.monitoring
@pytest.mark.parametrize("case", ["defaults", "everything", "small"])
def test_the_configuration_is_valid_as_the_chart_writes_it(case: str, objects: Objects, tmp_path: Path) -> None:
    data = one(objects(case), "ConfigMap", "prometheus-server")["data"]
    promtool = monitoring.find("promtool")
    assert promtool
    config = yaml.safe_load(data["prometheus.yml"])
    (tmp_path / "empty").write_text("")
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)  # Debian builds Prometheus without Kubernetes' discovery
    for manager in config.get("alerting", {}).get("alertmanagers", []):
        manager.pop("kubernetes_sd_configs", None)
    text = yaml.safe_dump(config, sort_keys=False).replace("/etc/config/", f"{tmp_path}/")
    for path in ("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "/etc/skerry-hosts/ca.crt"):
        text = text.replace(path, str(tmp_path / "empty"))
    for path in ("/var/run/secrets/kubernetes.io/serviceaccount/token", "/etc/skerry-hosts/password"):
        text = text.replace(path, str(tmp_path / "empty"))
    (tmp_path / "prometheus.yml").write_text(text)
    for name in ("recording_rules.yml", "alerting_rules.yml", "rules", "alerts"):
        (tmp_path / name).write_text(data[name])
    command = [str(promtool), "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_password_data_and_dashboards(objects: Objects) -> None:
    found = objects("everything", "grafana")
    spec = one(found, "Deployment", "grafana")["spec"]["template"]["spec"]
    (container,) = containers(spec)
    sources = {item["name"]: item.get("valueFrom", {}).get("secretKeyRef") for item in container["env"]}
    assert sources["GF_SECURITY_ADMIN_PASSWORD"] == {"name": "grafana-admin", "key": "admin-password"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["dashboards-skerry"]["configMap"]["name"] == "grafana-dashboards-skerry"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["dashboards-skerry"] == "/var/lib/grafana/dashboards/skerry"
    data = one(found, "ConfigMap", "grafana")["data"]
    (source,) = yaml.safe_load(data["datasources.yaml"])["datasources"]
    assert source["url"] == "http://prometheus-server.watch.svc"
    assert "check_for_updates = false" in data["grafana.ini"]
    port = one(found, "Service", "grafana")["spec"]
    assert (port["type"], port["ports"][0]["nodePort"]) == ("NodePort", 30300)
    assert not [image for image in images(found) if "busybox" in image or "bats" in image or "curl" in image]
