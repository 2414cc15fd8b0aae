"""Which kubeconfig belongs to an inventory, and what it says."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry import paths
from skerry.errors import SkerryError
from skerry.status import kubeconfig
from skerry.targets.api import Target


def host(name: str, group: str = "skerry_servers", **variables: Any) -> Target:
    return Target(name, variables, (group,))


def test_the_roles_default_place() -> None:
    assert kubeconfig.of_inventory([host("a"), host("b", "skerry_agents")]) == {
        "skerry": paths.state() / "kube" / "skerry.yaml"
    }


def test_templates_that_name_a_variable_are_followed(tmp_path: Path) -> None:
    target = host(
        "a",
        k3s_cluster_name="{{ sandbox_name }}-1",
        sandbox_name="{{ other }}",
        other="lab",
        k3s_kubeconfig_dir=str(tmp_path),
    )
    assert kubeconfig.of_inventory([target]) == {"lab-1": tmp_path / "lab-1.yaml"}


def test_templates_that_compute_are_left_to_ansible() -> None:
    target = host("a", k3s_kubeconfig_dir="{{ (role_path | realpath) ~ '/x' }}")
    assert kubeconfig.of_inventory([target])["skerry"].parent == paths.state() / "kube"


def test_a_host_without_k3s_has_no_cluster() -> None:
    assert kubeconfig.choose([Target("a")], None, None) is None


def test_one_of_several_clusters_must_be_named(tmp_path: Path) -> None:
    targets = [host("a", k3s_cluster_name="north"), host("b", k3s_cluster_name="south")]
    with pytest.raises(SkerryError, match=r"STATUS_001 .*north, south"):
        kubeconfig.choose(targets, None, None)
    with pytest.raises(SkerryError, match="STATUS_002"):
        kubeconfig.choose(targets, None, "west")
    chosen = kubeconfig.choose(targets, None, "south")
    assert chosen is not None
    assert chosen[1].name == "south.yaml"
    assert kubeconfig.choose(targets, tmp_path / "own.yaml", None) == ("north", tmp_path / "own.yaml")


def write(path: Path, user: dict[str, Any], **cluster: Any) -> Path:
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_values_may_stand_in_the_file_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("CA")
    file = write(
        tmp_path / "k.yaml",
        {
            "client-certificate-data": base64.b64encode(b"CERT").decode(),
            "client-key-data": base64.b64encode(b"KEY").decode(),
        },
        **{"certificate-authority": "ca.pem"},
    )
    access = kubeconfig.read(file)
    assert (access.ca, access.certificate, access.key, access.host, access.port) == (
        "CA",
        b"CERT",
        b"KEY",
        "10.0.0.1",
        6443,
    )


def test_a_token_will_do(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert kubeconfig.read(write(tmp_path / "k.yaml", {"tokenFile": "token"})).token == "secret"


@pytest.mark.parametrize("text", ["", "[]", "current-context: x\ncontexts: []\n", "a: [", "\0"])
def test_what_is_no_kubeconfig_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "k.yaml"
    file.write_text(text)
    with pytest.raises(SkerryError, match="STATUS_003"):
        kubeconfig.read(file)


def test_certificates_that_are_none_are_said(tmp_path: Path) -> None:
    access = kubeconfig.read(
        write(tmp_path / "k.yaml", {"token": "t"}, **{"certificate-authority-data": base64.b64encode(b"no").decode()})
    )
    with pytest.raises(SkerryError, match="STATUS_003"):
        access.context()
