"""Images and charts in a mirror: the real command against a registry and chart server of the test's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_registry import Registry, chart, deployment, serving

from skerry.errors import SkerryError
from skerry.mirror import charts, oci
from skerry.mirror.archive import expect
from skerry.mirror.build import Announced, Options, build
from skerry.mirror.charts import Chart
from skerry.mirror.plan import Artifact, ImageList, Need, Plan
from skerry.mirror.reference import parse
from skerry.mirror.registry import Repository
from skerry.mirror.store import verify

BOTH = {"amd64": {"x": b"amd64's" * 20_000 + os.urandom(120_000)}, "arm64": {"x": b"arm64's" + os.urandom(1000)}}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as made:
        yield made


def options(**named: Any) -> Options:
    return Options(watch=lambda path: lambda done, total: None, **named)


def plan(*images: str, arch: str = "amd64") -> Plan:
    return Plan(images={(parse(text).text, arch): "one" for text in images})


def lock(mirror: Path) -> dict[str, dict[str, Any]]:
    entries = json.loads((mirror / "mirror.lock.json").read_text())["artifacts"]
    return {"/".join((item["component"], item["version"], item["arch"], item["file"])): item for item in entries}


def test_an_image_of_several_architectures_is_fetched_for_the_wanted_one(tmp_path: Path, registry: Registry) -> None:
    digest = registry.image("team/app", "1.0", BOTH)
    name = f"{registry.host}/team/app:1.0"
    shown: list[Announced] = []
    (outcome,) = build(tmp_path, plan(name, arch="arm64"), options(announce=shown.extend))
    assert outcome.state == "downloaded", outcome.detail
    reference = parse(name)
    archive = tmp_path / reference.place("arm64")
    assert expect(archive, reference, None) == "arm64"
    assert lock(tmp_path)[reference.place("arm64")]["source"] == f"docker://{name}@{digest}"
    assert [(thing.present, (thing.size or 0) > 900) for thing in shown] == [(False, True)]
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        (docker,) = json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest"))
        assert docker["RepoTags"] == [name]
        assert {docker["Config"], *docker["Layers"]} <= set(names)
        for blob in names:
            if blob.startswith("blobs/"):
                content = (tar.extractfile(blob) or pytest.fail(blob)).read()
                assert hashlib.sha256(content).hexdigest() == blob.rpartition("/")[2]
    assert next(verify(tmp_path)).state == "ok"


def test_the_same_image_is_the_same_archive(tmp_path: Path, registry: Registry) -> None:
    registry.image("app", "1", BOTH)
    digests = set()
    for folder in ("one", "two"):
        (outcome,) = build(tmp_path / folder, plan(f"{registry.host}/app:1"), options())
        digests.add(outcome.sha256)
    assert len(digests) == 1


def test_a_second_build_fetches_no_image_again(tmp_path: Path, registry: Registry) -> None:
    registry.image("app", "1", BOTH)
    build(tmp_path, plan(f"{registry.host}/app:1"), options())
    registry.requests.clear()
    (outcome,) = build(tmp_path, plan(f"{registry.host}/app:1"), options())
    assert outcome.state == "present"
    assert registry.requests == []


def test_a_broken_download_of_a_layer_is_taken_up(tmp_path: Path, registry: Registry) -> None:
    registry.image("app", "1", {"amd64": BOTH["amd64"]})
    layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    registry.cut[f"/v2/app/blobs/{layer}"] = 100_000
    (outcome,) = build(tmp_path, plan(f"{registry.host}/app:1"), options())
    assert outcome.state == "downloaded"
    ranges = [ranged for _, path, ranged, _ in registry.requests if path.endswith(layer)]
    assert ranges == ["", f"bytes={1 << 16}-"]  # what came in whole chunks was kept
    assert not (tmp_path / ".partial").exists()


def test_a_layer_that_is_not_what_its_digest_says_is_refused(tmp_path: Path, registry: Registry) -> None:
    registry.image("app", "1", {"amd64": BOTH["amd64"]})
    layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    registry.blobs[layer] = b"x" * len(registry.blobs[layer])
    (outcome,) = build(tmp_path, plan(f"{registry.host}/app:1"), options())
    assert outcome.state == "failed"
    assert "MIRROR_010" in outcome.detail
    assert not (tmp_path / "images").exists()


def test_a_tag_that_moved_on_does_not_change_a_locked_mirror(tmp_path: Path, registry: Registry) -> None:
    name = f"{registry.host}/app:main"
    registry.image("app", "main", BOTH)
    (first,) = build(tmp_path, plan(name), options())
    registry.image("app", "main", {"amd64": {"x": b"newer"}, "arm64": {"x": b"newer"}})
    (tmp_path / parse(name).place("amd64")).unlink()
    (again,) = build(tmp_path, plan(name), options())
    assert (again.state, again.sha256) == ("downloaded", first.sha256)


def test_an_image_asked_for_by_digest_is_found_by_it(tmp_path: Path, registry: Registry) -> None:
    digest = registry.image("app", "1", BOTH)
    name = f"{registry.host}/app:1@{digest}"
    (outcome,) = build(tmp_path, plan(name), options())
    assert outcome.path == f"images/{digest.replace(':', '-')}/amd64/{parse(name).file}"
    with tarfile.open(tmp_path / outcome.path) as tar:
        (entry,) = json.load(tar.extractfile("index.json") or pytest.fail("no index"))["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == f"{registry.host}/app@{digest}"
    assert entry["digest"] == digest


def test_what_is_not_there_is_said_and_the_rest_is_fetched(tmp_path: Path, registry: Registry) -> None:
    registry.image("app", "1", {"arm64": {"x": b"x"}})
    registry.image("good", "1", BOTH)
    names = [f"{registry.host}/{name}" for name in ("app:1", "gone:2", "good:1")]
    outcomes = {outcome.path.rpartition("+")[2]: outcome for outcome in build(tmp_path, plan(*names), options())}
    assert outcomes["good.tar"].state == "downloaded"
    assert "MIRROR_015" in outcomes["app.tar"].detail
    assert "arm64, not for amd64" in outcomes["app.tar"].detail
    assert "MIRROR_013" in outcomes["gone.tar"].detail


@pytest.mark.parametrize("kind", ["token", "basic"])
def test_logins_are_those_of_docker_login(
    tmp_path: Path, registry: Registry, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.login = kind
    registry.image("app", "1", BOTH)
    monkeypatch.setenv("HOME", str(tmp_path))
    if kind == "basic":
        (outcome,) = build(tmp_path / "m", plan(f"{registry.host}/app:1"), options())
        assert "MIRROR_014" in outcome.detail
        assert "docker login" in outcome.remedy
        (tmp_path / ".docker").mkdir()
        auths = {"auths": {registry.host: {"auth": "c2l0ZTpzZWNyZXQ="}}}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps(auths))
    (outcome,) = build(tmp_path / "m", plan(f"{registry.host}/app:1"), options())
    assert outcome.state == "downloaded", outcome.detail


def test_a_front_that_leads_to_another_registry_is_followed(tmp_path: Path, registry: Registry) -> None:
    """docker.redpanda.com is one: a token would not go along over the redirect."""
    registry.image("app", "1", {"amd64": {"x": b"x"}})
    registry.behind = registry.host.replace("127.0.0.1", "localhost")
    registry.login = "token"
    name = parse(f"{registry.host}/app:1")
    manifest = Repository(name.registry, name.repository, {}).manifest("1")
    assert manifest.json["layers"]
    assert ("GET", "/v2/app/manifests/1", "", "Bearer good") in registry.requests


def test_a_registry_can_be_asked_by_way_of_a_cache(tmp_path: Path, registry: Registry) -> None:
    registry.image("hub/library/busybox", "1", BOTH)
    redirects = {"docker.io": f"{registry.url}/hub"}
    (outcome,) = build(tmp_path, plan("busybox:1"), options(redirects=redirects))
    assert outcome.state == "downloaded", outcome.detail
    assert expect(tmp_path / outcome.path, parse("busybox:1"), "amd64") == "amd64"


def test_images_of_a_list_are_fetched_but_for_those_that_are_off(tmp_path: Path, registry: Registry) -> None:
    for name in ("pause", "traefik"):
        registry.image(f"rancher/{name}", "1", BOTH)
    registry.files["/k3s-images.txt"] = f"{registry.host}/rancher/pause:1\n{registry.host}/rancher/traefik:1\n".encode()
    listed = ImageList(
        component="k3s", version="v1", file="k3s-images.txt", url=f"{registry.url}/k3s-images.txt",
        without=("*traefik*",),
    )
    wanted = Plan(lists={listed.path: (listed, {"amd64": "one", "arm64": "two"})})
    outcomes = build(tmp_path, wanted, options())
    assert [outcome.state for outcome in outcomes] == ["downloaded"] * 3
    assert {path.parent.name for path in (tmp_path / "images").rglob("*.tar")} == {"amd64", "arm64"}
    assert not list(tmp_path.rglob("*traefik*"))


DEPLOYMENT = deployment(
    '{name: app, image: "{{ .Values.image }}", '
    'args: ["--helper-image={{ .Values.helper }}", "--listen=0.0.0.0:80", "--docs=https://docs.example.com/a:b"]}'
)


def test_charts_of_repositories_and_registries_are_fetched(tmp_path: Path, registry: Registry) -> None:
    archive = chart("app", "1.2.3", {}, {"app.yaml": DEPLOYMENT})
    registry.chart_in_registry("charts/app", "1.2.3", archive)
    repo = registry.chart_in_repository("stable", "web", "v2.0.0", chart("web", "v2.0.0", {}, {}))
    wanted = Plan(charts=[
        (Chart.model_validate({"chart": f"oci://{registry.host}/charts/app", "version": "1.2.3"}), {"amd64": "one"}),
        (Chart(chart="web", version="v2.0.0", repo=repo), {"amd64": "one"}),
        (Chart(chart="web", version="9", repo=repo), {"amd64": "one"}),
    ])  # fmt: skip
    outcomes = {outcome.path: outcome for outcome in build(tmp_path, wanted, options())}
    assert (tmp_path / "app/1.2.3/noarch/app-1.2.3.tgz").read_bytes() == archive
    assert outcomes["web/v2.0.0/noarch/web-v2.0.0.tgz"].state == "downloaded"
    assert "MIRROR_016" in outcomes["web/9/noarch/web-9.tgz"].detail
    assert "its newest is v2.0.0" in outcomes["web/9/noarch/web-9.tgz"].detail


@pytest.mark.skipif(not charts.helm(), reason="no helm: it is built by ./skerry test 'kubernetes build'")
def test_an_image_added_to_a_chart_shows_up_in_the_mirror(tmp_path: Path, registry: Registry) -> None:
    for name in ("app", "helper", "added"):
        registry.image(name, "1", BOTH)
    values = {"image": f"{registry.host}/app:1", "helper": "registry.example.com/helper:1"}
    redirects = {"registry.example.com": registry.url}

    def mirrored(version: str, template: str) -> set[str]:
        repo = registry.chart_in_repository("stable", "app", version, chart("app", version, {}, {"app.yaml": template}))
        wanted = Plan(charts=[(Chart(chart="app", version=version, repo=repo, values=values), {"amd64": "one"})])
        outcomes = build(tmp_path / version, wanted, options(redirects=redirects, helm=charts.helm()))
        assert not [outcome for outcome in outcomes if outcome.state == "failed"], outcomes
        return {path.name.rpartition("+")[2] for path in (tmp_path / version / "images").rglob("*.tar")}

    assert mirrored("1", DEPLOYMENT) == {"app.tar", "helper.tar"}
    more = DEPLOYMENT + f"      initContainers:\n      - name: added\n        image: {registry.host}/added:1\n"
    assert mirrored("2", more) == {"app.tar", "helper.tar", "added.tar"}
    listed = (tmp_path / "2/app/2/noarch/app-2.images.txt").read_text()
    assert f"{registry.host}/added:1" in listed.splitlines()
    assert "registry.example.com/helper:1" in listed.splitlines()


def test_docker_loads_what_the_mirror_has(tmp_path: Path, registry: Registry) -> None:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no Docker on this machine")
    registry.image("skerry-test/loads", "1", BOTH)
    redirects = {"skerry.invalid": registry.url}
    name = "skerry.invalid/skerry-test/loads:1"
    (outcome,) = build(tmp_path, plan(name), options(redirects=redirects))
    try:
        done = subprocess.run(
            ["docker", "load", "-i", str(tmp_path / outcome.path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"Loaded image: {name}" in done.stdout
    finally:
        subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)


def test_a_full_disk_is_told_before_anything_is_fetched(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.image("app", "1", BOTH)
    huge = oci.Image.size
    monkeypatch.setattr(oci.Image, "size", property(lambda _image: 1 << 60))
    with pytest.raises(SkerryError) as caught:
        build(tmp_path, plan(f"{registry.host}/app:1"), options())
    assert caught.value.code == "MIRROR_018"
    monkeypatch.setattr(oci.Image, "size", huge)
    assert not (tmp_path / "images").exists()


def test_a_file_without_an_address_says_how_to_add_it(tmp_path: Path) -> None:
    artifact = Artifact(component="tool", version="1", arch="amd64", file="tool")
    (outcome,) = build(tmp_path, Plan(artifacts={artifact.path: Need(artifact, "one")}), options())
    assert outcome.state == "failed"
    assert "skerry mirror add" in outcome.remedy


