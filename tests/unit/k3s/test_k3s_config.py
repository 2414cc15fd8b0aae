"""What k3s accepts: keys, versions, names, labels, taints, tokens; and the YAML that the role writes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.skerry.edge.plugins.module_utils import k3s_config as config
from hypothesis import given
from hypothesis import strategies as some


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(config.K3sError) as caught:
        call(*arguments)
    assert " | remedy: " in str(caught.value)
    return str(caught.value.code)


def test_known_keys_pass_for_their_role() -> None:
    config.check_keys("server", {"etcd-s3": True, "kubelet-arg+": [], "tls-san-security": True})
    config.check_keys("agent", {"snapshotter": "native", "disable-apiserver-lb": True})


@pytest.mark.parametrize(
    ("role", "key", "code"),
    [
        ("server", "tls-sna", "K3S_001"),
        ("agent", "snapshoter", "K3S_001"),
        ("agent", "disable", "K3S_002"),
        ("agent", "write-kubeconfig-mode", "K3S_002"),
        ("server", "disable-apiserver-lb", "K3S_001"),
        ("server", "token", "K3S_003"),
        ("agent", "node-ip", "K3S_003"),
    ],
)
def test_other_keys_are_refused(role: str, key: str, code: str) -> None:
    assert code_of(config.check_keys, role, {key: "x"}) == code


def test_a_misspelt_key_names_the_right_one() -> None:
    with pytest.raises(config.K3sError, match=r"tls-sna \(did you mean tls-san\?\)"):
        config.check_keys("server", {"tls-sna": []})


def test_every_key_has_one_meaning() -> None:
    assert not config.COMMON_KEYS & config.SERVER_ONLY_KEYS
    assert not config.COMMON_KEYS & config.AGENT_ONLY_KEYS


@pytest.mark.parametrize(("version", "minor"), [("v1.36.5+k3s1", 36), ("v1.35.0+k3s3", 35), ("v1.37.1-rc2+k3s1", 37)])
def test_versions(version: str, minor: int) -> None:
    assert config.minor_of(version) == minor


@pytest.mark.parametrize("version", ["1.36.5", "v1.36.5", "stable", "v1.30.9+k3s1", ""])
def test_other_versions_are_refused(version: str) -> None:
    assert code_of(config.minor_of, version) == "K3S_004"


@pytest.mark.parametrize("name", ["edge-1", "a.b", "192.0.2.1", "x" * 63])
def test_names(name: str) -> None:
    config.check_name(name)


@pytest.mark.parametrize("name", ["Edge", "a_b", "-a", "", "a..b", "x" * 254])
def test_other_names_are_refused(name: str) -> None:
    assert code_of(config.check_name, name) == "K3S_013"


@pytest.mark.parametrize(
    "label", [("a b", "x"), ("a/b/c", "x"), ("x", "é"), ("x", "-a"), ("UP/x", "x"), ("x", "a" * 64)]
)
def test_bad_labels_are_refused(label: tuple[str, str]) -> None:
    assert code_of(config.check_labels, dict([label])) == "K3S_014"


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("skerry.dev/host-type", True),
        ("topology.kubernetes.io/zone", True),
        ("node.kubernetes.io/anything", True),
        ("node-role.kubernetes.io/worker", False),
        ("example.k8s.io/x", False),
        ("plain", True),
        ("notkubernetes.io/x", True),
    ],
)
def test_labels_that_stop_a_kubelet_stay_out_of_its_configuration(key: str, may: bool) -> None:
    assert config.kubelet_may_set(key) is may


def test_taints() -> None:
    assert config.parse_taint("a/b=c:NoExecute") == {"key": "a/b", "value": "c", "effect": "NoExecute"}
    assert config.parse_taint("a:NoSchedule") == {"key": "a", "effect": "NoSchedule"}
    assert code_of(config.parse_taint, "a=b") == "K3S_015"


def test_tokens() -> None:
    secure = config.secure_token("ab" * 32, "node", "p" * 32)
    assert config.password_of(secure) == "p" * 32
    assert config.password_of("p" * 32 + "\n") == "p" * 32
    config.check_token("k3s_token", "")
    config.check_token("k3s_token", secure)
    for bad in ("short", "K10zz::node:" + "p" * 32, "with blank " * 3):
        assert code_of(config.check_token, "k3s_token", bad) == "K3S_009"
        with pytest.raises(config.K3sError) as caught:
            config.check_token("k3s_token", bad)
        assert bad not in str(caught.value)


values = some.one_of(some.text(), some.booleans(), some.integers(), some.lists(some.text(), min_size=1))


@given(some.dictionaries(some.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), values))
def test_what_is_written_is_yaml_and_can_be_read_back(given_config: dict[str, Any]) -> None:
    text = config.to_yaml(given_config)
    assert (yaml.safe_load(text) or {}) == given_config
    assert config.from_yaml(text) == given_config
    assert config.from_yaml("# a comment\n" + text) == given_config


def test_empty_values_are_left_out() -> None:
    assert config.without_empty({"a": "", "b": [], "c": None, "d": False, "e": 0}) == {"d": False, "e": 0}
