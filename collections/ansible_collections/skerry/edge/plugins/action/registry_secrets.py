"""Keeps the secrets of a site's registry on the controller (see the module's DOCUMENTATION)."""

from __future__ import annotations

import contextlib
import fcntl
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.skerry.edge.plugins.plugin_utils.own_ca import (
    DamagedError,
    Pair,
    ends_within,
    expires,
    fits,
    make_authority,
    make_certificate,
    read_pair,
)
from ansible_collections.skerry.edge.plugins.plugin_utils.private_file import write_private

SPEC: dict[str, Any] = {
    "folder": {"type": "path", "required": True},
    "name": {"type": "str", "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "tls": {"type": "str", "choices": ["own_ca", "cert_manager", "files"], "default": "own_ca"},
    "certificate": {"type": "path", "default": ""},
    "key": {"type": "path", "default": "", "no_log": False},
    "ca": {"type": "path", "default": ""},
    "issued": {"type": "dict", "default": {}, "no_log": True},
    "days": {"type": "int", "default": 825},
    "renew_days": {"type": "int", "default": 60},
    "password": {"type": "str", "default": "", "no_log": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


class RefusedError(Exception):
    """A coded failure."""

    def __init__(self, code: str, cause: str, remedy: str) -> None:
        super().__init__(f"{code} {cause} | remedy: {remedy}")
        self.result = {"failed": True, "msg": str(self), "code": code, "cause": cause, "remedy": remedy}


@dataclass
class Store:
    """The files of one registry; with ``check`` they are looked at only. ``written`` names those that differ."""

    folder: Path
    check: bool
    written: list[str] = field(default_factory=list)

    def keep(self, name: str, text: str) -> str:
        """Let a file hold ``text``, private; returns it."""
        path = self.folder / name
        if path.is_file() and path.stat().st_mode & 0o777 == 0o600 and path.read_text(encoding="utf-8") == text:
            return text
        self.written.append(name)
        if not self.check:
            write_private(path, text)
        return text

    def text(self, name: str) -> str:
        """Content of a file, '' when there is none."""
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""


@contextlib.contextmanager
def alone(folder: Path, check: bool) -> Iterator[None]:
    """Hosts ask at once, each in a process of its own: one makes the secrets, the others find them."""
    if check:
        yield
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _file(path: str, what: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise RefusedError(
            "REGISTRY_002",
            f"{what} {path or '(not set)'} cannot be read on the controller: {error.strerror}",
            "set registry_tls_certificate, registry_tls_key and registry_tls_ca to files in PEM",
        ) from error


def _authority(store: Store, name: str) -> Pair:
    pair = read_pair(store.folder, "ca")
    if pair is not None:
        try:
            ended = ends_within(pair.certificate, 0)
        except DamagedError as error:
            raise _damaged(store, str(error)) from error
        if ended:
            raise _damaged(store, "it has expired")
        return Pair(store.keep("ca.crt", pair.certificate), store.keep("ca.key", pair.key))
    if (store.folder / "ca.crt").exists() or (store.folder / "ca.key").exists():
        raise _damaged(store, "ca.crt or ca.key is missing")
    made = make_authority(f"Skerry registry {name}"[:64])
    store.keep("ca.key", made.key)
    store.keep("ca.crt", made.certificate)
    return made


def _damaged(store: Store, why: str) -> RefusedError:
    return RefusedError(
        "REGISTRY_003",
        f"the registry's own authority in {store.folder} cannot be used: {why}",
        "bring ca.crt and ca.key back from a backup, or remove both: a new authority is then made and hosts get it",
    )


def _server(store: Store, args: dict[str, Any]) -> tuple[str, Pair | None]:
    """(certificate of the authority, the server's pair; None where only a client asks, or nothing was issued yet)."""
    if args["tls"] == "files":
        authority = _file(args["ca"], "the authority")
        if not args["names"]:
            return authority, None
        return authority, Pair(_file(args["certificate"], "the certificate"), _file(args["key"], "the key"))
    if args["tls"] == "cert_manager":
        issued = args["issued"]
        if not issued:
            return store.text("issued-ca.crt"), read_pair(store.folder, "issued")
        authority = store.keep("issued-ca.crt", issued.get("ca.crt") or issued["tls.crt"])
        pair = Pair(issued["tls.crt"], issued["tls.key"])
        return authority, Pair(store.keep("issued.crt", pair.certificate), store.keep("issued.key", pair.key))
    own = _authority(store, args["name"])
    if not args["names"]:
        return own.certificate, None
    pair = read_pair(store.folder, "server")
    if pair is None or fits(pair, own, args["names"], args["renew_days"]):
        pair = make_certificate(own, args["names"], args["days"])
    return own.certificate, Pair(store.keep("server.crt", pair.certificate), store.keep("server.key", pair.key))


def ensure(args: dict[str, Any], check: bool) -> dict[str, Any]:
    """Bring the files of a registry into their state; the task's result."""
    store = Store(Path(args["folder"]).expanduser() / args["name"], check)
    if args["state"] == "absent":
        return remove(store)
    authority, pair = _server(store, args)
    password = args["password"] or store.text("password").strip() or secrets.token_urlsafe(24)
    store.keep("password", password + "\n")
    chain = pair.certificate if pair else ""
    return {
        "changed": bool(store.written),
        "written": store.written,
        "ca": authority,
        "certificate": chain,
        "key": pair.key if pair else "",
        "expires": expires(chain).strftime("%Y-%m-%dT%H:%M:%SZ") if chain else "",
        "password": password,
    }


def remove(store: Store) -> dict[str, Any]:
    """Forget a registry on the controller."""
    if not store.folder.is_dir():
        return {"changed": False, "written": []}
    names = sorted(path.name for path in store.folder.iterdir())
    if not store.check:
        for name in names:
            (store.folder / name).unlink()
        store.folder.rmdir()
    return {"changed": True, "written": names}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Works on the controller only; no host is asked."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do it; coded failures become the task's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(SPEC)
        try:
            with alone(Path(args["folder"]).expanduser(), self._task.check_mode):
                return result | ensure(args, self._task.check_mode)
        except RefusedError as error:
            return result | error.result
        except OSError as error:
            cause = f"{error.filename}: {error.strerror}"
            remedy = "make the folder writable for you and give it room (df -h), then run again"
            return result | RefusedError("REGISTRY_004", f"cannot keep the registry's secrets: {cause}", remedy).result
