"""The check of an air-gapped site: what hosts need, and what of it a mirror has."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible import constants
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import ArtifactError
from ansible_collections.skerry.edge.plugins.plugin_utils.mirror_needs import (
    Mirror,
    incomplete,
    note_need,
    noted_needs,
    representatives,
    survey,
)

K3S = {"component": "k3s", "version": "v1+k3s1", "arch": "amd64", "file": "k3s"}
TARRED = {
    "component": "wasmtime", "version": "48", "arch": "amd64", "file": "wasmtime-48.tar.xz",
    "extract": "wasmtime-48/wasmtime",
}  # fmt: skip
LIST = {"component": "k3s", "version": "v1+k3s1", "file": "k3s-images.txt", "without": ["*traefik*"]}
CHART = {"chart": "oci://quay.io/charts/app", "version": "1.0"}
NOTHING: dict[str, Any] = {"artifacts": [], "charts": [], "images": [], "images_for": "k3s", "image_lists": []}


class Made:
    """A mirror made by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write([])

    def write(self, entries: list[dict[str, Any]]) -> None:
        (self.folder / "mirror.lock.json").write_text(json.dumps({"format": 1, "artifacts": entries}))

    def put(self, path: str, content: bytes = b"x") -> None:
        component, version, arch, file = path.split("/")
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        entries = json.loads((self.folder / "mirror.lock.json").read_text())["artifacts"]
        entries.append({
            "component": component, "version": version, "arch": arch, "file": file, "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "source": "local",
        })  # fmt: skip
        self.write(entries)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@pytest.fixture(params=["directory", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The mirror as a directory and as an address."""
    if request.param == "directory":
        yield str(tmp_path)
        return
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        """Nobody reads it."""


def need(**named: Any) -> tuple[str, str, dict[str, Any]]:
    return ("one", "amd64", {**NOTHING, **named})


def test_everything_is_there(made: Made, place: str) -> None:
    for path in ("k3s/v1+k3s1/amd64/k3s", "wasmtime/48/amd64/wasmtime", "app/1.0/noarch/app-1.0.tgz"):
        made.put(path)
    made.put("app/1.0/noarch/app-1.0.images.txt", b"# Images of app\nquay.io/team/app:1\n")
    made.put("k3s/v1+k3s1/noarch/k3s-images.txt", b"docker.io/rancher/pause:3.6\ndocker.io/rancher/traefik:3\n")
    for path in ("1/amd64/quay.io+team+app.tar", "3.6/amd64/docker.io+rancher+pause.tar"):
        made.put(f"images/{path}")
    needs = [need(artifacts=[K3S, TARRED], charts=[CHART], image_lists=[LIST])]
    assert survey(needs, Mirror(place)) == ({"amd64": ["docker.io/rancher/pause:3.6", "quay.io/team/app:1"]}, {})


def test_what_is_missing_is_named_with_a_host(made: Made, place: str) -> None:
    made.put("app/1.0/noarch/app-1.0.images.txt", b"quay.io/team/added:1\n")
    other = ("two", "arm64", {**NOTHING, "images": ["a:1"]})
    needs = [need(artifacts=[K3S], charts=[CHART], images=["busybox"]), other]
    _, missing = survey(needs, Mirror(place))
    assert missing == {
        "app/1.0/noarch/app-1.0.tgz": "one",
        "image docker.io/library/a:1 (arm64)": "two",
        "image docker.io/library/busybox:latest (amd64)": "one",
        "image quay.io/team/added:1 (amd64)": "one",
        "k3s/v1+k3s1/amd64/k3s": "one",
    }
    text = str(incomplete(missing, Mirror(place)))
    assert text.startswith("AIRGAP_001")
    assert "lacks 5" in text
    assert "image quay.io/team/added:1 (amd64) (for one)" in text
    assert "skerry mirror build" in text


def test_a_file_that_the_lock_knows_and_the_mirror_lost_is_missing(made: Made, place: str) -> None:
    made.put("k3s/v1+k3s1/amd64/k3s", b"whole")
    path = made.folder / "k3s/v1+k3s1/amd64/k3s"
    for damage in (lambda: path.write_bytes(b"who"), path.unlink):
        damage()
        assert survey([need(artifacts=[K3S])], Mirror(place))[1] == {"k3s/v1+k3s1/amd64/k3s": "one"}


def test_what_is_optional_may_be_missing(made: Made, place: str) -> None:
    assert survey([need(artifacts=[{**K3S, "optional": True}])], Mirror(place)) == ({}, {})


def test_images_of_docker_are_not_for_nodes(made: Made, place: str) -> None:
    made.put("images/1/amd64/docker.io+library+a.tar")
    assert survey([need(images=["a:1"], images_for="docker")], Mirror(place)) == ({}, {})


def test_no_mirror_is_an_error_of_its_own(tmp_path: Path) -> None:
    for place in (str(tmp_path / "nowhere"), "http://127.0.0.1:9/"):
        with pytest.raises(ArtifactError, match="AIRGAP_003"):
            Mirror(place)


def test_answers_of_a_run_are_kept_for_its_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    assert noted_needs(["one"]) == []
    for host, machine in (("one", "x86_64"), ("two", "x86_64"), ("three", "aarch64"), ("gone", "armv7l")):
        variables = {"inventory_hostname": host, "ansible_facts": {"architecture": machine}}
        note_need(variables, {**NOTHING, "charts": [{**CHART, "values": {"password": "secret"}}]})
    needs = noted_needs(["one", "two", "three"])
    assert [(host, arch) for host, arch, _ in needs] == [("one", "amd64"), ("three", "arm64")]
    assert "secret" not in (tmp_path / "skerry-needs.jsonl").read_text()


def test_a_chart_whose_images_nobody_names_is_no_whole_mirror(made: Made, place: str) -> None:
    made.put("app/1.0/noarch/app-1.0.tgz")
    (missing,) = survey([need(charts=[CHART])], Mirror(place))[1]
    assert missing.startswith("app/1.0/noarch/app-1.0.images.txt")
    made.put("app/1.0/noarch/app-1.0.images.txt", b"# none\n")
    assert survey([need(charts=[CHART])], Mirror(place)) == ({}, {})


def test_hosts_of_one_kind_are_asked_once() -> None:
    hosts = [
        ("one", "amd64", True, {"k3s_version": "v1", "ansible_host": "10.0.0.1", "skerry_zone": "a"}),
        ("like one", "amd64", True, {"k3s_version": "v1", "ansible_host": "10.0.0.2", "skerry_zone": "b"}),
        ("other variables", "amd64", True, {"k3s_version": "v2"}),
        ("other machine", "arm64", True, {"k3s_version": "v1"}),
        ("no node", "amd64", False, {"k3s_version": "v1"}),
    ]
    assert representatives(hosts) == ["one", "other variables", "other machine", "no node"]
