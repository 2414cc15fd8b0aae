"""The host's side without a host: cron in systemd's words, unit files, the store, the records."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import wasm_modules

from skerry.deploy import load
from skerry.deploy.desired import desired
from skerry.deploy.placement import Assignment
from skerry.testing.http_component import component
from skerry_host import apply, argv, containers, handover, places, ports, records, store, systemd, units
from skerry_host.calendar import on_calendar
from skerry_host.faults import HostError

RUNTIME = {"name": "wasmtime", "version": "48.0.8", "command": "/usr/local/bin/wasmtime"}


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/15 * * * *", ["*-*-* *:0,15,30,45:00 UTC"]),
        ("0 2 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 2:0:00 UTC"]),
        ("30 4 1,15 * *", ["*-*-1,15 4:30:00 UTC"]),
        ("30 4 1 jan-mar sun", ["Sun *-1,2,3-* 4:30:00 UTC", "*-1,2,3-1 4:30:00 UTC"]),
        ("5/20 0 * * 7", ["Sun *-*-* 0:5,25,45:00 UTC"]),
        ("0 0 */2 * sun", ["Sun *-*-1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 0:0:00 UTC"]),
    ],
)
def test_cron_in_systemds_words(cron: str, expected: list[str]) -> None:
    assert on_calendar(cron, "UTC") == expected


@pytest.mark.parametrize("cron", ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *"])
def test_what_is_no_cron_is_refused(cron: str) -> None:
    with pytest.raises(HostError, match="HOST_021"):
        on_calendar(cron, "UTC")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_agrees_on_the_next_times() -> None:
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--base-time=2026-03-28 00:00:00 UTC", "--iterations=4",
         on_calendar("30 2 * * *", "Europe/Berlin")[0]],
        capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"})  # fmt: skip
    for day in (28, 30, 31):  # not the 29th: 2:30 is left out where clocks go forward
        when = datetime(2026, 3, day, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
        assert f"{when:%Y-%m-%d %H:%M:%S} UTC" in done.stdout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's places, below a folder of the test."""
    for name in ("STATE", "STORE", "WORKLOADS", "LOCK", "UNITS"):
        monkeypatch.setattr(places, name, tmp_path / str(getattr(places, name)).lstrip("/"))
    return tmp_path


def wanted(folder: Path, **more: Any) -> dict[str, Any]:
    """What a host should have of a small workload."""
    (folder / "m.wasm").write_bytes(wasm_modules.exiting(0))
    (folder / "config").write_text("x")
    document = {"name": "a", "kind": "service", "module": "m.wasm", **more}
    (folder / "w.yml").write_text(json.dumps(document))
    [one] = load.read(folder / "w.yml", {})
    found = desired(one, Assignment("h", "process", RUNTIME, ""))
    for digest, path in one.blobs.items():
        packed = zlib.compress(path.read_bytes())
        store.take(io.BytesIO(packed), digest, len(packed))
    return found


def test_the_revision_tells_every_change(root: Path, tmp_path: Path) -> None:
    first = wanted(tmp_path)
    assert wanted(tmp_path)["revision"] == first["revision"]
    changes: list[dict[str, Any]] = [{"args": ["x"]}, {"env": {"A": "1"}}, {"limits": {"cpu": 1}}, {"network": True},
                                     {"files": [{"source": "config", "guest": "/c/x"}]}]
    assert len({wanted(tmp_path, **change)["revision"] for change in changes} | {first["revision"]}) == 6


def test_a_secret_is_in_no_unit_and_no_record(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "hush-hush")
    found = wanted(tmp_path, secrets={"A": {"env": "GIVEN"}, "B": {"env": "GIVEN", "mount": "/run/secrets/b"}})
    records.keep(found)
    text = "".join(units.files(found).values()) + str(found)
    assert "hush" not in text
    assert '"--env" "A"' in text
    assert f"LoadCredential=b:{units.secrets(found)}/B" in text
    assert '${CREDENTIALS_DIRECTORY}::/run/secrets' in text
    monkeypatch.setenv("GIVEN", "other")
    changed = wanted(tmp_path, secrets={"A": {"env": "GIVEN"}, "B": {"env": "GIVEN", "mount": "/run/secrets/b"}})
    assert changed["revision"] != found["revision"]


def test_wasmedge_keeps_secrets_off_its_command_line(root: Path, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "x")
    found = wanted(tmp_path, secrets={"A": {"env": "GIVEN"}})
    found["runtime"] = {**RUNTIME, "name": "wasmedge"}
    with pytest.raises(HostError, match="HOST_020"):
        argv.command(found)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_takes_the_units(root: Path, tmp_path: Path) -> None:
    schedule = {"cron": "5 4 * * *", "time_zone": "Europe/Berlin", "missed": True}
    held = [{"port": 80}, {"port": 81, "protocol": "http"}]
    for more in ({}, {"kind": "job", "args": ['a "b" $c %d \\e']}, {"kind": "schedule", "schedule": schedule},
                 {"ports": held}, {"ports": held, "network": True}):
        texts = units.files(wanted(tmp_path, **more))
        for name, text in texts.items():
            runnable = text.replace(places.COMMAND, "/bin/true").replace(RUNTIME["command"], "/bin/true")
            (tmp_path / name).write_text(runnable)
        for name in texts:
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
                                  capture_output=True, text=True, check=False)
            assert name not in done.stderr, done.stderr


def test_instances_of_a_service_with_ports(root: Path, tmp_path: Path) -> None:
    found = wanted(tmp_path, ports=[{"port": 80}, {"port": 81, "protocol": "http"}])
    text = units.files(found)[units.template(found)]
    first, second = ({**found, "slot": slot} for slot in "12")
    assert units.service(first) != units.service(second)
    assert units.files(first) == units.files(second), "one file for all instances"
    mine, other = (set(handover.endpoints(one)) for one in (first, second))
    assert not mine & other
    for at, (_, port) in enumerate(handover.endpoints(first)):
        assert f'"PORT_{80 + at}={str(port)[:-1]}%i"' in text
    assert "PrivateNetwork=yes" in text
    assert f"JoinsNamespaceOf={ports.relay(found)}" in text
    relay = units.files(found)[ports.relay(found)]
    assert "relay 80=tcp 81=http" in relay
    assert "PrivateNetwork=yes" in relay
    open_ = wanted(tmp_path, ports=[{"port": 80}], network=True)
    assert "PrivateNetwork" not in "".join(units.files(open_).values())
    assert ports.relay(open_) != ports.relay(found), "another list of ports has a relay of its own"


def test_a_handler_is_served_and_nothing_more(root: Path, tmp_path: Path) -> None:
    (tmp_path / "handler.wasm").write_bytes(component("x"))
    found = wanted(tmp_path, module="handler.wasm", ports=[{"port": 80}], env={"A": "1"})
    command = argv.command(found)
    assert command[1] == "serve"
    assert f"127.0.0.1:{ports.inner(found, ports.SLOT)[0]}" in command
    assert "inherit-network" not in " ".join(command)
    assert "A=1" in command


def test_the_store_takes_nothing_else(root: Path) -> None:
    packed = zlib.compress(b"other")
    with pytest.raises(HostError, match="HOST_001"):
        store.take(io.BytesIO(packed), "0" * 64, len(packed))
    with pytest.raises(HostError, match="HOST_001"):
        store.take(io.BytesIO(packed[:3]), "0" * 64, len(packed))
    assert list(places.STORE.iterdir()) == []


def test_a_changed_file_is_not_started(root: Path, tmp_path: Path) -> None:
    found = wanted(tmp_path)
    [digest] = records.digests(found)
    store.verify(digest)
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"other")
    with pytest.raises(HostError, match="HOST_003"):
        store.verify(digest)


def test_what_other_roles_keep_is_left_to_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RUN", root / str(places.RUN).lstrip("/"))
    monkeypatch.setattr(systemd, "call", lambda *_, **__: "")
    monkeypatch.setattr(containers, "forget", lambda: None)
    others = [root / name for name in ("var/lib/skerry/images.json", "var/lib/skerry/artifacts.json",
                                       "run/skerry/docker.json")]
    for one in others:
        places.write(one, '{"of": "another role"}')
    for mine in (places.STATE, places.RUN):
        places.write(mine / "images.json", "{}")
    apply.clear()
    assert [one.read_text() for one in others] == ['{"of": "another role"}'] * 3
    assert not places.STATE.exists()
    assert not places.RUN.exists()


def test_five_revisions_are_kept(root: Path, tmp_path: Path) -> None:
    kept = []
    for number in range(1, 8):
        found = wanted(tmp_path, args=[str(number)])
        kept.append(found["revision"])
        assert records.keep(found) == number
        records.enforce("a", number)
    assert records.revisions("a") == [3, 4, 5, 6, 7]
    assert (records.current("a") or {})["revision"] == kept[-1]
    assert records.find("a", kept[3][:10]) == 4
    assert records.find("a", "r5") == 5
    assert records.find("a", kept[0][:10]) is None
    assert records.keep(wanted(tmp_path, args=["7"])) == 7, "the same again is no new revision"
    assert store.collect(records.used()) == []
    records.forget("a")
    assert len(store.collect(records.used())) == 1


def test_only_its_owner_moves_or_prunes_a_workload(root: Path, tmp_path: Path) -> None:
    found = wanted(tmp_path)  # its name is a, its owner w
    records.enforce("a", records.keep(found))

    def gone(owner: str, names: list[str], prune: bool) -> list[str]:
        return [entry["name"] for entry in apply.plan([], owner, names, prune) if entry["action"] == "remove"]

    assert gone("w", ["a"], False) == ["a"], "it was submitted for other hosts"
    assert gone("w", ["b"], False) == []
    assert gone("w", ["b"], True) == ["a"]
    for prune in (False, True):
        assert gone("somebody-else", ["a"], prune) == []
