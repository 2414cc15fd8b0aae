"""What Ansible and OpenSSH really print is turned into the right code."""

from __future__ import annotations

import pytest

from skerry.provision.diagnosis import coded, diagnose

CASES = [
    ("Failed to connect to the host via ssh: ssh: connect to host 192.0.2.9 port 22: Connection timed out", "HOST_001"),
    ("Failed to connect to the host via ssh: skerry@192.0.2.9: Permission denied (publickey).", "HOST_002"),
    ("Failed to connect to the host via ssh: Host key verification failed.", "HOST_003"),
    (
        "Failed to connect to the host via ssh: ssh: Could not resolve hostname edge-9: Name or service not known",
        "HOST_007",
    ),
    ("Task failed: Missing sudo password", "HOST_004"),
    ("sudo: a password is required", "HOST_004"),
    ("OSError: [Errno 28] No space left on device: '/usr/local/bin/k3s'", "HOST_005"),
    ("/bin/sh: 1: /usr/bin/python3: not found", "HOST_006"),
    ("E:Could not get lock /var/lib/dpkg/lock-frontend", "HOST_008"),
    ("E: Failed to fetch pool/main/c/crun.deb  Temporary failure resolving", "HOST_009"),
]


@pytest.mark.parametrize(("message", "code"), CASES)
def test_known_messages(message: str, code: str) -> None:
    assert diagnose({"msg": message}, "Some task", unreachable=False).code == code


def test_changed_host_key_wins_over_the_refusal_that_follows_it() -> None:
    text = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nPermission denied (publickey)."
    assert diagnose({"msg": text}, "t", unreachable=True).code == "HOST_003"


def test_coded_message_of_a_role_is_kept_whole() -> None:
    found = diagnose(
        {"msg": "K3S_012 the token does not match | remedy: give every agent the server's token"}, "t", False
    )
    assert (found.code, found.cause) == ("K3S_012", "the token does not match")
    assert found.remedy == "give every agent the server's token"


def test_failures_inside_a_loop_are_found() -> None:
    result = {"msg": "One or more items failed", "results": [{"msg": "fine"}, {"failed": True, "msg": "Errno 28"}]}
    assert diagnose(result, "t", unreachable=False).code == "HOST_005"


def test_secrets_are_not_shown() -> None:
    found = diagnose({"censored": "the output has been hidden"}, "Place the token", unreachable=False)
    assert found.code == "TASK_002"
    assert "Place the token" in found.cause


def test_unknown_failure_names_the_task_and_its_first_line() -> None:
    found = diagnose({"msg": "\n  odd thing\nmore"}, "Do it", unreachable=False)
    assert found.code == "TASK_001"
    assert "odd thing" in found.cause
    assert "Do it" in found.cause


def test_code_cause_and_remedy_of_a_module_are_taken_as_they_are() -> None:
    result = {"code": "ARTIFACT_009", "cause": "not sent:\n\n  No space left on device", "remedy": "df -h"}
    found = diagnose(result, "t", unreachable=False)
    assert (found.code, found.cause, found.remedy) == ("ARTIFACT_009", "not sent: No space left on device", "df -h")


def test_every_coded_line_counts_once() -> None:
    text = "A1_001 one | remedy: x\nfiller\nB2_002 two | remedy: y\nA1_001 one | remedy: x"
    assert [found.code for found in coded(text)] == ["A1_001", "B2_002"]
