"""Docker as the role leaves it: running, configured, and running wasm where the host has a runtime for it."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from skerry import paths
from skerry.images.archive import write_image
from skerry.images.pause import pause_image

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import (  # type: ignore[import-not-found]
    OUTPUT,
    SPEAKING_MODULE,
)


def facts(host):
    return json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)


def load(host, archive: Path):
    text = base64.b64encode(archive.read_bytes()).decode()
    done = host.run(f"echo {text} | base64 -d | docker load")
    assert done.rc == 0, done.stderr


def test_docker_runs_and_starts_with_the_host(host):
    service = host.service("docker")
    assert service.is_running
    assert service.is_enabled


def test_daemon_json_has_what_the_variables_say(host):
    config = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert config["log-opts"] == {"max-size": "10m", "max-file": "3"}
    assert config["max-concurrent-downloads"] == 2
    assert config["default-address-pools"] == [{"base": "172.30.0.0/16", "size": 24}]
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "json-file"


def test_the_user_may_speak_to_docker(host):
    assert "docker" in host.user("skerry").groups


def test_the_fact_file_says_what_runs(host):
    section = facts(host)["docker"]
    assert section["version"] == host.check_output("docker version --format '{{.Server.Version}}'")
    assert "runc" in section["runtimes"]
    release = host.system_info.release.split(".")[0]
    if release == "12":
        assert section["wasm_runtime"] is None
        assert section["wasm_annotation"] == {}
    else:
        assert section["wasm_runtime"] == "crun"
        assert section["wasm_annotation"] == {"module.wasm.image/variant": "compat"}


def test_a_native_container_runs(host, support):
    load(host, pause_image())
    name = host.check_output("docker run -d rancher/mirrored-pause:3.6")
    try:
        assert host.check_output(f"docker inspect -f '{{{{.State.Running}}}}' {name}") == "true"
    finally:
        host.run(f"docker rm -f {name}")
    support.ran(host, "docker", "a native container ran")


def test_a_wasm_container_runs(host, support, tmp_path):
    section = facts(host)["docker"]
    if not section["wasm_runtime"]:
        pytest.skip(f"no wasm runtime for Docker here: {facts(host)['wasm_runtime']['runtimes']['crun']['error']}")
    archive = tmp_path / "probe.tar"
    write_image(archive, "skerry/probe:1", {"/probe.wasm": SPEAKING_MODULE}, ["/probe.wasm"])
    load(host, archive)
    try:
        done = host.run(
            f"docker run --rm --network none --runtime {section['wasm_runtime']} "
            "--annotation module.wasm.image/variant=compat skerry/probe:1"
        )
    finally:
        host.run("docker rmi skerry/probe:1")
    assert done.stdout == OUTPUT, done.stderr
    support.ran(host, "crun", "a wasm container ran under Docker")


def test_the_shim_probe_speaks_to_a_real_shim(host, support):
    """Wasm shims are not to be had here; the same code runs wasm through runc's shim with crun below it."""
    if not facts(host)["docker"]["wasm_runtime"]:
        pytest.skip("no runtime with a wasm handler on this host")
    folder = host.check_output("mktemp -d -p /var/lib skerry-shim-XXXXXX")
    try:
        package = folder + "/" + "ansible_collections/skerry/edge/plugins/module_utils"
        host.check_output(f"mkdir -p {package} && chmod 711 {folder}")
        for name in ("wasm_runtimes.py", "containerd_shim.py"):
            source = paths.root() / "collections/ansible_collections/skerry/edge/plugins/module_utils" / name
            text = base64.b64encode(source.read_bytes()).decode()
            host.check_output(f"echo {text} | base64 -d > {package}/{name}")
        script = (
            f"import sys; sys.path.insert(0, '{folder}')\n"
            "from ansible_collections.skerry.edge.plugins.module_utils import wasm_runtimes as w\n"
            "from ansible_collections.skerry.edge.plugins.module_utils import containerd_shim as c\n"
            f"p = w.Prober('{folder}', 30)\n"
            "o = c.encode({1: 'containerd.runc.v1.Options', 2: c.encode({6: '/usr/bin/crun'})})\n"
            "print(p.shim_run('/usr/bin/containerd-shim-runc-v2', 'speak', p.speaking, o)[:2])\n"
            "print(p.shim_run('/usr/bin/containerd-shim-runc-v2', 'trap', p.trapping, o)[0] != 0)\n"
        )
        text = base64.b64encode(script.encode()).decode()
        assert host.check_output(f"echo {text} | base64 -d | python3 -") == f"(0, {OUTPUT!r})\nTrue"
        assert host.run("pgrep -f '[s]him.*skerry-probe'").rc == 1
    finally:
        host.run(f"rm -rf {folder}")
