"""`skerry mirror` as people run it: the real command, the roles' real lists, a real server in upstream's place."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry import paths

from .conftest import Site, Task, sha256

K3S = "k3s/v1.36.5+k3s1/amd64/k3s"
WASMTIME = "wasmtime/48.0.8/amd64/wasmtime-v48.0.8-x86_64-linux.tar.xz"
BINARY = b"\x7fELF k3s" + os.urandom(300_000)
ARCHIVE = b"wasmtime's archive" + os.urandom(5_000)


def mirror(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `skerry mirror ...`."""
    environment = {**os.environ, "PYTHONPATH": str(paths.root() / "tools"), "NO_COLOR": "1"}
    return subprocess.run([sys.executable, "-m", "skerry", "mirror", *map(str, arguments)], env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def upstream(site: Site) -> Site:
    """A server with the layout of upstream's releases."""
    base = "k3s-io/k3s/releases/download/v1.36.5+k3s1"
    site.put(f"{base}/k3s", BINARY)
    sums = f"{sha256(BINARY)}  k3s\n{'0' * 64}  k3s-airgap-images-amd64.tar\n"
    site.put(f"{base}/sha256sum-amd64.txt", sums.encode())
    site.put(f"{base}/k3s-images.txt", b"")
    site.put("bytecodealliance/wasmtime/releases/download/v48.0.8/wasmtime-v48.0.8-x86_64-linux.tar.xz", ARCHIVE)
    return site


@pytest.fixture
def inventory(tmp_path: Path, upstream: Site) -> Path:
    """Three hosts, one of them without k3s; upstream is the server on loopback."""
    hosts: dict[str, Any] = {"all": {
        "children": {
            "skerry_servers": {"hosts": {"one": None}},
            "skerry_agents": {"hosts": {"two": None}},
            "plain": {"hosts": {"three": None}},
        },
        "vars": {
            "skerry_arch": "amd64",
            "k3s_download_url": f"{upstream.url}/k3s-io/k3s/releases/download",
            "wasm_runtime_download_url": upstream.url,
            # Charts and images have their own tests: test_declared_images.py, test_images.py.
            **{f"{role}_state": "unmanaged" for role in ("redpanda", "nfs_provisioner", "prometheus")},
        },
    }}  # fmt: skip
    path = tmp_path / "inventory.yml"
    path.write_text(yaml.safe_dump(hosts))
    return path


def test_a_mirror_is_filled_from_what_the_roles_want(
    tmp_path: Path, inventory: Path, upstream: Site, task: Task
) -> None:
    place = tmp_path / "mirror"
    first = mirror("build", "-i", inventory, "-d", place, "--json")
    assert first.returncode == 0, first.stderr
    states = {item["path"]: item for item in lines(first)}
    assert states[K3S]["state"] == "downloaded"
    assert states[K3S]["sha256"] == sha256(BINARY)
    assert states[K3S]["size"] == len(BINARY)
    assert "locked as it was downloaded" in states[WASMTIME]["detail"]
    # Optional and not to be had: said, and no failure.
    assert [item["state"] for path, item in states.items() if path.startswith("wasmedge/")] == ["missing"]
    assert (place / K3S).read_bytes() == BINARY
    lock = json.loads((place / "mirror.lock.json").read_text())
    files = [item["file"] for item in lock["artifacts"]]
    assert files == ["k3s", "k3s-images.txt", "wasmtime-v48.0.8-x86_64-linux.tar.xz"]
    assert not (place / ".partial").exists()

    upstream.requests.clear()
    again = mirror("build", "-i", inventory, "-d", place)
    assert again.returncode == 0
    assert "present" in again.stdout
    assert not any(path.endswith("/k3s") for path, _ in upstream.requests)  # what is there is not fetched again

    # A role can use what the command made.
    placed = task("artifact", {"mirror": str(place), "record": str(tmp_path / "record"), "artifacts": [{
        "component": "k3s", "version": "v1.36.5+k3s1", "arch": "amd64", "file": "k3s", "dest": str(tmp_path / "k3s"),
    }]})  # fmt: skip
    assert placed["changed"] is True


def test_a_broken_download_is_taken_up_by_the_next_build(tmp_path: Path, inventory: Path, upstream: Site) -> None:
    place = tmp_path / "mirror"
    url = "/k3s-io/k3s/releases/download/v1.36.5%2Bk3s1/k3s"
    upstream.cut[url] = 100_000
    done = mirror("build", "-i", inventory, "-d", place, "--json")
    assert done.returncode == 0, done.stderr
    assert (url, "bytes=100000-") in upstream.requests
    assert (place / K3S).read_bytes() == BINARY


def test_a_wrong_checksum_puts_nothing_into_the_mirror(tmp_path: Path, inventory: Path, upstream: Site) -> None:
    place = tmp_path / "mirror"
    upstream.put("k3s-io/k3s/releases/download/v1.36.5+k3s1/k3s", b"altered on the way")
    done = mirror("build", "-i", inventory, "-d", place, "--json")
    assert done.returncode == 1
    failed = next(item for item in lines(done) if item["path"] == K3S)
    assert failed["state"] == "failed"
    assert "MIRROR_010" in failed["detail"]
    assert not (place / K3S).exists()
    assert (place / WASMTIME).read_bytes() == ARCHIVE  # the others were fetched nevertheless
    upstream.put("k3s-io/k3s/releases/download/v1.36.5+k3s1/k3s", BINARY)
    assert mirror("build", "-i", inventory, "-d", place).returncode == 0


def test_a_locked_file_that_upstream_changed_is_refused(tmp_path: Path, inventory: Path, upstream: Site) -> None:
    place = tmp_path / "mirror"
    mirror("build", "-i", inventory, "-d", place)
    (place / WASMTIME).unlink()
    upstream.put("bytecodealliance/wasmtime/releases/download/v48.0.8/wasmtime-v48.0.8-x86_64-linux.tar.xz", b"other")
    done = mirror("build", "-i", inventory, "-d", place, "--json")
    assert done.returncode == 1
    assert "MIRROR_010" in next(item["detail"] for item in lines(done) if item["path"] == WASMTIME)


def test_an_own_file_is_kept(tmp_path: Path, inventory: Path) -> None:
    place, own = tmp_path / "mirror", tmp_path / "own"
    own.write_bytes(b"my own k3s")
    added = mirror("add", own, "--as", "k3s", "--version", "v1.36.5+k3s1", "--arch", "amd64", "-d", place, "--json")
    assert lines(added)[0]["sha256"] == sha256(b"my own k3s")
    done = mirror("build", "-i", inventory, "-d", place, "--json")
    assert next(item["detail"] for item in lines(done) if item["path"] == K3S) == "your own file"
    assert (place / K3S).read_bytes() == b"my own k3s"


def test_verify_tells_what_is_wrong(tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    for name in ("good", "short", "altered", "gone"):
        (tmp_path / name).write_bytes(name.encode() * 100)
        mirror("add", tmp_path / name, "--as", "tool", "--version", "1", "--arch", "arm64", "--file", name, "-d", place)
    assert mirror("verify", place).returncode == 0
    folder = place / "tool/1/arm64"
    (folder / "short").write_bytes(b"s")
    (folder / "altered").write_bytes(b"altereX" * 100)
    (folder / "gone").unlink()
    (folder / "stray").write_bytes(b"x")
    done = mirror("verify", place, "--json")
    assert done.returncode == 1
    states = {Path(item["path"]).name: item["state"] for item in lines(done)}
    assert states == {"good": "ok", "short": "size", "altered": "checksum", "gone": "missing", "stray": "unknown"}
    assert "remedy" in mirror("verify", place).stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", "{file}", "--as", "a/b", "--version", "1", "--arch", "amd64"], "MIRROR_003"),
        (["add", "{file}", "--as", "a", "--version", "1", "--arch", "x86_64"], "MIRROR_003"),
        (["add", "{file}", "--as", "a", "--version", "..", "--arch", "amd64"], "MIRROR_003"),
        (["add", "{tmp}/nothing", "--as", "a", "--version", "1", "--arch", "amd64"], "MIRROR_004"),
        (["verify", "{tmp}"], "MIRROR_005"),
        (["build", "-i", "{hosts}"], "MIRROR_006"),
        (["build", "-i", "{hosts}", "--arch", "sparc"], "MIRROR_003"),
        (["build", "-i", "{tmp}/nothing"], "MIRROR_007"),
    ],
)
def test_bad_input_has_a_code_and_a_remedy(tmp_path: Path, arguments: list[str], code: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "hosts.yml").write_text("all: {hosts: {one: {}}}\n")
    words = {"file": tmp_path / "file", "tmp": tmp_path, "hosts": tmp_path / "hosts.yml"}
    where = [] if arguments[0] == "verify" else ["-d", str(tmp_path / "m")]
    done = mirror(*(word.format(**words) for word in arguments), *where)
    assert done.returncode == 2
    assert code in done.stderr
    assert "remedy:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_lock_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "mirror.lock.json").write_text('{"format": 1, "artifacts": [{"component": "k3s"}]}')
    done = mirror("verify", tmp_path)
    assert done.returncode == 2
    assert "MIRROR_001" in done.stderr


def test_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    place.mkdir()
    names = [f"file{number}" for number in range(6)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    # All of them wait for the guard, which this test holds; then they go one after the other.
    with (place / ".mirror.guard").open("w") as guard, ThreadPoolExecutor(len(names)) as pool:
        fcntl.flock(guard, fcntl.LOCK_EX)
        waiting = [
            pool.submit(mirror, "add", tmp_path / name, "--as", "t", "--version", "1", "--arch", "arm", "--file", name,
                        "-d", place)
            for name in names
        ]  # fmt: skip
        threading.Timer(2, fcntl.flock, (guard, fcntl.LOCK_UN)).start()
        assert all(job.result().returncode == 0 for job in waiting)
    lock = json.loads((place / "mirror.lock.json").read_text())
    assert [item["file"] for item in lock["artifacts"]] == names
    assert mirror("verify", place).returncode == 0
