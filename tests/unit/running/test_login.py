"""From inventory variables to ssh's arguments, and from ssh's words to an error."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from skerry.errors import SkerryError
from skerry.targets.api import Target
from skerry.targets.bootstrap import BOOT, program_command, shell_command
from skerry.targets.connect import diagnose
from skerry.targets.ssh import become_words, login


def _command(**variables: Any) -> list[str]:
    return list(login(Target("h1", variables)).command)


def test_the_inventorys_variables_become_arguments() -> None:
    command = _command(ansible_host="192.0.2.7", ansible_port=2222, ansible_user="ops",
                       ansible_ssh_private_key_file="/keys/id", ansible_ssh_common_args="-o UserKnownHostsFile='/a b'")
    assert command[0] == "ssh"
    assert command[-2:] == ["--", "192.0.2.7"]
    for option, value in (("-p", "2222"), ("-l", "ops"), ("-i", "/keys/id")):
        assert command[command.index(option) + 1] == value
    assert "UserKnownHostsFile=/a b" in command


def test_host_keys_are_checked_and_nothing_is_asked() -> None:
    command = _command()
    assert "StrictHostKeyChecking=yes" in command
    assert "BatchMode=yes" in command
    assert command[-1] == "h1"


def test_the_inventorys_options_come_first_and_so_win() -> None:
    command = _command(ansible_ssh_common_args="-o StrictHostKeyChecking=accept-new -o ConnectTimeout=3")
    assert command.index("StrictHostKeyChecking=accept-new") < command.index("StrictHostKeyChecking=yes")
    assert command.index("ConnectTimeout=3") < command.index("ConnectTimeout=10")


@pytest.mark.parametrize(
    ("variables", "local", "words"),
    [
        ({"ansible_user": "ops"}, False, ("sudo", "-n", "--")),
        ({"ansible_user": "root"}, False, ()),
        ({"ansible_user": "ops", "ansible_become": "no"}, False, ()),
        ({"ansible_user": "ops", "ansible_become_password": "s"}, False, ("sudo", "-S", "-p", "", "--")),
        ({"ansible_user": "ops", "ansible_become_method": "doas"}, False, ("doas", "-n")),
        ({}, True, ()),
    ],
)
def test_becoming_root(variables: dict[str, Any], local: bool, words: tuple[str, ...]) -> None:
    assert become_words(variables, local) == words


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"ansible_connection": "winrm"}, "TARGET_010"),
        ({"ansible_ssh_private_key_file": "{{ lookup('x') }}"}, "TARGET_011"),
        ({"ansible_password": "x"}, "TARGET_012"),
        ({"ansible_become_method": "runas"}, "TARGET_013"),
        ({"ansible_ssh_common_args": {"__ansible_vault": "x"}}, "TARGET_018"),
    ],
)
def test_variables_that_cannot_be_followed(variables: dict[str, Any], code: str) -> None:
    with pytest.raises(SkerryError) as caught:
        login(Target("h1", variables))
    assert caught.value.code == code
    assert "h1" in caught.value.cause or "become" in caught.value.cause


@pytest.mark.parametrize(
    ("said", "errors", "exit_code", "code"),
    [
        ("", "ssh: connect to host 192.0.2.7 port 22: Connection timed out", 255, "TARGET_003"),
        ("", "ssh: connect to host 192.0.2.7 port 22: Connection refused", 255, "TARGET_003"),
        ("", "ssh: Could not resolve hostname h1: Name or service not known", 255, "TARGET_002"),
        ("", "ops@192.0.2.7: Permission denied (publickey).", 255, "TARGET_004"),
        ("", "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", 255, "TARGET_005"),
        ("", "No ED25519 host key is known for h1 and you have requested strict checking.", 255, "TARGET_005"),
        ("SKERRY-NOPYTHON python3", "", 9, "TARGET_006"),
        ("SKERRY-OLD 3.6 /usr/bin/python3", "", 9, "TARGET_006"),
        ("SKERRY-NOBECOME sudo", "", 9, "TARGET_007"),
        ("", "sudo: a password is required", 1, "TARGET_007"),
        ("Last login: today\nSKERRY-DISK /var/tmp: No space left on device", "", 9, "TARGET_008"),
        ("", "Traceback: something else", 1, "TARGET_009"),
    ],
)
def test_every_failure_has_its_own_code(said: str, errors: str, exit_code: int, code: str) -> None:
    target = Target("h1", {"ansible_host": "192.0.2.7", "ansible_user": "ops"})
    error = diagnose(target, login(target), said, errors, exit_code)
    assert error.code == code
    assert "h1" in error.cause
    assert error.remedy


def test_the_bootstrap_is_python_that_old_interpreters_parse() -> None:
    compile(BOOT, "boot", "exec")
    assert not any(word in BOOT for word in ('f"', "f'", "nonlocal", ":="))
    assert "sudo -n --" in shell_command(None, ["sudo", "-n", "--"])


@pytest.mark.parametrize(
    ("program", "become", "said"),
    [
        (["/nowhere/skerry-host", "serve"], [], "SKERRY-NOPROGRAM"),
        (["/bin/echo", "a b", "$HOME"], ["sudo-of-nobody", "-n"], "SKERRY-NOBECOME sudo-of-nobody"),
        (["/bin/echo", "a b", "$HOME"], ["env", "--"], "a b $HOME"),
    ],
)
def test_a_program_of_the_host_is_started_as_it_is_named(program: list[str], become: list[str], said: str) -> None:
    line = program_command(program, become)
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout == said + "\n"
