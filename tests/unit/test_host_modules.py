"""The parts of our modules that need no host: configurations, formats, verdicts, the embedded probes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from skerry import paths

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils import (
    artifacts,
    containerd_drop_ins,
    containerd_shim,
    docker_daemon,
    wasm_runtimes,
)

WAT = r"""
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\0d\00\00\00")
  (data (i32.const 16) "skerry-probe\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 7))))
"""


def test_the_embedded_probe_is_what_its_comment_says() -> None:
    assert bytes(wasmtime.wat2wasm(WAT)) == wasm_runtimes.SPEAKING_MODULE


def test_the_probes_do_what_they_promise(tmp_path: Any) -> None:
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.stdout_file = str(tmp_path / "out")
    store.set_wasi(wasi)
    start = linker.instantiate(store, wasmtime.Module(engine, wasm_runtimes.SPEAKING_MODULE)).exports(store)["_start"]
    with pytest.raises(wasmtime.ExitTrap) as ended:
        start(store)
    assert ended.value.code == wasm_runtimes.EXIT_CODE
    assert (tmp_path / "out").read_text() == wasm_runtimes.OUTPUT
    trap = linker.instantiate(store, wasmtime.Module(engine, wasm_runtimes.TRAPPING_MODULE)).exports(store)["_start"]
    with pytest.raises(wasmtime.Trap):
        trap(store)


def test_a_runtime_that_loses_the_exit_code_is_proved_with_a_finding() -> None:
    truth = wasm_runtimes.judge("crun", (0, wasm_runtimes.OUTPUT, ""), (1, "", "trap"))
    assert truth["proved"] is True
    assert truth["exit_code_kept"] is False
    assert "proc_exit(7)" in truth["findings"][0]


@pytest.mark.parametrize(
    "speaking",
    [(1, "", "no such handler"), (7, "skerry", ""), (7, wasm_runtimes.OUTPUT * 2, ""), (3, wasm_runtimes.OUTPUT, "")],
)
def test_a_runtime_without_the_right_output_is_not_proved(speaking: tuple[int, str, str]) -> None:
    with pytest.raises(wasm_runtimes.ProbeError):
        wasm_runtimes.judge("x", speaking, (1, "", ""))


def test_a_swallowed_trap_is_a_finding() -> None:
    truth = wasm_runtimes.judge("x", (7, wasm_runtimes.OUTPUT, ""), (0, "", ""))
    assert truth["trap_told"] is False
    assert truth["findings"] == ["a trap ends with exit code 0"]


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"log-optz": {}}, "log-opts is"),
        ({"hosts": ["tcp://"]}, "passes -H"),
        ({"mtu": "1500"}, "whole number"),
        ({"mtu": True}, "whole number"),
        ({"log-opts": {"max-size": 10}}, "log-opts.max-size must be a string"),
        ({"runtimes": {"runc": {"path": "/x"}}}, "not be called runc"),
        ({"runtimes": {"crun": {"binary": "/x"}}}, "path or runtimeType"),
    ],
)
def test_wrong_daemon_json_is_told(config: dict[str, Any], word: str) -> None:
    assert any(word in text for text in docker_daemon.complaints(config)), docker_daemon.complaints(config)


def test_right_daemon_json_is_silent() -> None:
    config: dict[str, Any] = {
        "live-restore": True, "log-driver": "local", "default-address-pools": [{"base": "172.30.0.0/16"}], "mtu": 1400,
        "runtimes": {"crun": {"path": "/usr/bin/crun"}}, "features": {"containerd-snapshotter": True},
    }  # fmt: skip
    assert docker_daemon.complaints(config) == []


def test_only_what_dockerd_takes_up_is_reloaded() -> None:
    old = {"live-restore": True, "runtimes": {}, "mtu": 1500}
    assert docker_daemon.reload_is_enough(old, {**old, "runtimes": {"crun": {"path": "/usr/bin/crun"}}})
    assert not docker_daemon.reload_is_enough(old, {**old, "mtu": 1400})
    assert not docker_daemon.reload_is_enough(old, {"live-restore": True, "runtimes": {}})


_FIELDS = st.dictionaries(st.integers(1, 500), st.one_of(st.integers(0, 2**63), st.binary(max_size=300)), max_size=8)


@given(_FIELDS)
def test_messages_survive_the_wire(fields: dict[int, int | bytes]) -> None:
    assert containerd_shim.decode(containerd_shim.encode(fields)) == fields


@given(st.text(min_size=1))
def test_no_name_leaves_the_mirror(name: str) -> None:
    artifact = {"component": name, "version": "1", "arch": "amd64", "file": "f"}
    try:
        path = artifacts.relative_path(artifact)
    except artifacts.ArtifactError as error:
        assert error.code == "ARTIFACT_007"
        return
    assert path.split("/") == [name, "1", "amd64", "f"]
    assert name not in (".", "..")


def test_a_mirror_url_encodes_the_plus() -> None:
    artifact = {"component": "k3s", "version": "v1.36.5+k3s1", "arch": "arm64", "file": "k3s-arm64"}
    assert artifacts.mirror_url("http://m/x/", artifact) == "http://m/x/k3s/v1.36.5%2Bk3s1/arm64/k3s-arm64"


def test_checksum_files() -> None:
    digest = "a" * 64
    text = f"{'b' * 64}  k3s-arm64\n{digest}  k3s\n"
    assert artifacts.digest_from_list(text, "k3s", "url") == digest
    assert artifacts.digest_from_list(f"{digest} *./dist/k3s\n", "k3s", "url") == digest
    assert artifacts.digest_from_list(digest + "\n", "k3s", "url") == digest
    with pytest.raises(artifacts.ArtifactError, match="ARTIFACT_002"):
        artifacts.digest_from_list(text, "k3s-armhf", "url")


@pytest.mark.parametrize(
    ("controllers", "proc", "expected"),
    [
        ("cpuset cpu memory", "0::/x", True),
        ("cpu memory", "0::/x", False),
        (None, "3:cpuset:/x\n0::/x", True),
        (None, "3:cpu,cpuacct:/x\n0::/x", False),
    ],
)
def test_handlers_agree_with_k3s_on_the_owner_of_cgroups(
    tmp_path: Path, controllers: str | None, proc: str, expected: bool
) -> None:
    (tmp_path / "proc").write_text(proc)
    if controllers is not None:
        (tmp_path / "controllers").write_text(controllers)
    found = containerd_drop_ins.systemd_cgroup(str(tmp_path / "proc"), str(tmp_path / "controllers"))
    assert found is expected
