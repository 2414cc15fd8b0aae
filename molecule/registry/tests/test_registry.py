"""The registry as the role leaves it: images and wasm artifacts go and come over TLS with a login, and not without."""

from __future__ import annotations

import json
import ssl
import sys
import time

import pytest
from oci_client import MANIFEST, WASM_LAYER, Registry

from skerry import paths
from skerry.images import write_image

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import (
    OUTPUT,
    SPEAKING_MODULE,
)

FOLDER = paths.root() / ".skerry" / "molecule-registry"


def facts(host, section="registry"):
    return json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string).get(section, {})


def secret(host, name):
    return (FOLDER / host.backend.hostname / name).read_text()


@pytest.fixture
def registry(host):
    return Registry(facts(host)["address"], secret(host, "ca.crt"), ("skerry", secret(host, "password").strip()))


def test_it_runs_and_starts_with_the_host(host):
    service = host.service("docker-registry")
    assert service.is_running
    assert service.is_enabled
    assert host.service("skerry-registry-gc.timer").is_enabled


def test_nobody_without_a_login_and_no_other_authority(host, registry):
    stranger = Registry(registry.address, registry.ca)
    assert stranger.ask("GET", "/v2/").status == 401
    assert stranger.ask("POST", "/v2/stolen/blobs/uploads/").status == 401
    assert Registry(registry.address, registry.ca, ("skerry", "wrong")).ask("GET", "/v2/").status == 401
    assert Registry(registry.address, registry.ca, ("ci", "for-the-tests-only")).ask("GET", "/v2/").status == 200
    others = [name for name in ("cloud-1", "edge-1", "edge-2") if name != host.backend.hostname]
    other = (FOLDER / others[0] / "ca.crt").read_text()
    with pytest.raises(ssl.SSLCertVerificationError):
        Registry(registry.address, other).ask("GET", "/v2/")
    port = registry.address.rpartition(":")[2]
    assert "400" in host.check_output(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{port}/v2/ || true")


def test_a_wasm_artifact_comes_back_as_it_went(host, registry, support):
    digest = registry.push_wasm("skerry/probe", "1", SPEAKING_MODULE)
    manifest, layers = registry.pull("skerry/probe", "1")
    assert layers == [SPEAKING_MODULE]
    assert manifest["layers"][0]["mediaType"] == WASM_LAYER
    assert registry.pull("skerry/probe", digest)[0] == manifest
    support.ran(host, "registry", "a wasm artifact pushed and pulled, TLS and login")


def test_docker_pulls_a_pushed_image_and_runs_it(host, registry, support, tmp_path):
    docker = facts(host, "docker")
    if not docker:
        pytest.skip("no Docker on this host (role docker)")
    if not host.file(f"/etc/docker/certs.d/{registry.address}/ca.crt").exists:
        pytest.skip("Docker came after the registry: its next run wires it in")
    write_image(tmp_path / "i.tar", "docker.io/skerry/probe:1", {"/probe.wasm": SPEAKING_MODULE}, ["/probe.wasm"])
    registry.push_archive("skerry/hello", "1", tmp_path / "i.tar")
    image = f"{registry.address}/skerry/hello:1"
    host.run(f"docker rmi {image}")
    try:
        assert "Downloaded newer image" in host.check_output(f"docker pull {image}")
        if docker.get("wasm_runtime"):
            done = host.run(
                f"docker run --rm --network none --runtime {docker['wasm_runtime']} "
                f"--annotation module.wasm.image/variant=compat {image}"
            )
            assert done.stdout == OUTPUT, done.stderr
        support.ran(host, "registry", "Docker pulled an image from it")
    finally:
        host.run(f"docker rmi {image}")


def test_k3s_gets_an_entry_for_it(host, registry):
    file = host.file(f"/etc/skerry/registries.d/{host.backend.hostname}.json")
    assert file.mode == 0o600
    entry = json.loads(file.content_string)
    assert entry["mirrors"]["docker.io"]["endpoint"] == [f"https://{registry.address}"]
    assert host.file(entry["configs"][registry.address]["tls"]["ca_file"]).content_string == registry.ca


def test_secrets_are_private(host, registry):
    password = registry.login[1]
    for name in ("ca.key", "server.key", "password"):
        assert (FOLDER / host.backend.hostname / name).stat().st_mode & 0o777 == 0o600
    for path in ("htpasswd", "tls.key", "config.yml"):
        file = host.file(f"/etc/skerry/registry/{path}")
        assert (file.mode, file.user, file.group) == (0o640, "root", "docker-registry"), path
    assert host.file("/etc/skerry/registry/htpasswd").content_string.count("$2b$") == 2
    assert not host.file("/etc/skerry/registry/ca.key").exists
    assert password not in host.check_output("journalctl --no-pager -o cat; ps -eo args=")


def test_the_collection_removes_what_is_unused_and_keeps_the_rest(host, registry, support):
    kept = registry.push_wasm("skerry/kept", "1", SPEAKING_MODULE)
    junk = registry.push_blob("skerry/kept", b"nobody refers to this " * 100)
    old = registry.push_wasm("skerry/kept", "2", SPEAKING_MODULE + b"")
    assert old == kept
    assert host.run("systemctl start skerry-registry-gc.service").rc == 0
    deadline = time.monotonic() + 20
    while True:
        try:
            registry._connection = None
            gone = registry.ask("HEAD", f"/v2/skerry/kept/blobs/{junk}").status
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.3)
    assert gone == 404
    assert registry.pull("skerry/kept", "1")[1] == [SPEAKING_MODULE]
    assert registry.ask("GET", f"/v2/skerry/kept/manifests/{kept}", headers={"Accept": MANIFEST}).status == 200
    registry.push_wasm("skerry/after", "1", SPEAKING_MODULE)  # it takes uploads again
    support.ran(host, "registry", "garbage collection")
