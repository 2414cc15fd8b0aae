"""Where logins and authorities come from, and that no password is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry.errors import SkerryError
from skerry.oci.login import AUTHORITY, PASSWORD, USER, access
from skerry.oci.session import address


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (USER, PASSWORD, AUTHORITY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def test_options_come_before_the_environment_and_that_before_docker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert access("registry.example.com").login is None
    auths = {"registry.example.com": {"auth": "ZDpkOmQ="}, "https://index.docker.io/v1/": {"auth": "aDpo"}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    assert access("registry.example.com").login == ("d", "d:d")
    assert access("docker.io").login == ("h", "h")
    assert access("other.example.com").login is None
    monkeypatch.setenv(USER, "e")
    monkeypatch.setenv(PASSWORD, "e e")
    assert access("registry.example.com").login == ("e", "e e")
    (tmp_path / "password").write_text(" f \n")
    found = access("registry.example.com", "f", str(tmp_path / "password"))
    assert found.login == ("f", " f ")
    assert " f " not in repr(found)


@pytest.mark.parametrize(("files", "options", "code"), [
    ({}, {"user": "x"}, "IMAGE_021"),
    ({}, {"password_file": "x"}, "IMAGE_021"),
    ({}, {"user": "x", "password_file": "absent"}, "IMAGE_019"),
    ({"p": "one\ntwo\n"}, {"user": "x", "password_file": "p"}, "IMAGE_019"),
    ({"p": "\n"}, {"user": "x", "password_file": "p"}, "IMAGE_019"),
    ({"config.json": "[]"}, {}, "IMAGE_020"),
    ({"config.json": "{"}, {}, "IMAGE_020"),
    ({"config.json": '{"auths": {"r.example.com": {"auth": "???"}}}'}, {}, "IMAGE_020"),
    ({"config.json": '{"auths": {"r.example.com": {"identitytoken": "x"}}}'}, {}, "IMAGE_020"),
    ({"config.json": '{"credsStore": "that-is-not-there"}'}, {}, "IMAGE_020"),
])  # fmt: skip
def test_half_a_login_is_none(tmp_path: Path, files: dict[str, str], options: dict[str, str], code: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    file = str(tmp_path / options["password_file"]) if "password_file" in options else ""
    with pytest.raises(SkerryError) as caught:
        access("r.example.com", options.get("user", ""), file)
    assert caught.value.code == code


def test_only_this_machine_without_an_authority_is_asked_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert address("localhost:5000", access("localhost:5000").authority) == "http://localhost:5000"
    assert address("192.0.2.10:5000", access("192.0.2.10:5000").authority) == "https://192.0.2.10:5000"
    assert address("docker.io", access("docker.io").authority) == "https://registry-1.docker.io"
    (tmp_path / "ca.crt").write_text("x")
    monkeypatch.setenv(AUTHORITY, str(tmp_path / "ca.crt"))
    assert address("127.0.0.1:5000", access("127.0.0.1:5000").authority) == "https://127.0.0.1:5000"
    monkeypatch.setenv(AUTHORITY, str(tmp_path / "absent"))
    with pytest.raises(SkerryError) as caught:
        access("127.0.0.1:5000")
    assert caught.value.code == "IMAGE_023"
