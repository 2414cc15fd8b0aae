"""An air-gapped site, for real: hosts whose way out is cut, a mirror made beforehand from servers of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from made_registry import Registry, chart, deployment, serving
from playbooks import Played, play
from sandboxes import Sandbox, up
from support_record import Support

from skerry import paths
from skerry.images.pause import pause_image
from skerry.mirror import charts
from skerry.mirror.lock import read, write
from skerry.mirror.reference import parse
from skerry.mirror.store import add
from skerry.sandbox import k3s_source

pytestmark = [pytest.mark.hosts, pytest.mark.own_hosts, pytest.mark.k3s, pytest.mark.timeout(1500)]

SANDBOX = Sandbox("skerry-airgap", "10.213.86")
NETWORK = f"{SANDBOX.prefix}.0/24"
HOSTS = {"core": "11", "edge": "12"}
#: What a site's own mirror of its distribution would have: packages are not Skerry's to carry.
PACKAGES = (
    "docker.io docker-cli crun libwasmedge0 wasmedge iptables ipset apparmor ca-certificates prometheus-node-exporter"
)
CUT = ["-s", NETWORK, "!", "-d", NETWORK, "-j", "DROP"]
APP, TOOL = "registry.example.com/team/app:1", "registry.example.com/team/tool:1"
PAUSE = "docker.io/rancher/mirrored-pause:3.6"


def dropped() -> int:
    """Packets of the hosts that were on their way out and were thrown away."""
    listed = subprocess.run(
        ["iptables", "-L", "DOCKER-USER", "-v", "-n", "-x"], capture_output=True, text=True, check=True
    ).stdout
    line = next(line.split() for line in listed.splitlines() if NETWORK in line)
    return int(line[0])


@dataclass
class Site:
    """The site and what was made for it."""

    folder: Path
    registry: Registry
    mirror: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def inventory(self, name: str, **variables: Any) -> Path:
        """An inventory of the hosts."""
        hosts: dict[str, dict[str, Any]] = {
            "core": {"sandbox_memory": "2G", "sandbox_cpus": 2, "docker_state": "absent"},
            "edge": {"sandbox_memory": "768M", "images_docker": [TOOL]},
        }
        for host, last in HOSTS.items():
            hosts[host] |= {"ansible_host": SANDBOX.address(last)}
        groups = {"skerry_servers": ["core"], "skerry_agents": ["edge"]}
        return SANDBOX.inventory(self.folder / name, hosts, groups, **{**self.variables, **variables})

    def build(self, inventory: Path, mirror: Path) -> dict[str, dict[str, Any]]:
        """`skerry mirror build`: {path: outcome}."""
        elsewhere = ("docker.io", "registry.example.com", "quay.io")
        redirects = [f"--registry={host}={self.registry.url}" for host in elsewhere]
        command = [sys.executable, "-m", "skerry", "mirror", "build", "-i", str(inventory), "-d", str(mirror), "--json"]
        environment = {**os.environ, "PYTHONPATH": str(paths.root() / "tools"), "SKERRY_HELM": charts.helm()}
        done = subprocess.run(
            [*command, *redirects], capture_output=True, text=True, env=environment, timeout=600, check=False
        )
        outcomes = [json.loads(line) for line in done.stdout.splitlines()]
        failed = [outcome for outcome in outcomes if outcome["state"] == "failed"]
        assert done.returncode == 0, f"{failed}\n{done.stderr}"
        return {outcome["path"]: outcome for outcome in outcomes}


def run(inventory: Path, *words: str) -> Played:
    """site.yml with stock ansible-playbook."""
    return play("site.yml", inventory, *words, timeout=900)


def _publish(registry: Registry) -> str:
    """Put everything on the test's own internet that the mirror is to be built from; k3s's version."""
    mirror = paths.mirror()
    k3s = next(entry for entry in read(mirror).artifacts if (entry.component, entry.arch) == ("k3s", "amd64"))
    release = f"/k3s/{quote(k3s.version)}"
    registry.files[f"{release}/k3s"] = (mirror / k3s.path).read_bytes()
    registry.files[f"{release}/sha256sum-amd64.txt"] = f"{k3s.sha256}  k3s\n".encode()
    registry.files[f"{release}/k3s-images.txt"] = f"{PAUSE}\n".encode()
    for repository, tag in (("rancher/mirrored-pause", "3.6"), ("team/app", "1"), ("team/tool", "1")):
        registry.image_of_archive(repository, tag, pause_image("amd64"))
    return k3s.version


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Hosts with their distribution's packages and no way out. SKERRY_KEEP_HOSTS=1 leaves them up."""
    folder = tmp_path_factory.mktemp("airgap")
    k3s_source.provide("amd64")
    with serving() as registry:
        site = Site(folder, registry, folder / "mirror")
        site.variables = {
            "skerry_arch": "amd64",
            "skerry_mirror": str(site.mirror),
            "skerry_airgap": True,
            "k3s_version": _publish(registry),
            "k3s_download_url": f"{registry.url}/k3s",
            "k3s_disable": k3s_source.PACKAGED,
            "k3s_flannel_backend": "host-gw",
            "k3s_cluster_name": "airgap",
            "k3s_kubeconfig_dir": str(folder / "kube"),
            "images_k3s": [APP],
            "wasm_runtime_runtimes": ["crun", "wasmedge"],
        }
        with up(site.inventory("site")):
            subprocess.run(["iptables", "-D", "DOCKER-USER", *CUT], check=False, capture_output=True)  # of a killed run
            install = f"DEBIAN_FRONTEND=noninteractive apt-get -qq install -y {PACKAGES} 2>&1"
            for host in HOSTS:
                SANDBOX.on(host, f"apt-get -qq update && {install}")
            subprocess.run(["iptables", "-I", "DOCKER-USER", *CUT], check=True)
            try:
                yield site
            finally:
                subprocess.run(["iptables", "-D", "DOCKER-USER", *CUT], check=True)


def test_a_site_without_internet_comes_up_from_the_mirror(site: Site, support: Support) -> None:
    inventory = site.inventory("site")
    outcomes = site.build(inventory, site.mirror)
    for image in (PAUSE, APP, TOOL):
        assert outcomes[parse(image).place("amd64")]["state"] == "downloaded"
    SANDBOX.on("edge", "! timeout 5 bash -c '</dev/tcp/1.1.1.1/443'")
    before, asked = dropped(), len(site.registry.requests)
    start = time.monotonic()
    done = run(inventory)
    seconds = time.monotonic() - start
    assert done.code == 0, done.output[-6000:]
    outside = dropped() - before
    print(f"site.yml {seconds:.0f} s; {outside} packets to outside addresses", flush=True)
    assert len(site.registry.requests) == asked  # nor did the controller ask
    assert outside == 0
    SANDBOX.on("core", f"k3s kubectl run app --image={APP} --overrides='{{\"spec\": {{\"nodeName\": \"edge\"}}}}'")
    SANDBOX.on("core", "k3s kubectl wait --for=condition=Ready pod/app --timeout=120s")
    SANDBOX.on("edge", f"docker image inspect {TOOL}")
    support("air-gapped site", "Debian 13", "amd64", "ran here", "site.yml from a mirror, the way out cut")


def test_a_second_run_changes_nothing(site: Site) -> None:
    done = run(site.inventory("site"))
    assert done.code == 0, done.output[-6000:]
    assert done.changed() == dict.fromkeys(HOSTS, 0)


def test_an_image_that_the_mirror_lacks_stops_the_run_before_the_first_change(site: Site) -> None:
    forgotten = "registry.example.com/team/forgotten:1"
    inventory = site.inventory("forgotten", images_k3s=[APP, forgotten], k3s_node_labels={"example.org/new": "1"})
    for words in ((), ("--check",)):
        done = run(inventory, *words)
        assert done.code != 0
        assert "AIRGAP_001" in done.output
        assert f"image {forgotten} (amd64)" in done.output
        assert done.changed() == dict.fromkeys(HOSTS, 0)
    assert "example.org/new" not in SANDBOX.on("core", "k3s kubectl get nodes --show-labels")


@pytest.mark.full
def test_an_image_is_imported_by_a_node_that_runs_and_by_digest(site: Site) -> None:
    """Both what is new and what was replaced; an index of several architectures of which the archive has one."""
    other = "registry.example.com/team/other"
    digest = site.registry.image("team/other", "1", {"amd64": {"x": b"first"}, "arm64": {"x": b"first"}})
    inventory = site.inventory("more", images_k3s=[APP, f"{other}:1", f"{other}@{digest}"])
    site.build(inventory, site.mirror)
    done = run(inventory, "--tags", "images_install")
    assert done.code == 0, done.output[-6000:]
    for host in HOSTS:
        listed = SANDBOX.on(host, "k3s ctr -n k8s.io images ls -q").split()
        assert {f"{other}:1", f"{other}@{digest}"} <= set(listed)
    before = SANDBOX.on("edge", f"k3s crictl inspecti -q {other}:1 | grep '\"id\"'")

    site.registry.image("team/other", "1", {"amd64": {"x": b"newer"}, "arm64": {"x": b"newer"}})  # of the same size
    place = parse(f"{other}:1").place("amd64")
    (site.mirror / place).unlink()
    entries = [entry for entry in read(site.mirror).artifacts if entry.path != place]
    write(site.mirror, entries)
    site.build(inventory, site.mirror)
    assert run(inventory, "--tags", "images_install").code == 0
    assert SANDBOX.on("edge", f"k3s crictl inspecti -q {other}:1 | grep '\"id\"'") != before
    pins = SANDBOX.on("edge", f"k3s ctr -n k8s.io images ls name=={other}:1")
    assert "io.cri-containerd.pinned=pinned" in pins

    done = run(site.inventory("site"), "--tags", "images_install")  # no longer wanted
    assert done.code == 0, done.output[-6000:]
    assert "team+other" not in SANDBOX.on("edge", "ls /var/lib/rancher/k3s/agent/images")


CHART = deployment('{name: app, image: "quay.io/team/app:1"}')
ADDED = "quay.io/team/added:1"


@pytest.mark.skipif(not charts.helm(), reason="no helm: it is built by ./skerry test 'kubernetes build'")
def test_an_image_added_to_a_chart_is_in_the_mirror_or_stops_the_run(site: Site) -> None:
    """The chart of a role of the platform, with an image that the role knows nothing of."""
    registry = site.registry
    for part in ("controller", "webhook", "cainjector", "acmesolver", "startupapicheck"):
        registry.image_of_archive(f"jetstack/cert-manager-{part}", "v0.0.1", pause_image("amd64"))
    registry.image_of_archive("team/added", "1", pause_image("amd64"))
    more = CHART + f"      - {{name: added, image: {ADDED}}}\n"
    repo = registry.chart_in_repository(
        "charts", "cert-manager", "v0.0.1", chart("cert-manager", "v0.0.1", {}, {"app.yaml": more})
    )
    mirror = site.folder / "with-chart"
    inventory = site.inventory(
        "chart", skerry_mirror=str(mirror), cert_manager_state="present", cert_manager_version="v0.0.1",
        cert_manager_chart_repo=repo,
    )  # fmt: skip
    outcomes = site.build(inventory, mirror)
    assert outcomes[parse(ADDED).place("amd64")]["state"] == "downloaded"
    acme = parse("quay.io/jetstack/cert-manager-acmesolver:v0.0.1")  # in no manifest
    assert outcomes[acme.place("amd64")]["state"] == "downloaded"

    (mirror / parse(ADDED).place("amd64")).unlink()
    done = run(inventory)
    assert done.code != 0
    assert f"image {ADDED} (amd64)" in done.output
    assert "lacks 1 of" in done.output
    assert done.changed() == dict.fromkeys(HOSTS, 0)
    assert "cert-manager" not in SANDBOX.on("core", "k3s kubectl get namespaces")


@pytest.mark.full
def test_a_chart_is_installed_from_the_mirror(site: Site, support: Support) -> None:
    """By k3s's own Helm job, whose image is made by hand and lies in the default mirror of those who have it."""
    helm_job = next((entry for entry in read(paths.mirror()).artifacts if "rancher+klipper-helm" in entry.file), None)
    if helm_job is None:
        pytest.skip(f"the mirror {paths.mirror()} has no image of the Helm job (rancher/klipper-helm)")
    name = f"docker.io/rancher/klipper-helm:{helm_job.version}"
    site.registry.image_of_archive("rancher/klipper-helm", helm_job.version, paths.mirror() / helm_job.path)
    inventory = site.inventory("helm", images_k3s=[APP, name])
    site.build(inventory, site.mirror)
    archive = site.folder / "app.tgz"
    archive.write_bytes(chart("app", "1.0.0", {}, {"app.yaml": CHART.replace("quay.io/team/app:1", APP)}))
    add(site.mirror, archive, "app", "1.0.0", "noarch", "app-1.0.0.tgz")
    assert run(inventory, "--tags", "images_install").code == 0
    book = site.folder / "chart.yml"
    variables = {
        "helm_chart_name": "app", "helm_chart_namespace": "app", "helm_chart_chart": "app",
        "helm_chart_version": "1.0.0", "helm_chart_ready": [{"kind": "Deployment", "name": "app"}],
        "helm_chart_timeout": 240,
    }  # fmt: skip
    task = {"name": "Install", "ansible.builtin.include_role": {"name": "helm_chart"}, "vars": variables}
    book.write_text(yaml.safe_dump([{"name": "Chart", "hosts": "core", "gather_facts": False, "tasks": [task]}]))
    before = dropped()
    done = play(book, inventory, timeout=600)
    assert done.code == 0, done.output[-6000:]
    assert dropped() == before
    support("air-gapped site", "Debian 13", "amd64", "ran here", "a chart from the mirror, by k3s's Helm job")
