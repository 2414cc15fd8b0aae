"""`skerry deploy` and its relatives as processes against hosts: what a file says is there, stays, is replaced, goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
import yaml
from deploying import (
    HAS_RUNTIME,
    SERVICE,
    TOKEN,
    Run,
    able,
    actions,
    build,
    inside,
    objects,
    rows,
    skerry,
)
from deploying import (
    TICKER as EXPOSED,
)

pytestmark = pytest.mark.hosts

TICKER = {**EXPOSED, "secrets": {"TOKEN": {"env": "SKERRY_TEST_TOKEN", "mount": "/run/secrets/token"}}}


@pytest.fixture(scope="module")
def hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """Hosts that have a runtime and the host's side, with their variables."""
    return able(inventory, HAS_RUNTIME, "no host has a runtime's command")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service, built with the toolchain from PyPI."""
    return build(SERVICE, tmp_path_factory.mktemp("module") / "ticker.wasm")


@pytest.fixture
def run(inventory: Path, hosts: dict[str, Any], tmp_path: Path, module: Path) -> Iterator[Run]:
    """Deploy documents; everything of them is gone afterwards."""
    (tmp_path / "config").write_text("first line\n")
    for name in ("loops", "eats", "prints"):
        (tmp_path / f"{name}.wasm").write_bytes(wasm_modules.module(name))
    (tmp_path / "ticker.wasm").write_bytes(module.read_bytes())

    def deploy(*documents: dict[str, Any], code: int = 0, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        placed = [{"placement": {"hosts": list(hosts)}, **one} for one in documents]
        (tmp_path / "e2e.yml").write_text(yaml.safe_dump_all(placed))
        return objects(skerry("deploy", tmp_path / "e2e.yml", "-i", inventory, "--json", *options, code=code))

    yield deploy
    last = {"name": "last", "kind": "job", "module": "ticker.wasm", "args": [0]}
    (tmp_path / "e2e.yml").write_text(yaml.safe_dump(last))
    skerry("deploy", tmp_path / "e2e.yml", "-i", inventory, "--prune")
    skerry("undeploy", "last", "-i", inventory)


def test_the_second_time_nothing_changes(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    assert actions(run(TICKER, options=("--dry-run",))) == {"create"}
    assert not rows(inventory, "ticker")
    first = run(TICKER)
    assert {(one["host"], one["action"], one["rung"]) for one in first} == {(h, "created", "process") for h in hosts}
    assert actions(run(TICKER)) == {"unchanged"}
    for row in rows(inventory, "ticker"):
        assert (row["state"], row["ready"], row["restarts"]) == ("running", True, 0)
    lines = objects(skerry("logs", "ticker", "-i", inventory, "--json", "-n", "1000"))
    said = {(one["host"], one["line"].partition(" ")[2]) for one in lines if "token=" in one["line"]}
    assert said == {(host, f"token={TOKEN} config=first") for host in hosts}
    for host, values in hosts.items():
        assert "hush" not in inside(host, values, "systemctl cat 'skerry-ticker*'; ps axww")
        assert "DynamicUser=yes" in inside(host, values, "systemctl cat 'skerry-ticker*'")


def test_too_few_places_are_told(run: Run, hosts: dict[str, Any]) -> None:
    wanted = {**TICKER, "placement": {"hosts": list(hosts), "replicas": 99}}
    *planned, missing = run(wanted, code=1, options=("--dry-run",))
    assert {one["host"] for one in planned} == set(hosts)
    assert missing["short"] == f"{len(hosts)} of 99 replicas have a place"
    assert not set(missing["passed_over"]) & set(hosts)


def test_what_does_not_come_up_leaves_the_former_one(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(TICKER)
    before = {row["host"]: row["revision"] for row in rows(inventory, "ticker")}
    outcomes = run({**TICKER, "args": ["3"]}, code=1)
    failed = [one for one in outcomes if one["action"] == "failed"]
    assert failed
    assert all(one["kept"] and one["error"]["code"] == "HOST_011" for one in failed)
    assert actions(outcomes) <= {"failed", "held"}
    assert {row["host"]: row["revision"] for row in rows(inventory, "ticker")} == before
    for host, values in hosts.items():
        assert inside(host, values, "ls /etc/systemd/system | grep -c '^skerry-ticker'").strip() == "1"


def test_a_secret_in_the_environment_is_nobody_elses(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    able = [host for host, values in hosts.items() if inside(host, values, "command -v wasmtime").strip()]
    if not able:  # WasmEdge takes variables on its command line only
        planned = run({**EXPOSED, "rung": "process"}, code=1)
        assert not planned
        pytest.skip("no host has wasmtime: that WasmEdge is not given the secret was seen")
    run({**EXPOSED, "placement": {"hosts": able}})
    lines = objects(skerry("logs", "ticker", "-i", inventory, "--json", "-n", "1000"))
    assert {one["host"] for one in lines if f"token={TOKEN} " in one["line"]} == set(able)
    for host in able:
        assert "hush" not in inside(host, hosts[host], "systemctl cat 'skerry-ticker*'; ps axww")


def test_rollback_goes_to_a_kept_revision(run: Run, inventory: Path) -> None:
    run(TICKER)
    first = {row["revision"] for row in rows(inventory, "ticker")}
    changed = run({**TICKER, "env": {"NEW": "1"}}, options=("--diff",))
    assert actions(changed) == {"changed"}
    assert changed[0]["changes"] == {"env": [{}, {"NEW": "1"}]}
    skerry("rollback", "ticker", "-i", inventory)
    assert {row["revision"] for row in rows(inventory, "ticker")} == first
    skerry("rollback", "ticker", "-i", inventory, "--to", "r2")
    assert {row["revision"] for row in rows(inventory, "ticker")} != first
    skerry("restart", "ticker", "-i", inventory)
    assert all(row["ready"] for row in rows(inventory, "ticker"))


LIMITS = {"loops": {"time": "2s"}, "eats": {"memory": "48Mi"}, "prints": {"output": "200Ki"}}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_ends_a_job_and_is_told(run: Run, inventory: Path, name: str) -> None:
    limits = LIMITS[name]
    [limit] = limits
    run({"name": name, "kind": "job", "module": f"{name}.wasm", "limits": limits}, TICKER)
    deadline = time.monotonic() + 60
    while any(row["last"] is None for row in rows(inventory, name, code=None)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for row in rows(inventory, name, code=1):
        assert (row["state"], row["last"]["limit"], row["last"]["exit_code"]) == ("failed", limit, None), row
    assert all(row["ready"] for row in rows(inventory, "ticker")), "the neighbour goes on"


def test_a_job_runs_once_more_and_a_schedule_waits(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    job = {"name": "job", "kind": "job", "module": "ticker.wasm", "args": ["0"]}
    schedule = {"name": "nightly", "kind": "schedule", "module": "ticker.wasm", "args": ["0"],
                "schedule": {"cron": "30 2 * * mon-fri", "time_zone": "Europe/Berlin"}}
    run(job, schedule)
    ids = skerry("job", "run", "nightly", "-i", inventory, "--id-only").stdout.split()
    assert {one.split("/")[0] for one in ids} == set(hosts)
    deadline = time.monotonic() + 30
    while not all(row["last"] for row in rows(inventory, "nightly")) and time.monotonic() < deadline:
        time.sleep(0.3)
    for row in rows(inventory, "nightly"):
        assert (row["state"], row["last"]["exit_code"]) == ("waiting", 0)
        assert f"{row['host']}/{row['last']['invocation']}" in ids
    assert actions(run(schedule, options=("--prune",))) == {"unchanged", "removed"}
    assert not rows(inventory, "job")


def test_wait_stays_until_jobs_have_run(run: Run, hosts: dict[str, Any]) -> None:
    for code in (0, 3):
        job = {"name": "job", "kind": "job", "module": "ticker.wasm", "args": [str(code)]}
        told = run(job, TICKER, options=("--wait", "60"), code=min(code, 1))
        ended = {one["host"]: one["last"]["exit_code"] for one in told if one.get("state") in ("done", "failed")}
        assert ended == dict.fromkeys(hosts, code)


def test_an_unreachable_host_is_unknown_and_caught_up(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    if len(hosts) < 2:
        pytest.skip("it takes two hosts with a runtime")
    run(TICKER)
    name, values = next(iter(hosts.items()))
    inside(name, values, "iptables -I INPUT -p tcp --dport 22 -j REJECT")
    try:
        outcomes = run({**TICKER, "env": {"B": "1"}}, code=4)
        assert {one["action"] for one in outcomes if one.get("host") == name and "action" in one} == {"unknown"}
        assert {row["host"]: row["state"] for row in rows(inventory, "ticker", code=4)}[name] == "unknown"
    finally:
        inside(name, values, "iptables -D INPUT -p tcp --dport 22 -j REJECT")
    caught = {one["host"]: one["action"] for one in run({**TICKER, "env": {"B": "1"}})}
    assert caught == {host: "changed" if host == name else "unchanged" for host in hosts}


def test_a_replica_moves_and_nobody_elses_workload_goes(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    if len(hosts) < 2:
        pytest.skip("it takes two hosts with a runtime")
    first, second = list(hosts)[:2]
    run({**TICKER, "placement": {"hosts": [first]}})
    other = run({**TICKER, "placement": {"hosts": [second]}}, options=("--owner", "other"))
    assert {(one["host"], one["action"]) for one in other} == {(second, "created")}
    assert {(row["host"], row["owner"]) for row in rows(inventory, "ticker")} == {(first, "e2e"), (second, "other")}
    skerry("undeploy", "ticker", "-i", inventory, "--on", second)
    moved = run({**TICKER, "placement": {"hosts": [second]}})
    assert {(one["host"], one["action"]) for one in moved} == {(second, "created"), (first, "removed")}


def test_bad_input_changes_nothing(run: Run, inventory: Path, tmp_path: Path) -> None:
    assert run({"name": "a", "kind": "job", "module": "none.wasm"}, code=2) == []
    assert run({"name": "a", "kind": "jobs", "module": "ticker.wasm"}, code=2) == []
    assert run({**TICKER, "placement": {"hosts": ["nowhere"]}}, code=2) == []
    assert run({**TICKER, "placement": {"arch": "arm"}}, code=1) == []
    assert not rows(inventory, "ticker")
    error = skerry("undeploy", "nothing", "-i", inventory, code=1).stderr
    assert "DEPLOY_022" in error
