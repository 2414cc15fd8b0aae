"""Turns what Ansible says of a failed task into a code, a cause and a remedy.

Our roles write ``CODE cause | remedy: what to do``; everything else is recognised by what OpenSSH, sudo and the
modules print.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_CODED = re.compile(
    r"\b(?P<code>[A-Z][A-Z0-9]+_\d{3})\b[:\s]+(?P<cause>.*?)(?:\s*\|\s*remedy:\s*(?P<remedy>.*))?$", re.DOTALL
)


@dataclass(frozen=True)
class Diagnosis:
    """What went wrong on a host and what a person does next."""

    code: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class _Pattern:
    expression: re.Pattern[str]
    code: str
    cause: str
    remedy: str


def _pattern(expression: str, code: str, cause: str, remedy: str) -> _Pattern:
    return _Pattern(re.compile(expression, re.IGNORECASE), code, cause, remedy)


#: Tried in this order; the first that matches names the failure.
PATTERNS: tuple[_Pattern, ...] = (
    _pattern(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "HOST_003",
        "the host's key is unknown or not the one in known_hosts",
        "compare its fingerprint (ssh-keyscan) with the host's console, then correct known_hosts",
    ),
    _pattern(
        r"Permission denied \((publickey|password|keyboard|gssapi)|Too many authentication failures|no such identity",
        "HOST_002",
        "the login was refused",
        "check ansible_user and ansible_ssh_private_key_file, and that the public key is in the host's authorized_keys",
    ),
    _pattern(
        r"Could not resolve hostname",
        "HOST_007",
        "the host's name cannot be resolved",
        "set ansible_host to its address in the inventory, or correct the name",
    ),
    _pattern(
        r"Connection (refused|timed out|reset|closed)|No route to host|Network is unreachable|Operation timed out"
        r"|Timeout \(\d+s\) waiting|Failed to connect to the host via ssh",
        "HOST_001",
        "the host cannot be reached over SSH",
        "check that it is on, that ansible_host and ansible_port are right and that port 22 is open; "
        "then run the same command again: finished hosts change nothing",
    ),
    _pattern(
        r"Missing sudo password|a password is required|is not in the sudoers file|may not run sudo"
        r"|sudo: (command )?not found",
        "HOST_004",
        "the login user has no sudo rights without a password",
        "give it NOPASSWD in /etc/sudoers.d, or set ansible_become_password from Ansible Vault",
    ),
    _pattern(
        r"No space left on device|Disk quota exceeded|not enough free space|Errno 28",
        "HOST_005",
        "a disk of the host is full",
        "free space (df -h on the host; apt-get clean, journalctl --vacuum-size=50M), then run again",
    ),
    _pattern(
        r"python3?: not found|No python interpreters found|interpreter .*not found|/usr/bin/python3?: No such file",
        "HOST_006",
        "the host has no usable Python",
        "run playbooks/hosts.yml, which installs it, or set ansible_python_interpreter",
    ),
    _pattern(
        r"Unable to acquire the dpkg (frontend )?lock|Could not get lock /var/lib/(dpkg|apt)",
        "HOST_008",
        "another package manager is running on the host",
        "wait until it is done (unattended-upgrades?), then run again",
    ),
    _pattern(
        r"(Unable to fetch|Failed to fetch|Temporary failure resolving|Could not connect to .*:(80|443))",
        "HOST_009",
        "packages could not be downloaded",
        "check the host's network, DNS and proxy (skerry_http_proxy), then run again",
    ),
    _pattern(
        r"no vault secrets found|Decryption failed \(no vault",
        "PROVISION_006",
        "a vaulted value cannot be opened",
        "give --vault-password-file, or set ANSIBLE_VAULT_PASSWORD_FILE",
    ),
)


def _text(result: dict[str, Any]) -> str:
    parts = [str(result.get(key, "")) for key in ("msg", "module_stderr", "stderr", "module_stdout", "exception")]
    items = [item for item in result.get("results") or [] if isinstance(item, dict)]
    parts.extend(_text(item) for item in items if item.get("failed"))
    return "\n".join(part for part in parts if part)


def coded(text: str) -> list[Diagnosis]:
    """What our roles and modules say of themselves in ``text``: one line each, ``CODE cause | remedy: ...``."""
    found: dict[str, Diagnosis] = {}
    for line in text.splitlines():
        match = _CODED.search(line)
        if match and match["remedy"]:
            found.setdefault(line, Diagnosis(match["code"], match["cause"].strip(), match["remedy"].strip()))
    return list(dict.fromkeys(found.values()))


def named(result: dict[str, Any]) -> list[Diagnosis]:
    """What our own modules give as data beside their message: code, cause (of many lines, perhaps) and remedy."""
    parts = [" ".join(str(result.get(key) or "").split()) for key in ("code", "cause", "remedy")]
    return [Diagnosis(*parts)] if all(parts) else []


def diagnose(result: dict[str, Any], task: str, unreachable: bool) -> Diagnosis:
    """Name the failure in ``result``, the result dictionary of a failed or unreachable task."""
    text = _text(result)
    if own := named(result) or coded(text):
        return own[0]
    for pattern in PATTERNS:
        if pattern.expression.search(text):
            detail = _detail(text, pattern.expression)
            return Diagnosis(pattern.code, f"{pattern.cause} ({detail})" if detail else pattern.cause, pattern.remedy)
    if unreachable:
        return Diagnosis(
            "HOST_001",
            f"the host cannot be reached: {_first(text)}",
            "try `ssh` to it with the same user and key, then run again",
        )
    if result.get("censored"):
        return Diagnosis(
            "TASK_002",
            f"'{task}' failed; its result holds secrets and is not shown",
            "run the same play on this host with -e on the role's debug variable, or look in the host's journal",
        )
    return Diagnosis("TASK_001", f"'{task}' failed: {_first(text)}", "see the log named below for the whole result")


def _detail(text: str, expression: re.Pattern[str]) -> str:
    for line in text.splitlines():
        if expression.search(line):
            return line.strip()[:160]
    return ""


def _first(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else "no message")[:300]
