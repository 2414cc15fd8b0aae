"""Files of registry hosts and of hosts that use a registry."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.skerry.edge.plugins.module_utils import k3s_host
from ansible_collections.skerry.edge.plugins.module_utils import registry_files as files
from ansible_collections.skerry.edge.plugins.modules import registry_client as client

PARAMS = {"port": 5000, "data_dir": '/srv/a "b"', "key": "PRIVATE"}


def test_the_configuration_is_yaml_with_auth_and_tls() -> None:
    text = files.config(PARAMS)
    config = yaml.safe_load(text)
    assert config["storage"]["filesystem"]["rootdirectory"] == '/srv/a "b"'
    assert config["auth"]["htpasswd"]["path"] == files.USERS
    assert config["http"]["addr"] == ":5000"
    assert config["http"]["tls"]["minimumtls"] == "tls1.2"
    assert "PRIVATE" not in text
    assert yaml.safe_load(files.config(PARAMS, read_only=True))["storage"]["maintenance"]["readonly"]["enabled"] is True
    assert config["storage"]["maintenance"]["readonly"]["enabled"] is False


def test_a_port_below_1024_needs_a_capability() -> None:
    assert "CAP_NET_BIND_SERVICE" in files.drop_in(443)
    assert "CAP_NET_BIND_SERVICE" not in files.drop_in(5000)


def test_the_collection_always_ends_read_only() -> None:
    lines = files.gc_service(untagged=True).splitlines()
    after = [line for line in lines if line.startswith("ExecStopPost=")]
    assert after[0].endswith("/run/skerry/registry.env")
    assert after[1].endswith("restart docker-registry.service")
    assert any("garbage-collect --delete-untagged /etc/skerry" in line for line in lines)
    assert "--delete-untagged" not in files.gc_service(untagged=False)


def test_users_are_bcrypt_and_kept() -> None:
    wanted = [{"name": "skerry", "password": "secret"}, {"name": "ci", "password": "other"}]
    first = files.users(wanted, None)
    assert [line.split(":")[0] for line in first.splitlines()] == ["ci", "skerry"]
    assert all(line.split(":")[1].startswith("$2b$08$") for line in first.splitlines())
    assert "secret" not in first
    assert files.users(wanted, first) == first
    changed = files.users([{"name": "skerry", "password": "new"}], first)
    assert len(changed.splitlines()) == 1
    assert changed not in first


@pytest.mark.parametrize("user", [{"name": "a:b", "password": "x"}, {"name": "a", "password": ""},
                                  {"name": "a", "password": "x" * 73}])
def test_users_that_cannot_be(user: dict[str, str]) -> None:
    with pytest.raises(files.RegistryError, match="REGISTRY_011"):
        files.users([user], None)


# -- hosts that use one ------------------------------------------------------------------------------------------------


class Module:
    """What the client asks of AnsibleModule."""

    def __init__(self, check: bool, **params: Any) -> None:
        self.check_mode = check
        self.params = {
            "name": "registry-1", "address": "192.0.2.10:5000", "ca": "CA\n", "username": "skerry",
            "password": "secret", "serves": [], "docker_login": ["root"], "state": "present", **params,
        }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of a host, below a folder of the test; with a docker command."""
    for name, path in (("FOLDER", "registry"), ("K3S_FOLDER", "registries.d"), ("DOCKER_CERTS", "certs.d")):
        monkeypatch.setattr(client, name, str(tmp_path / path))
    monkeypatch.setattr(client, "NOTE", str(tmp_path / "registry" / "clients.json"))
    monkeypatch.setattr(client, "home_of", lambda _user: (str(tmp_path / "home"), 0, 0))
    monkeypatch.setattr(client.shutil, "which", lambda _name, path: "/usr/bin/docker")
    monkeypatch.setattr(client.os, "chown", lambda *_: None)
    monkeypatch.setattr(client.os, "fchown", lambda *_: None)
    return tmp_path


def run(check: bool = False, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = client.Client(Module(check, **params)).run()
    return result


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_k3s_and_docker_get_what_they_need(root: Path) -> None:
    assert run(check=True)["changed"]
    assert tree(root) == set()
    result = run(serves=["docker.io"])
    assert "secret" not in json.dumps(result["diff"])
    entry = json.loads((root / "registries.d/registry-1.json").read_text())
    tls = entry["configs"]["192.0.2.10:5000"]["tls"]["ca_file"]
    assert Path(tls).read_text() == "CA\n"
    assert entry["configs"]["192.0.2.10:5000"]["auth"] == {"username": "skerry", "password": "secret"}
    assert entry["mirrors"]["docker.io"] == {"endpoint": ["https://192.0.2.10:5000"]}
    assert (root / "certs.d/192.0.2.10:5000/ca.crt").read_text() == "CA\n"
    auths = json.loads((root / "home/.docker/config.json").read_text())["auths"]
    assert base64.b64decode(auths["192.0.2.10:5000"]["auth"]) == b"skerry:secret"
    for private in ("home/.docker/config.json", "registries.d/registry-1.json"):
        assert (root / private).stat().st_mode & 0o777 == 0o600
    assert not run(serves=["docker.io"])["changed"]


def test_a_registry_that_moves_leaves_nothing_behind(root: Path) -> None:
    (root / "home/.docker").mkdir(parents=True)
    (root / "home/.docker/config.json").write_text('{"auths": {"elsewhere": {"auth": "eA=="}}, "credsStore": "x"}')
    run()
    run(address="192.0.2.11:443")
    assert not (root / "certs.d/192.0.2.10:5000").exists()
    config = json.loads((root / "home/.docker/config.json").read_text())
    assert set(config["auths"]) == {"elsewhere", "192.0.2.11:443"}
    run(state="absent")
    assert json.loads((root / "home/.docker/config.json").read_text()) == {
        "auths": {"elsewhere": {"auth": "eA=="}}, "credsStore": "x",
    }  # fmt: skip
    assert tree(root) == {"home/.docker/config.json"}
    assert not (root / "registry").exists()
    assert not (root / "registries.d").exists()
    assert not run(state="absent")["changed"]


def test_without_docker_only_k3s_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.shutil, "which", lambda _name, path: None)
    run()
    assert tree(root) == {"registry/registry-1.crt", "registries.d/registry-1.json"}


def test_a_damaged_login_file_is_not_overwritten(root: Path) -> None:
    (root / "home/.docker").mkdir(parents=True)
    (root / "home/.docker/config.json").write_text("{broken")
    with pytest.raises(files.RegistryError, match="REGISTRY_020"):
        run()
    assert (root / "home/.docker/config.json").read_text() == "{broken"


def test_k3s_merges_the_sites_registries(tmp_path: Path) -> None:
    assert k3s_host.registries("# x\n", "", str(tmp_path)) is None
    own = json.dumps({"mirrors": {"docker.io": {"endpoint": ["https://mine"]}}})
    assert k3s_host.registries("# x\n", own, str(tmp_path)) == "# x\n" + own
    entry = {"configs": {"a:5000": {"tls": {"ca_file": "/x"}}}, "mirrors": {"docker.io": {"endpoint": ["https://a:5000"]},
                                                                             "ghcr.io": {"endpoint": ["https://a:5000"]}}}
    (tmp_path / "a.json").write_text(json.dumps(entry))
    merged = yaml.safe_load(k3s_host.registries("# x\n", own, str(tmp_path)))
    assert merged["configs"] == entry["configs"]
    assert merged["mirrors"]["docker.io"]["endpoint"] == ["https://mine"]
    assert merged["mirrors"]["ghcr.io"]["endpoint"] == ["https://a:5000"]
