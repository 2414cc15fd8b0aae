"""From a host's inventory variables to the OpenSSH command that reaches it, as Ansible's own ssh connection would."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target

#: Seconds until an address that does not answer counts as unreachable.
CONNECT_TIMEOUT = 10


@dataclass(frozen=True)
class Login:
    """How a host is reached.

    Attributes:
        command: the argument vector up to the remote command; [] for this machine.
        become: words before Python on the host, [] to stay the login user.
        password: sudo's password, sent before anything else; None when none is known.
        address: for messages.
    """

    command: tuple[str, ...]
    become: tuple[str, ...]
    password: str | None
    address: str


def _text(variables: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = variables.get(name)
        if value not in (None, ""):
            return str(value)
    return ""


def truth(value: Any, default: bool) -> bool:
    """Ansible's idea of a boolean in an inventory (``yes``, ``"true"``, 1)."""
    if value is None:
        return default
    if isinstance(value, str):
        return value.strip().lower() in ("1", "true", "yes", "on", "y", "t")
    return bool(value)


def _plain(target: Target, name: str) -> str:
    value = _text(target.variables, name)
    if isinstance(target.variables.get(name), dict):
        raise SkerryError(
            "TARGET_018",
            f"host {target.name}: {name} is encrypted and Ansible has no vault password here",
            "set ANSIBLE_VAULT_PASSWORD_FILE",
        )
    if "{{" in value or "{%" in value:
        raise SkerryError(
            "TARGET_011",
            f"host {target.name}: {name} is a template that only Ansible can fill: {value}",
            "give it a plain value, or compute it with an inventory plugin (ansible.builtin.constructed)",
        )
    return value


def ssh_command(target: Target) -> tuple[str, ...]:
    """The OpenSSH client with its options and destination, without the remote command.

    Host keys are checked unless the inventory itself turns that off; no password is ever asked for.
    """
    if "ansible_password" in target.variables or "ansible_ssh_pass" in target.variables:
        raise SkerryError(
            "TARGET_012",
            f"host {target.name}: login by password is not supported",
            "install a key with ssh-copy-id and name it in ansible_ssh_private_key_file",
        )
    command = [_text(target.variables, "ansible_ssh_executable") or "ssh", "-T"]
    for name in ("ansible_host", "ansible_port", "ansible_user"):
        _plain(target, name)
    if port := _text(target.variables, "ansible_port", "ansible_ssh_port"):
        command += ["-p", port]
    if user := _text(target.variables, "ansible_user", "ansible_ssh_user"):
        command += ["-l", user]
    if key := _plain(target, "ansible_ssh_private_key_file") or _plain(target, "ansible_private_key_file"):
        command += ["-i", str(Path(key).expanduser())]
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        command += shlex.split(_plain(target, name))
    if not truth(
        target.variables.get("ansible_host_key_checking", target.variables.get("ansible_ssh_host_key_checking")), True
    ):
        command += ["-o", "StrictHostKeyChecking=no"]
    # OpenSSH takes the first value that it meets: these come last and give way to the inventory's.
    defaults = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": str(CONNECT_TIMEOUT),
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "4",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "LogLevel": "ERROR",
    }
    for key, value in defaults.items():
        command += ["-o", f"{key}={value}"]
    return (*command, "--", _text(target.variables, "ansible_host", "ansible_ssh_host") or target.name)


def become_words(variables: Mapping[str, Any], local: bool) -> tuple[str, ...]:
    """Words that make root of the login user; () where they are not wanted or not needed.

    Roles need root, so the probe asks for it by default on hosts (``ansible_become: false`` says no); on this machine
    only when the inventory says ``ansible_become: true``.
    """
    user = _text(variables, "ansible_user", "ansible_ssh_user")
    if not truth(variables.get("ansible_become"), not local) or (user == "root" and not local):
        return ()
    if local and os.geteuid() == 0:
        return ()
    method = _text(variables, "ansible_become_method") or "sudo"
    if method not in ("sudo", "ansible.builtin.sudo", "doas", "community.general.doas"):
        raise SkerryError("TARGET_013", f"become method {method} is not supported", "use sudo or doas")
    words = [_text(variables, "ansible_become_exe", "ansible_sudo_exe") or method.rsplit(".", 1)[-1]]
    if become_user := _text(variables, "ansible_become_user"):
        words += ["-u", become_user]
    if words[0].endswith("sudo"):
        words += ["-S", "-p", ""] if _password(variables) else ["-n"]
        words.append("--")
    else:
        words.append("-n")
    return tuple(words)


def _password(variables: Mapping[str, Any]) -> str | None:
    return _text(variables, "ansible_become_password", "ansible_become_pass", "ansible_sudo_pass") or None


def login(target: Target) -> Login:
    """How ``target`` is reached.

    Raises:
        SkerryError: TARGET_010 to TARGET_013, for variables that cannot be followed.
    """
    connection = _text(target.variables, "ansible_connection")
    become = become_words(target.variables, target.local)
    password = _password(target.variables) if become else None
    if target.local:
        return Login((), become, password, "this machine")
    if connection not in ("", "ssh", "ansible.builtin.ssh", "smart", "paramiko", "paramiko_ssh"):
        raise SkerryError(
            "TARGET_010",
            f"host {target.name}: connection {connection} is not supported",
            "use ssh, or local for this machine",
            Exit.USAGE,
        )
    return Login(
        ssh_command(target),
        become,
        password,
        _text(target.variables, "ansible_host", "ansible_ssh_host") or target.name,
    )
