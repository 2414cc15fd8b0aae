"""The runtimes as the role leaves them: what the fact file calls proved runs a module here and now."""

from __future__ import annotations

import base64
import json
import sys

import pytest

from skerry import paths

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import (  # type: ignore[import-not-found]
    EXIT_CODE,
    OUTPUT,
    SPEAKING_MODULE,
)


@pytest.fixture
def section(host):
    return json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)["wasm_runtime"]


@pytest.fixture
def module(host):
    text = base64.b64encode(SPEAKING_MODULE).decode()
    path = host.check_output(f"f=$(mktemp --suffix=.wasm) && echo {text} | base64 -d > $f && echo $f")
    yield path
    host.run(f"rm -f {path}")


def release(host):
    return int(host.system_info.release.split(".")[0])


@pytest.mark.parametrize("name", ["wasmedge", "wasmtime"])
def test_what_is_called_proved_runs(host, support, section, module, name):
    entry = section["runtimes"][name]
    if not entry["proved"]:
        assert entry["error"], "an unproved runtime must come with its reason"
        pytest.skip(f"{name} is not on this host: {entry['error']}")
    run = "run " if name == "wasmtime" else ""
    done = host.run(f"{entry['command']} {run}{module}")
    assert done.stdout == OUTPUT
    assert done.rc == EXIT_CODE
    assert entry["version"] in host.check_output(f"{entry['command']} --version")
    support.ran(host, name, f"{entry['version']} ran a module ({', '.join(entry['modes'])})")


def test_debian_13_has_crun_with_wasmedge(host, support, section):
    if release(host) < 13:
        pytest.skip(f"Debian {release(host)}'s crun has no wasm handler")
    crun = section["runtimes"]["crun"]
    assert crun["proved"] is True
    assert crun["engine"] == "wasmedge"
    assert crun["engine_version"] == section["runtimes"]["wasmedge"]["version"]
    assert section["handlers"] == {"crun-wasm": {"runtime": "crun", "engine": "wasmedge"}}
    drop_in = host.file("/etc/skerry/containerd/crun-wasm.toml")
    assert drop_in.content_string.startswith("# Written by Skerry")
    assert 'BinaryName = "/usr/bin/crun"' in drop_in.content_string
    support.ran(host, "crun", f"WasmEdge in crun {crun['version']} ran a module")


def test_debian_12_says_why_it_has_none(host, section):
    if release(host) != 12:
        pytest.skip("Debian 12 only")
    assert section["handlers"] == {}
    assert not host.file("/etc/skerry/containerd/crun-wasm.toml").exists
    assert "no package" in section["runtimes"]["crun"]["error"]


def test_the_probe_left_nothing_behind(host):
    assert host.check_output("find /var/lib /tmp /run -maxdepth 1 -name 'skerry-probe*'") == ""
