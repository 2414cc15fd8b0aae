"""k3s_node on a made-up host: what it writes, what makes it restart, how a server keeps its place in the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils import k3s_guard
from ansible_collections.skerry.edge.plugins.module_utils import k3s_host as host
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError, from_yaml
from ansible_collections.skerry.edge.plugins.modules import k3s_node

Make = Callable[..., Any]
TOKEN = "a-token-of-thirty-two-characters"
AGENT_TOKEN = "another-token-of-32-characters-x"
JOIN = "https://192.0.2.1:6443"


class Systemd:
    """systemctl, ip and journalctl as the module calls them."""

    def __init__(self) -> None:
        self.state = {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}
        self.restarts = 0

    def __call__(self, command: list[str], **_more: Any) -> tuple[int, str, str]:
        words = " ".join(command)
        if words.startswith("systemctl show"):
            return 0, "".join(f"{key}={value}\n" for key, value in self.state.items()), ""
        if "daemon-reload" in words:
            self.state["LoadState"] = "loaded"
        elif "enable" in words:
            self.state["UnitFileState"] = "enabled"
        elif "restart" in words:
            self.state["ActiveState"] = "activating"
            self.restarts += 1
        elif words.startswith("ip -o addr"):
            return (
                0,
                "2: eth0    inet 192.0.2.7/24 scope global eth0\n3: wan0    inet 198.51.100.7/24 scope global wan0\n",
                "",
            )
        elif words.startswith("ip -o route get"):
            return 0, f"{command[-1]} dev eth0 src 192.0.2.7 uid 0\n", ""
        return 0, "", ""


class Module:
    """As much of AnsibleModule as the module uses."""

    def __init__(self, systemd: Systemd, params: dict[str, Any], check: bool) -> None:
        self.params, self.run_command, self.check_mode = params, systemd, check


DEFAULTS: dict[str, Any] = {
    "role": "server",
    "version": "v1.35.0+k3s3",
    "node_name": "n-1",
    "config": {},
    "extra": {},
    "labels": {},
    "taints": [],
    "kubelet_args": [],
    "eviction_hard": "auto",
    "allow_cgroup_v1": True,
    "node_ip": "",
    "node_interface": "",
    "address_hint": "192.0.2.7",
    "resolv_conf": "",
    "multiple_servers": False,
    "join": "",
    "servers": [],
    "token": "",
    "agent_token": "",
    "registries": "",
    "environment_file": "",
    "unit": "[Unit]\n",
    "restrict_oom_score_adj": False,
    "secrets_encryption": "auto",
    "join_encrypted": False,
    "audit_policy": "",
    "start": True,
    "wait": 0,
    "server_wait": 0,
}


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, systemd: Systemd) -> Make:
    """Runs the module with changed options; all paths lie below a temporary directory."""
    for holder in (host, k3s_guard, k3s_node):
        for name, value in list(vars(holder).items()):
            if isinstance(value, str) and name.isupper() and value.startswith(("/etc/", "/var/")):
                monkeypatch.setattr(holder, name, str(tmp_path) + value)
    monkeypatch.setattr(host, "detected_runtimes", dict)
    (tmp_path / "k3s").write_text("binary")

    def call(check: bool = False, **options: Any) -> dict[str, Any]:
        params = {**DEFAULTS, "binary": str(tmp_path / "k3s"), **options}
        result: dict[str, Any] = k3s_node.Node(Module(systemd, params, check)).run()
        return result

    return call


def config() -> dict[str, Any]:
    return dict(from_yaml(host.read_text(host.CONFIG) or ""))


def test_the_first_run_writes_and_starts_and_the_second_does_nothing(run: Make, systemd: Systemd) -> None:
    first = run()
    assert first["changed"]
    assert systemd.restarts == 1
    second = run()
    assert not second["changed"], second
    assert systemd.restarts == 1
    assert config()["node-ip"] == "192.0.2.7"
    assert config()["flannel-iface"] == "eth0"


def test_check_mode_writes_nothing(run: Make, systemd: Systemd, tmp_path: Path) -> None:
    assert run(check=True)["changed"]
    assert [path.name for path in tmp_path.iterdir()] == ["k3s"]
    assert systemd.restarts == 0
    run()
    assert not run(check=True)["changed"]


def test_tokens_are_made_once_private_and_different(run: Make) -> None:
    run()
    made = [Path(path).read_text().strip() for path in (host.TOKEN, host.AGENT_TOKEN)]
    assert len(set(made)) == 2
    assert all(len(token) == 64 for token in made)
    assert Path(host.TOKEN).stat().st_mode & 0o777 == 0o600
    run()
    assert Path(host.TOKEN).read_text().strip() == made[0]


def test_no_token_in_a_diff_or_a_result(run: Make) -> None:
    result = run(token=TOKEN, agent_token=AGENT_TOKEN, registries="secret-registry", environment_file="secret-proxy")
    text = json.dumps(result)
    for secret in (TOKEN, AGENT_TOKEN, "secret-registry", "secret-proxy"):
        assert secret not in text
    assert "(not shown)" in text


def test_secret_keys_hide_the_configuration_in_the_diff(run: Make) -> None:
    result = run(extra={"etcd-s3-secret-key": "hidden"})
    assert "hidden" not in json.dumps(result)


def test_a_token_of_a_cluster_that_exists_is_not_changed(run: Make) -> None:
    run(token=TOKEN)
    issued = Path(host.DATA_DIR) / "server" / "token"
    issued.parent.mkdir(parents=True)
    issued.write_text("K10" + "ab" * 32 + "::server:" + TOKEN)
    assert not run(token=TOKEN)["changed"]
    with pytest.raises(K3sError, match="K3S_007"):
        run(token="x" * 32)
    assert Path(host.TOKEN).read_text().strip() == TOKEN


def test_an_agent_needs_a_token(run: Make) -> None:
    with pytest.raises(K3sError, match="K3S_010"):
        run(role="agent", join=JOIN)


def test_an_agent_gets_no_server_key(run: Make) -> None:
    run(role="agent", join=JOIN, token=TOKEN)
    assert config()["server"] == JOIN
    assert not {"agent-token-file", "cluster-init"} & set(config())
    assert not Path(host.AGENT_TOKEN).exists()


def test_labels_and_taints_restart_nothing(run: Make, systemd: Systemd) -> None:
    run()
    systemd.state["ActiveState"] = "active"
    result = run(labels={"a": "b", "node-role.kubernetes.io/x": "true"}, taints=["t:NoSchedule"])
    assert result["changed"]
    assert not result["restarted"]
    assert config()["node-label"] == ["a=b"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"config": {"cluster-domain": "x"}}, "config.yaml"),
        ({"registries": "mirrors: {}\n"}, "registries.yaml"),
        ({"environment_file": "HTTP_PROXY=x\n"}, "k3s.service.env"),
        ({"unit": "[Unit]\nDescription=x\n"}, "k3s.service"),
        ({"restrict_oom_score_adj": True}, "10-oom-score-adj.toml"),
    ],
)
def test_what_the_process_reads_at_its_start_restarts_it(
    run: Make, systemd: Systemd, options: dict[str, Any], reason: str
) -> None:
    run()
    systemd.state["ActiveState"] = "active"
    result = run(**options)
    assert [name.rsplit("/", 1)[-1] for name in result["reasons"]] == [reason]
    assert systemd.restarts == 2
    assert not run(**options)["changed"]


def test_a_new_binary_and_a_new_handler_restart_it(run: Make, systemd: Systemd, tmp_path: Path) -> None:
    run()
    systemd.state["ActiveState"] = "active"
    (tmp_path / "k3s").write_text("another binary")
    assert run()["reasons"] == ["binary"]
    handler = Path(host.OUR_CONTAINERD_DIR) / "20-wasm.toml"
    handler.parent.mkdir(parents=True, exist_ok=True)
    handler.write_text("version = 3\n")
    assert run()["reasons"] == [str(handler)]


def test_a_run_that_was_killed_before_the_restart_is_made_good(run: Make, systemd: Systemd) -> None:
    run()
    systemd.state["ActiveState"] = "active"
    run(config={"debug": True}, start=False)
    assert systemd.restarts == 1
    assert run(config={"debug": True})["restarted"]


def test_a_stopped_unit_is_started(run: Make, systemd: Systemd) -> None:
    run()
    systemd.state["ActiveState"] = "failed"
    assert run()["reasons"] == ["not running"]


def test_a_server_keeps_its_place(run: Make) -> None:
    run(multiple_servers=True)
    assert config()["cluster-init"] is True
    member = Path(host.DATA_DIR) / "server" / "db" / "etcd" / "member"
    member.mkdir(parents=True)
    run(multiple_servers=True, join=JOIN, servers=[JOIN], token="")
    assert config()["cluster-init"] is True
    assert "server" not in config()


def test_a_joined_server_keeps_the_server_that_it_joined(run: Make) -> None:
    other = "https://192.0.2.2:6443"
    run(multiple_servers=True, join=JOIN, servers=[JOIN, other], token=TOKEN)
    (Path(host.DATA_DIR) / "server" / "db" / "etcd" / "member").mkdir(parents=True)
    assert config()["server"] == JOIN
    assert not run(multiple_servers=True, join=other, servers=[JOIN, other], token=TOKEN)["changed"]
    assert not run(multiple_servers=True, join="", servers=[JOIN, other], token=TOKEN)["changed"]
    run(multiple_servers=True, join=other, servers=[other], token=TOKEN)
    assert config()["server"] == other


def test_a_single_server_becomes_the_first_of_several(run: Make) -> None:
    run()
    (Path(host.DATA_DIR) / "server" / "db").mkdir(parents=True)
    (Path(host.DATA_DIR) / "server" / "db" / "state.db").touch()
    assert run(multiple_servers=True)["restarted"]
    assert config()["cluster-init"] is True


def test_the_address_is_never_a_guess(run: Make) -> None:
    assert run(node_ip="198.51.100.7")["node_ip"] == "198.51.100.7"
    assert config()["flannel-iface"] == "wan0"
    assert run(node_interface="wan0")["node_ip"] == "198.51.100.7"
    assert run(address_hint="203.0.113.9")["node_ip"] == "192.0.2.7"
    with pytest.raises(K3sError, match=r"K3S_005 .*192\.0\.2\.7 \(eth0\)"):
        run(node_ip="203.0.113.9")
    with pytest.raises(K3sError, match="K3S_006"):
        run(node_interface="nope0")


def test_cgroup_v1_needs_a_word(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cgroup_version", lambda: 1)
    with pytest.raises(K3sError, match="K3S_008"):
        run(allow_cgroup_v1=False)
    run(allow_cgroup_v1=False, version="v1.34.1+k3s1")
    run()
    assert "fail-cgroupv1=false" in config()["kubelet-arg"]
    monkeypatch.setattr(host, "cgroup_version", lambda: 2)
    run()
    assert "fail-cgroupv1=false" not in config()["kubelet-arg"]


def test_a_person_s_kubelet_arguments_win(run: Make) -> None:
    run(kubelet_args=["eviction-hard=memory.available<1Mi"])
    assert [arg for arg in config()["kubelet-arg"] if arg.startswith("eviction-hard")] == [
        "eviction-hard=memory.available<1Mi"
    ]


@pytest.mark.parametrize(("memory", "reserve"), [(256, 24), (512, 25), (1024, 51), (4096, 100)])
def test_the_kubelet_keeps_a_twentieth_of_memory(
    run: Make, monkeypatch: pytest.MonkeyPatch, memory: int, reserve: int
) -> None:
    monkeypatch.setattr(host, "memory_mb", lambda: memory)
    run()
    [said] = [arg for arg in config()["kubelet-arg"] if arg.startswith("eviction-hard")]
    assert said == f"eviction-hard=memory.available<{reserve}Mi,nodefs.available<5%,imagefs.available<5%"


def test_containerd_gets_a_template_before_and_a_drop_in_from_1_36_on(run: Make) -> None:
    run(version="v1.35.0+k3s3")
    assert Path(k3s_node.TEMPLATE_FILE).read_text().endswith('{{ template "base" . }}\n')
    assert not Path(k3s_node.DROP_IN_FILE).exists()
    run(version="v1.36.5+k3s1")
    assert not Path(k3s_node.TEMPLATE_FILE).exists()
    assert "imports" in Path(k3s_node.DROP_IN_FILE).read_text()


def test_a_template_of_another_hand_stays(run: Make) -> None:
    own = Path(k3s_node.TEMPLATE_FILE)
    own.parent.mkdir(parents=True)
    own.write_text("mine\n")
    run()
    assert own.read_text() == "mine\n"


def test_a_host_of_the_other_role_is_refused(run: Make) -> None:
    unit = Path(host.UNIT_DIR) / "k3s-agent.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    with pytest.raises(K3sError, match="K3S_012"):
        run()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    before = Path(host.CONFIG).read_text()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(K3sError, match="K3S_016"):
        run(config={"debug": True})
    assert Path(host.CONFIG).read_text() == before
    assert not list(Path(host.CONFIG).parent.glob(".skerry-??*tmp*"))
