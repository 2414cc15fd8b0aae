"""The look at a host: its parts on files of our own making, and the whole of it on this machine."""

from __future__ import annotations

import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry.look import k3s, network, report, services, storage, system
from skerry.targets.api import Target
from skerry.targets.look import look_at


def certificate(begin: datetime, end: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(begin).not_valid_after(end).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2126])  # UTCTime ends with 2049
def test_validity_of_certificates(year: int) -> None:
    begin, end = datetime(1998, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(year, 6, 7, 8, 9, 10, tzinfo=UTC)
    assert k3s.validity(certificate(begin, end)) == (begin.timestamp(), end.timestamp())


def test_what_is_no_certificate_has_no_validity() -> None:
    assert k3s.validity("") is None
    assert k3s.validity("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----") is None


CONFIG = """version = 3
imports = ["{folder}/*.toml"]
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runhcs-wcow-process]
  runtime_type = "io.containerd.runhcs.v1"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'spin']
  runtime_type = "io.containerd.spin.v2"
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dir = "/x"
"""
DROP_IN = """version = 3
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes."crun-wasm"]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes."crun-wasm".options]
  BinaryName = "{program}"
"""


def test_handlers_are_found_in_the_configuration_and_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, program = tmp_path / "own", tmp_path / "crun"
    (tmp_path / "agent/etc/containerd").mkdir(parents=True)
    folder.mkdir()
    (tmp_path / "agent/etc/containerd/config.toml").write_text(CONFIG.format(folder=folder))
    (folder / "wasm.toml").write_text(DROP_IN.format(program=program))
    monkeypatch.setattr(k3s, "DATA", str(tmp_path))
    found = k3s.handlers(deep=True)
    assert set(found) == {"runc", "spin", "crun-wasm"}
    assert found["runc"]["starts"]
    assert not found["spin"]["starts"], "its shim is not on this machine"
    assert (found["crun-wasm"]["starts"], found["crun-wasm"]["says"]) == (False, "no such file")
    program.write_text("#!/bin/sh\necho crun version 1\n")
    assert k3s.handlers(deep=True)["crun-wasm"]["says"] == "not executable"
    program.chmod(0o755)
    assert k3s.handlers(deep=True)["crun-wasm"] == {
        "type": "io.containerd.runc.v2",
        "binary": str(program),
        "file": str(folder / "wasm.toml"),
        "program": str(program),
        "starts": True,
        "says": "crun version 1",
    }
    program.write_text("#!/bin/sh\nexit 3\n")
    assert not k3s.handlers(deep=True)["crun-wasm"]["starts"]


SECRETS = [
    'level=info msg="join with K10' + "a" * 64 + '::node:hunter2hunter2"',
    "token: hunter2hunter2",
    'password="hunter2hunter2"',
    "agent-token=hunter2hunter2",
]


@pytest.mark.parametrize("line", SECRETS)
def test_secrets_stay_on_the_host(line: str) -> None:
    assert "hunter2" not in services.SECRET.sub(r"\1[hidden]", line)


def test_the_configuration_comes_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("token: hunter2\nserver: https://10.0.0.1:6443\nagent-token-file: /x\n")
    monkeypatch.setattr(k3s, "CONFIG", str(file))
    assert k3s.config() == "token: [hidden]\nserver: https://10.0.0.1:6443\nagent-token-file: [hidden]\n"


def test_a_name_server_that_answers_anything_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind(("127.0.0.53", 53))
        except PermissionError:
            pytest.skip("port 53 is for root")

        def refuse() -> None:
            query, client = server.recvfrom(512)
            server.sendto(query[:2] + b"\x81\x85" + query[4:], client)

        threading.Thread(target=refuse, daemon=True).start()
        assert network.ask_resolver("127.0.0.53", "x.invalid") == "answers"
        assert network.ask_resolver("127.0.0.53", "x.invalid", 0.1).startswith("no answer")
    assert "refused" in network.ask_resolver("127.0.0.53", "x.invalid").lower()


def test_open_and_closed_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert network.reach("127.0.0.1", port)["open"]
    found = network.reach("127.0.0.1", port)
    assert (found["open"], found["error"]) == (False, "Connection refused")


def test_a_part_that_hangs_is_named_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "disks", lambda: time.sleep(5))

    def broken() -> dict[str, str]:
        raise PermissionError("not yours")

    monkeypatch.setattr(system, "memory", broken)
    start = time.monotonic()
    found = report.collect({"seconds": 0.5})
    assert time.monotonic() - start < 2
    assert found["missing"] == {"disks": "not done in time", "memory": "PermissionError: not yours"}
    assert "disks" not in found
    assert found["basics"]["hostname"]


def test_the_disks_of_this_machine() -> None:
    found = {disk["path"]: disk for disk in system.disks()}
    assert found["/"]["size"] > found["/"]["free"] > 0
    assert 0 <= found["/"]["used_percent"] <= 100
    assert system.memory()["total"] >= system.memory()["available"] > 0
    assert isinstance(storage.nfs()["kernel"], bool)


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def test_a_look_at_this_machine_and_at_one_that_is_not_there() -> None:
    gone = Target("gone", {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "nobody"})
    found = look_at([Target("here", LOCAL), gone], {"deep": True}, 20, 20)
    assert list(found) == ["here", "gone"]
    assert found["here"].fault is None
    assert found["here"].report["missing"] == {}
    assert found["here"].part("basics")["hostname"] == socket.gethostname()
    assert abs(found["here"].skew or 9.0) < 1.0
    assert found["gone"].fault is not None
    assert found["gone"].fault.code.startswith("TARGET_0")
    assert found["gone"].report == {}


def test_a_host_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    silent = tmp_path / "python3"
    silent.write_text("#!/bin/sh\nexec sleep 30\n")
    silent.chmod(0o755)
    start = time.monotonic()
    found = look_at([Target("slow", {**LOCAL, "ansible_python_interpreter": str(silent)})], {}, 1, 5)["slow"]
    assert time.monotonic() - start < 4
    assert found.fault is not None
    assert found.fault.code == "TARGET_022"


def test_hosts_that_are_not_reached_within_the_time_of_all_are_unknown(tmp_path: Path) -> None:
    silent = tmp_path / "python3"
    silent.write_text("#!/bin/sh\nexec sleep 30\n")
    silent.chmod(0o755)
    targets = [Target(f"h{number}", {**LOCAL, "ansible_python_interpreter": str(silent)}) for number in range(60)]
    start = time.monotonic()
    found = look_at(targets, {}, 1, 2)
    assert time.monotonic() - start < 8
    assert len(found) == 60
    assert {look.fault.code for look in found.values() if look.fault} == {"TARGET_022", "TARGET_023"}
