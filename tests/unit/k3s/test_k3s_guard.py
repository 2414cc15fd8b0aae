"""Encryption of Secrets and the audit log: on new clusters by themselves, on one that exists never in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.skerry.edge.plugins.module_utils import k3s_guard as guard
from ansible_collections.skerry.edge.plugins.module_utils import k3s_host as host
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError, check_keys, to_yaml

from skerry import paths


@pytest.fixture(autouse=True)
def _made_up_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for holder in (host, guard):
        for name, value in list(vars(holder).items()):
            if isinstance(value, str) and name.isupper() and value.startswith(("/etc/", "/var/")):
                monkeypatch.setattr(holder, name, str(tmp_path) + value)


def exists(encrypted: bool) -> None:
    """Make the host a server with data."""
    data = Path(host.DATA_DIR) / "server" / "db" / "state.db"
    data.parent.mkdir(parents=True)
    data.touch()
    host.write_text(host.CONFIG, to_yaml({"secrets-encryption": True} if encrypted else {"node-name": "a"}), 0o600)


def keys(**given: Any) -> dict[str, Any]:
    params = {"role": "server", "extra": {}, "secrets_encryption": "auto", "join": "", "join_encrypted": False,
              "audit_policy": "", **given}
    found: dict[str, Any] = guard.server_config(params)
    return found


@pytest.mark.parametrize(("wanted", "found"), [("auto", True), ("true", True), ("false", None)])
def test_a_new_cluster_encrypts_unless_told_otherwise(wanted: str, found: bool | None) -> None:
    assert keys(secrets_encryption=wanted)["secrets-encryption"] is found


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_cluster_that_exists_stays_as_it_is(encrypted: bool) -> None:
    exists(encrypted)
    assert bool(keys()["secrets-encryption"]) is encrypted
    assert bool(keys(secrets_encryption=str(encrypted).lower())["secrets-encryption"]) is encrypted


@pytest.mark.parametrize("encrypted", [True, False])
def test_turning_it_round_on_a_cluster_that_exists_is_refused(encrypted: bool) -> None:
    exists(encrypted)
    with pytest.raises(K3sError, match="K3S_120") as error:
        keys(secrets_encryption=str(not encrypted).lower())
    assert "k3s secrets-encrypt" in error.value.remedy


def test_the_keys_that_k3s_wrote_count_when_the_configuration_is_gone() -> None:
    exists(False)
    provider = {"resources": [{"providers": [{"identity": {}}, {"aescbc": {"keys": []}}]}]}
    host.write_text(guard.ENCRYPTION, json.dumps(provider), 0o600)
    assert keys()["secrets-encryption"] is True


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_server_that_joins_does_as_its_cluster_does(encrypted: bool) -> None:
    joining = {"join": "https://192.0.2.1:6443", "join_encrypted": encrypted}
    assert bool(keys(**joining)["secrets-encryption"]) is encrypted
    with pytest.raises(K3sError, match="K3S_120"):
        keys(secrets_encryption=str(not encrypted).lower(), **joining)


def test_agents_have_nothing_of_it() -> None:
    assert keys(role="agent", join="https://192.0.2.1:6443", audit_policy="x") == {}


def test_the_key_is_set_by_the_variable_alone() -> None:
    with pytest.raises(K3sError, match="k3s_secrets_encryption"):
        check_keys("server", {"secrets-encryption": True})


def test_arguments_of_a_person_come_along_and_win() -> None:
    given = {"kube-apiserver-arg": ["audit-log-maxsize=50", "v=2"]}
    found = keys(audit_policy="rules", extra=given)["kube-apiserver-arg"]
    assert f"audit-policy-file={guard.AUDIT_POLICY}" in found
    assert [argument for argument in found if argument.startswith("audit-log-maxsize")] == ["audit-log-maxsize=50"]
    assert "v=2" in found
    own = {"kube-apiserver-arg": ["audit-policy-file=/etc/own.yaml"]}
    assert keys(audit_policy="rules", extra=own)["kube-apiserver-arg"] == ["audit-policy-file=/etc/own.yaml"]


def test_without_a_policy_there_is_no_log() -> None:
    assert keys()["kube-apiserver-arg"] == []


def test_the_policy_never_logs_what_secrets_hold() -> None:
    policy = yaml.safe_load((paths.root() / "roles/k3s/files/audit-policy.yaml").read_text())
    for rule in policy["rules"]:
        if rule["level"] in ("Request", "RequestResponse"):
            groups = {(item.get("group"), name) for item in rule["resources"] for name in item.get("resources", ["*"])}
            assert not groups & {("", "secrets"), ("", "*"), ("", "configmaps"), ("", "serviceaccounts/token")}
