"""`skerry image import` to this machine: its Docker, and a containerd of the test's own in the place of k3s's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
import wasm_modules
from debian_registry import PASSWORD, USER, running

from skerry import paths
from skerry.oci import transfer
from skerry.oci.build import Recipe, build
from skerry.oci.kinds import refer
from skerry.oci.layout import Layout
from skerry.oci.login import Access

REF = refer("skerry.invalid/skerry-test/import:1")
CONTAINERD = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/t.sock"
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "layout")
    module = tmp_path / "app.wasm"
    module.write_bytes(wasm_modules.exiting(0))
    build(made, module, REF, Recipe())
    return made


def skerry(
    layout: Layout, *words: str, inventory: str = "localhost ansible_connection=local", path: str = ""
) -> tuple[int, list[dict[str, Any]]]:
    hosts = layout.folder.parent / "hosts.ini"
    hosts.write_text(inventory + "\n")
    command = [sys.executable, "-m", "skerry", "image", "import", REF.text, "-i", str(hosts), "--json", "--layout",
               str(layout.folder), *words]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(paths.root() / "tools")}
    environment["PATH"] = path + environment["PATH"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def states(answers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["engine"], one["state"]) for one in answers]


@pytest.fixture
def docker() -> Iterator[None]:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no Docker on this machine")
    yield
    subprocess.run(["docker", "image", "rm", REF.text], capture_output=True, check=False)


def test_docker_has_it_once(layout: Layout, docker: None) -> None:
    code, first = skerry(layout, "--into", "docker")
    assert (code, states(first)) == (0, [("docker", "loaded")]), first
    assert first[0]["sent"] > 0
    code, again = skerry(layout, "--into", "docker")
    assert (code, states(again), again[0]["sent"]) == (0, [("docker", "present")], 0)
    said = subprocess.run(["docker", "image", "inspect", "--format", "{{json .Config.Entrypoint}}", REF.text],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert json.loads(said.stdout) == ["/app.wasm"]


@pytest.fixture
def k3s(tmp_path: Path) -> Iterator[Path]:
    """A folder with a command k3s whose ctr speaks to a containerd of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("containerd runs as root")
    if not shutil.which("containerd") or not shutil.which("ctr"):
        pytest.skip("no containerd on this machine")
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"skerry-containerd-{os.getpid()}"
    folder.mkdir()
    (folder / "config.toml").write_text(CONTAINERD.format(folder=folder))
    wrapper = tmp_path / "bin" / "k3s"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nshift\nexec ctr -a {folder}/c.sock "$@"\n')
    wrapper.chmod(0o755)
    try:
        with programs.running(["containerd", "-c", str(folder / "config.toml")], folder / "log") as process:
            end = time.monotonic() + 30
            while subprocess.run([str(wrapper), "ctr", "version"], capture_output=True, check=False).returncode != 0:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
                time.sleep(0.2)
            yield wrapper
    finally:
        shutil.rmtree(folder)


def test_containerd_has_it_once_and_under_its_name(layout: Layout, k3s: Path) -> None:
    path = f"{k3s.parent}:"
    code, first = skerry(layout, "--into", "containerd", path=path)
    assert (code, states(first)) == (0, [("containerd", "loaded")]), first
    code, again = skerry(layout, "--into", "containerd", path=path)
    assert (code, states(again)) == (0, [("containerd", "present")]), again
    listed = subprocess.run([str(k3s), "ctr", "-n", "k8s.io", "images", "ls", "-q"], capture_output=True, text=True,
                            check=True)  # fmt: skip
    assert listed.stdout.split() == [REF.text]


def test_containerd_pulls_what_was_pushed(k3s: Path, layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with running(folder) as registry:
        name = refer(f"{registry.host}/team/app:1")
        transfer.push(layout, REF, name, Access((USER, PASSWORD), registry.authority))
        hosts = tmp_path / "hosts" / registry.host / "hosts.toml"  # else containerd asks this machine without TLS
        hosts.parent.mkdir(parents=True)
        hosts.write_text(f'[host."https://{registry.host}"]\n  ca = "{registry.authority}"\n')
        command = [str(k3s), "ctr", "-n", "k8s.io", "images", "pull", "--hosts-dir", str(tmp_path / "hosts"), "--user",
                   f"{USER}:{PASSWORD}", name.text]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr
    said = subprocess.run([str(k3s), "ctr", "-n", "k8s.io", "images", "ls"], capture_output=True, text=True, check=True)
    (line,) = [line.split() for line in said.stdout.splitlines() if line.startswith(name.text)]
    assert line[2] == layout.content(REF).digest


def test_an_engine_that_does_not_answer_fails_alone(layout: Layout, docker: None, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "k3s"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho cannot dial >&2\nexit 1\n")
    broken.chmod(0o755)
    code, answers = skerry(layout, path=f"{broken.parent}:")
    assert (code, states(answers)) == (1, [("containerd", "failed"), ("docker", "loaded")])
    assert answers[0]["error"]["code"] == "IMAGE_034"
    assert "cannot dial" in answers[0]["error"]["cause"]


def test_a_host_out_of_reach_does_not_hold_up_the_others(layout: Layout, docker: None) -> None:
    inventory = "localhost ansible_connection=local\ngone ansible_host=127.0.0.1 ansible_port=9"
    code, answers = skerry(layout, "--into", "docker", inventory=inventory)
    assert code == 4
    assert states(answers[:1]) == [("docker", "loaded")]
    assert (answers[1]["host"], answers[1]["error"]["code"]) == ("gone", "TARGET_003")


def test_a_host_that_hangs_is_given_up(layout: Layout, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs" / "k3s"
    hangs.parent.mkdir()
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    begun = time.monotonic()
    code, answers = skerry(layout, "--into", "containerd", "--host-timeout", "3", path=f"{hangs.parent}:")
    assert (code, answers[0]["error"]["code"]) == (4, "IMAGE_035")
    assert time.monotonic() - begun < 30


def test_an_artifact_is_not_for_engines(layout: Layout, tmp_path: Path) -> None:
    build(layout, tmp_path / "app.wasm", REF, Recipe("artifact"))
    assert skerry(layout) == (2, [])
