"""The registry's secrets on the controller: made once, private, renewed when they have to be."""

from __future__ import annotations

import http.server
import ssl
import stat
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.action import registry_secrets as action
from ansible_collections.skerry.edge.plugins.plugin_utils import own_ca

NAMES = ["192.0.2.10", "registry-1", "localhost", "127.0.0.1", "::1"]


def ensure(folder: Path, check: bool = False, **given: Any) -> dict[str, Any]:
    args = {
        "folder": str(folder), "name": "registry-1", "names": NAMES, "tls": "own_ca", "certificate": "", "key": "",
        "ca": "", "issued": {}, "days": 825, "renew_days": 60, "password": "", "state": "present",
    }  # fmt: skip
    result: dict[str, Any] = action.ensure({**args, **given}, check)
    return result


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    first = ensure(tmp_path)
    assert first["changed"]
    assert set(first["written"]) == {"ca.key", "ca.crt", "server.crt", "server.key", "password"}
    assert len(first["password"]) >= 32
    assert stat.S_IMODE((tmp_path / "registry-1").stat().st_mode) == 0o700
    for file in (tmp_path / "registry-1").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    second = ensure(tmp_path)
    assert not second["changed"]
    assert {key: second[key] for key in ("ca", "certificate", "key", "password")} == {
        key: first[key] for key in ("ca", "certificate", "key", "password")
    }


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert ensure(tmp_path, check=True)["changed"]
    assert list(tmp_path.iterdir()) == []
    ensure(tmp_path)
    assert not ensure(tmp_path, check=True)["changed"]


def test_a_widened_file_is_made_private_again(tmp_path: Path) -> None:
    ensure(tmp_path)
    key = tmp_path / "registry-1" / "ca.key"
    key.chmod(0o644)
    assert ensure(tmp_path)["written"] == ["ca.key"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "why"),
    [({"names": [*NAMES, "registry.example.org"]}, "its names are others"), ({"renew_days": 900}, "it ends within")],
)
def test_a_certificate_is_renewed_and_the_authority_stays(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    first = ensure(tmp_path)
    old = own_ca.Pair(first["certificate"], first["key"])
    authority = own_ca.read_pair(tmp_path / "registry-1", "ca")
    assert authority is not None
    names, days = change.get("names", NAMES), change.get("renew_days", 60)
    assert own_ca.fits(old, authority, names, days).startswith(why)
    second = ensure(tmp_path, **change)
    assert second["written"] == ["server.crt", "server.key"]
    assert second["ca"] == first["ca"]


def test_a_certificate_of_another_authority_is_not_used(tmp_path: Path) -> None:
    ensure(tmp_path)
    other = own_ca.make_authority("other")
    pair = own_ca.make_certificate(other, NAMES, 100)
    mine = own_ca.read_pair(tmp_path / "registry-1", "ca")
    assert mine is not None
    assert "another authority" in own_ca.fits(pair, mine, NAMES, 10)


def test_half_an_authority_is_not_replaced_silently(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "registry-1" / "ca.key").unlink()
    with pytest.raises(action.RefusedError, match="REGISTRY_003"):
        ensure(tmp_path)


def test_a_client_gets_what_the_registry_has(tmp_path: Path) -> None:
    made = ensure(tmp_path)
    asked = ensure(tmp_path, names=[])
    assert not asked["changed"]
    assert (asked["ca"], asked["password"], asked["key"]) == (made["ca"], made["password"], "")


def test_certificates_of_others(tmp_path: Path) -> None:
    authority = own_ca.make_authority("site")
    pair = own_ca.make_certificate(authority, NAMES, 90)
    for name, text in (("ca", authority.certificate), ("crt", pair.certificate), ("key", pair.key)):
        (tmp_path / name).write_text(text)
    places = {"ca": f"{tmp_path}/ca", "certificate": f"{tmp_path}/crt", "key": f"{tmp_path}/key"}
    files: dict[str, Any] = {"tls": "files", **places}
    assert ensure(tmp_path / "a", **files)["certificate"] == pair.certificate
    with pytest.raises(action.RefusedError, match="REGISTRY_002"):
        ensure(tmp_path / "a", **{**files, "key": ""})
    waiting = ensure(tmp_path / "b", tls="cert_manager")
    assert (waiting["ca"], waiting["certificate"]) == ("", "")
    issued = {"ca.crt": authority.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}
    assert ensure(tmp_path / "b", tls="cert_manager", issued=issued)["certificate"] == pair.certificate
    assert ensure(tmp_path / "b", tls="cert_manager", names=[])["ca"] == authority.certificate


def test_removal(tmp_path: Path) -> None:
    ensure(tmp_path)
    assert ensure(tmp_path, check=True, state="absent")["changed"]
    assert ensure(tmp_path, state="absent")["changed"]
    assert list(tmp_path.iterdir()) == []
    assert not ensure(tmp_path, state="absent")["changed"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A TLS server with a certificate of ours: (port, authority)."""
    made = ensure(tmp_path)
    pem = tmp_path / "both.pem"
    pem.write_text(made["certificate"] + made["key"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    web = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield web.server_address[1], made["ca"]
    web.shutdown()
    web.server_close()


def test_clients_accept_the_certificate(server: tuple[int, str]) -> None:
    """By name and by address, with nothing but the authority trusted and all of OpenSSL's strictness."""
    port, authority = server
    context = ssl.create_default_context(cadata=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1"):
        with urllib.request.urlopen(f"https://{name}:{port}/", context=context, timeout=5) as answer:
            assert answer.status == 200
