"""Who one is at a registry, and whom one trusts: from options, the environment, or where ``docker login`` leaves it.

A password is never a word of a command line: other users of the machine could read it there.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.errors import Exit, SkerryError

USER, PASSWORD, AUTHORITY = "SKERRY_REGISTRY_USER", "SKERRY_REGISTRY_PASSWORD", "SKERRY_REGISTRY_CA"
#: Docker Hub's name in Docker's files.
_HUB = "https://index.docker.io/v1/"
_CERTIFICATES = Path("/etc/docker/certs.d")
_HELPER_SECONDS = 60


@dataclass(frozen=True)
class Access:
    """How a registry is met. ``login``: (user, password); ``authority``: the only PEM file that is trusted, if any."""

    login: tuple[str, str] | None = None
    authority: Path | None = None

    def __repr__(self) -> str:
        """Without the password."""
        return f"Access(user={self.login[0] if self.login else None!r}, authority={self.authority})"


def _secret(file: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, str(error)) from error
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or "\n" in password:
        raise _unreadable(file, "it does not hold one line")
    return password


def _unreadable(file: str, why: str) -> SkerryError:
    return SkerryError("IMAGE_019", f"no password can be read from {file}: {why}",
                       "put the password into that file as its only line, 0600; - reads it from standard input")


def _of_helper(name: str, registry: str) -> tuple[str, str] | None:
    command = [f"docker-credential-{name}", "get"]
    try:
        done = subprocess.run(command, input=registry, capture_output=True, text=True, check=False,
                              timeout=_HELPER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _bad(command[0], str(error)) from error
    if done.returncode != 0:
        if "not found" in done.stdout.lower():
            return None
        raise _bad(command[0], (done.stderr or done.stdout).strip()[-200:])
    try:
        said = json.loads(done.stdout)
        user, secret = str(said["Username"]), str(said["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise _bad(command[0], "its answer is not that of a credential helper") from error
    return _usable(user, secret, command[0])


def _usable(user: str, secret: str, where: str) -> tuple[str, str]:
    if user == "<token>":
        raise _bad(where, "it holds an identity token, not a user and a password")
    return user, secret


def _bad(where: str, why: str) -> SkerryError:
    return SkerryError("IMAGE_020", f"{where} cannot be used for a login: {why}",
                       f"docker login once more, or set {USER} and {PASSWORD}", Exit.PREREQUISITE)


def of_docker(registry: str) -> tuple[str, str] | None:
    """The login that ``docker login`` left for a registry; None where there is none. Raises IMAGE_020."""
    folder = os.environ.get("DOCKER_CONFIG")
    file = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text())
        if not isinstance(config, dict):
            raise _bad(str(file), "it is no JSON object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _bad(str(file), str(error)) from error
    key = _HUB if registry == "docker.io" else registry
    helpers = config.get("credHelpers")
    helper = helpers.get(key) if isinstance(helpers, Mapping) else None
    if helper := helper or config.get("credsStore"):
        return _of_helper(str(helper), key)
    auths = config.get("auths")
    entry = auths.get(key, auths.get(f"https://{key}")) if isinstance(auths, Mapping) else None
    return _of_entry(entry, str(file)) if isinstance(entry, Mapping) else None


def _of_entry(entry: Mapping[str, Any], file: str) -> tuple[str, str] | None:
    if entry.get("identitytoken"):
        return _usable("<token>", "", file)
    if entry.get("username"):
        return str(entry["username"]), str(entry.get("password", ""))
    if not entry.get("auth"):
        return None
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _bad(file, "its auth is no base64") from error
    return (user, password.rstrip("\0")) if colon else None


def access(registry: str, user: str = "", password_file: str = "", authority: Path | None = None) -> Access:
    """How to meet a registry: what was given, else the environment, else Docker's files.

    Args:
        registry: as in references (``docker.io``, ``192.0.2.10:5000``).
        user: goes with ``password_file``, whose only line is the password (``-`` is standard input).
        authority: PEM file; else $SKERRY_REGISTRY_CA, else /etc/docker/certs.d/<registry>/ca.crt, else the system's.

    Raises:
        SkerryError: IMAGE_019 (no password in the file), IMAGE_020 (Docker's configuration cannot be used), IMAGE_021
            (half a login), IMAGE_023 (no such authority).
    """
    if bool(user) != bool(password_file):
        raise SkerryError("IMAGE_021", "a login needs both --user and --password-file",
                          f"give both, or none: then {USER} and {PASSWORD} or docker login's file are used")
    login: tuple[str, str] | None
    if user:
        login = (user, _secret(password_file))
    elif os.environ.get(USER) or os.environ.get(PASSWORD):
        login = (os.environ.get(USER, ""), os.environ.get(PASSWORD, ""))
        if not all(login):
            raise SkerryError("IMAGE_021", f"a login needs both {USER} and {PASSWORD}", "set both, or none")
    else:
        login = of_docker(registry)
    if authority is None and (named := os.environ.get(AUTHORITY)):
        authority = Path(named)
    own = _CERTIFICATES / registry / "ca.crt"
    if authority is None and os.access(own, os.R_OK):
        authority = own
    if authority is not None and not os.access(authority, os.R_OK):
        raise SkerryError("IMAGE_023", f"the authority {authority} cannot be read",
                          "name the PEM file of the authority that signed the registry's certificate")
    return Access(login, authority)
