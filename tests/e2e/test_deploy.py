"""`skerry deploy` and its relatives as processes against hosts: what a file says is there, stays, is replaced, goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
import yaml

from skerry import paths
from skerry.targets.inventory import read

pytestmark = pytest.mark.hosts

ROOT = paths.root()
ENVIRONMENT = {**os.environ, "SKERRY_TEST_TOKEN": "hush$\"'hush", "NO_COLOR": "1", "COLUMNS": "160"}
#: Prints what it was given, then a line each 100 ms for ever; an argument is the code with which it ends at once.
SERVICE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
  char line[64] = "no file";
  FILE *file = fopen("/etc/app/config", "r");
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (file && fgets(line, sizeof line, file)) line[5] = 0;
  printf("%s token=%s config=%s\n", argv[0], getenv("TOKEN") ? getenv("TOKEN") : "none", line);
  if (argc > 1) return atoi(argv[1]);
  for (int at = 0;; at++) { printf("tick %d\n", at); usleep(100000); }
}
"""

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> Path:
    """Converged hosts: those of all scenarios, or those that SKERRY_RUN_INVENTORY names."""
    if named := os.environ.get("SKERRY_RUN_INVENTORY"):
        return Path(named)
    shared: Path = request.getfixturevalue("shared_inventory")
    return shared


def skerry(*words: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """The command line, as people start it; ``code``: how it must end, None while that is still open."""
    command = [sys.executable, str(ROOT / "skerry"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=ENVIRONMENT)
    assert code in (None, done.returncode), f"{' '.join(command[2:])}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def inside(host: str, variables: dict[str, Any], command: str) -> str:
    """Run a shell command in a sandbox host, as root."""
    name = f"{variables['sandbox_name']}-{host}"
    done = subprocess.run(["docker", "exec", name, "sh", "-c", command], capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """Hosts that have wasmtime and the host's side, with their variables."""
    every = {target.name: dict(target.variables) for target in read([str(inventory)])}
    look = "test -x /usr/local/sbin/skerry-host && grep -q 'bin/wasmtime' /etc/ansible/facts.d/skerry.fact"
    found = {name: values for name, values in every.items() if "yes" in inside(name, values, f"{look} && echo yes")}
    if not found:
        pytest.skip("no host has wasmtime's command: it is in no mirror here")
    return found


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service, built with the toolchain from PyPI."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "service.c").write_text(SERVICE)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s"]
    subprocess.run([*command, "-o", str(folder / "ticker.wasm"), str(folder / "service.c")], check=True)
    return folder / "ticker.wasm"


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


TICKER = {"name": "ticker", "kind": "service", "module": "ticker.wasm", "readiness": {"line": "tick 2", "timeout": 30},
          "secrets": {"TOKEN": {"env": "SKERRY_TEST_TOKEN"}}, "limits": {"memory": "64Mi", "cpu": 0.5},
          "files": [{"source": "config", "guest": "/etc/app/config"}]}


def rows(inventory: Path, name: str, code: int | None = 0) -> list[dict[str, Any]]:
    return objects(skerry("ps", name, "-i", inventory, "--json", code=code))


def actions(outcomes: list[dict[str, Any]]) -> set[str]:
    return {one["action"] for one in outcomes}


def test_the_second_time_nothing_changes(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    assert actions(run(TICKER, options=("--dry-run",))) == {"create"}
    assert not rows(inventory, "ticker")
    first = run(TICKER)
    assert {(one["host"], one["action"], one["rung"]) for one in first} == {(h, "created", "process") for h in hosts}
    assert actions(run(TICKER)) == {"unchanged"}
    for row in rows(inventory, "ticker"):
        assert (row["state"], row["ready"], row["restarts"]) == ("running", True, 0)
    lines = objects(skerry("logs", "ticker", "-i", inventory, "--json", "-n", "1000"))
    said = {(one["host"], one["line"]) for one in lines if "token=" in one["line"]}
    assert said == {(host, "ticker token=hush$\"'hush config=first") for host in hosts}
    for host, values in hosts.items():
        assert "hush" not in inside(host, values, "systemctl cat 'skerry-ticker*'; ps axww")
        assert "DynamicUser=yes" in inside(host, values, "systemctl cat 'skerry-ticker*'")


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


def test_an_unreachable_host_is_unknown_and_caught_up(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    if len(hosts) < 2:
        pytest.skip("it takes two hosts with wasmtime")
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
        pytest.skip("it takes two hosts with wasmtime")
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
