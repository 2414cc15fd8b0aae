"""`skerry reconcile`, `skerry move` and `skerry ps --watch` as processes against hosts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploying import (
    ENVIRONMENT,
    HAS_RUNTIME,
    ROOT,
    SERVICE,
    STATE,
    Run,
    actions,
    build,
    converged,
    hosts_with,
    inside,
    objects,
    rows,
    skerry,
)

pytestmark = pytest.mark.hosts

#: Its directory of the host says whether it comes up.
TICKER = {"name": "ticker", "kind": "service", "module": "ticker.wasm", "placement": {"replicas": 1},
          "readiness": {"line": "config=good", "timeout": 4},
          "secrets": {"TOKEN": {"env": "SKERRY_TEST_TOKEN", "mount": "/run/secrets/token"}},
          "directories": [{"host": "/srv/skerry-reconcile", "guest": "/etc/app"}]}
NIGHTLY = {"name": "nightly", "kind": "schedule", "module": "ticker.wasm", "args": [0],
           "schedule": {"cron": "@daily", "time_zone": "Europe/Berlin"}}
BLOCK = "iptables {} INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset"


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Two hosts that have a runtime and the host's side, with their variables."""
    found = hosts_with(converged(request), HAS_RUNTIME)
    if len(found) < 2:
        pytest.skip("it takes two hosts with a runtime's command")
    return dict(list(found.items())[:2])


@pytest.fixture
def inventory(hosts: dict[str, dict[str, Any]], tmp_path: Path) -> Iterator[Path]:
    """These two alone, so that the controller has notes of their own; nothing is left on them afterwards."""
    place = tmp_path / "hosts.yml"
    logins = {name: {key: value for key, value in values.items() if key.startswith("ansible_")}
              for name, values in hosts.items()}
    place.write_text(yaml.safe_dump({"all": {"hosts": logins}}))
    for host, values in hosts.items():
        inside(host, values, "mkdir -p /srv/skerry-reconcile && echo good > /srv/skerry-reconcile/config")
    yield place
    for host, values in hosts.items():
        inside(host, values, BLOCK.format("-D"))
    for name in ("ticker", "nightly"):
        skerry("undeploy", name, "-i", place, code=None)
    for host, values in hosts.items():
        inside(host, values, "rm -r /srv/skerry-reconcile")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(SERVICE, tmp_path_factory.mktemp("module") / "ticker.wasm")


@pytest.fixture
def run(inventory: Path, tmp_path: Path, module: Path) -> Run:
    """Deploy documents; file and module are gone again afterwards: what follows cannot read them."""

    def deploy(*documents: dict[str, Any], code: int = 0, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        (tmp_path / "site.yml").write_text(yaml.safe_dump_all(documents))
        (tmp_path / "ticker.wasm").write_bytes(module.read_bytes())
        done = skerry("deploy", tmp_path / "site.yml", "-i", inventory, "--json", *options, code=code)
        (tmp_path / "site.yml").unlink()
        (tmp_path / "ticker.wasm").unlink()
        return objects(done)

    return deploy


def reconcile(inventory: Path, *words: str, code: int = 0) -> dict[tuple[str, str], str]:
    """(workload, host) -> what was done."""
    said = objects(skerry("reconcile", "-i", inventory, "--json", *words, code=code))
    return {(one["name"], one["host"]): one["action"] for one in said if "action" in one}


def place_of(inventory: Path) -> str:
    [row] = rows(inventory, "ticker")
    return str(row["host"])


def test_what_was_deployed_is_brought_about_again_without_its_file(
        run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(TICKER, NIGHTLY)
    here = place_of(inventory)
    assert set(reconcile(inventory).values()) == {"unchanged"}
    inside(here, hosts[here], f"systemctl stop 'skerry-ticker.*' skerry-nightly.timer; rm {STATE}/store/*")
    expected = {("ticker", here): "repaired"} | {("nightly", host): "unchanged" for host in hosts}
    expected["nightly", here] = "repaired"
    assert reconcile(inventory) == expected
    assert all(row["ready"] for row in rows(inventory, "ticker"))

    run({**TICKER, "env": {"NEW": "1"}}, NIGHTLY)
    skerry("rollback", "ticker", "-i", inventory)
    [former] = rows(inventory, "ticker")
    inside(here, hosts[here], "systemctl stop 'skerry-ticker.*'")
    assert reconcile(inventory)["ticker", here] == "repaired", "what was rolled back is not rolled forward"
    assert [row["revision"] for row in rows(inventory, "ticker")] == [former["revision"]]

    state = next(one for one in (ROOT / ".skerry" / "deployments").glob("*.wanted.json") if '"NEW"' in one.read_text())
    assert state.stat().st_mode & 0o777 == 0o600
    assert "hush" not in state.read_text()


def test_a_dead_hosts_workloads_go_elsewhere_and_it_is_cleaned_when_it_comes_back(
        run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(TICKER, NIGHTLY)
    here = place_of(inventory)
    [there] = set(hosts) - {here}
    inside(here, hosts[here], BLOCK.format("-I"))
    assert reconcile(inventory, code=4)["ticker", here] == "unknown"
    done = reconcile(inventory, "--dead", here)
    assert done == {("ticker", there): "created", ("ticker", here): "dead", ("nightly", there): "unchanged",
                    ("nightly", here): "dead"}
    assert {row["host"]: row["state"] for row in rows(inventory, "ticker")} == {here: "dead", there: "running"}
    assert actions(run(TICKER, NIGHTLY)) == {"unchanged", "dead"}
    inside(here, hosts[here], BLOCK.format("-D"))
    said = skerry("ps", "-i", inventory).stdout
    assert f"{here} was declared dead" in said
    again = reconcile(inventory)
    assert (again["ticker", here], again["nightly", here]) == ("removed", "removed")
    assert again["ticker", there] == "unchanged"
    assert reconcile(inventory, "--alive", here) == {("ticker", there): "unchanged", ("nightly", there): "unchanged",
                                                     ("nightly", here): "created"}
    assert "DEPLOY_101" in skerry("reconcile", "-i", inventory, "--dead", "nobody", code=2).stderr


@contextmanager
def watched(inventory: Path, told: list[dict[str, Any]]) -> Iterator[None]:
    """`skerry ps --watch --json` while the block runs; its events afterwards in ``told``."""
    command = [sys.executable, str(ROOT / "skerry"), "ps", "--watch", "--json", "-i", str(inventory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        told.append(json.loads(process.stdout.readline()))
        try:
            yield
            time.sleep(1.5)
        finally:
            process.send_signal(signal.SIGTERM)
            told += [json.loads(line) for line in process.stdout]
    assert process.returncode == 0


def spoken(host: str, variables: dict[str, Any], since: float) -> list[float]:
    """When the service printed on a host, in seconds since the epoch: the hosts of the tests have one clock."""
    lines = inside(host, variables, "journalctl -t skerry-ticker -o short-unix | grep ' tick '").splitlines()
    return [at for at in (float(line.split()[0]) for line in lines) if at > since]


def test_a_move_has_no_gap_and_is_all_or_nothing(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(TICKER)
    here = place_of(inventory)
    [there] = set(hosts) - {here}
    inside(there, hosts[there], "echo bad > /srv/skerry-reconcile/config")
    failed = skerry("move", "ticker", "-i", inventory, "--from", here, "--to", there, "--json", code=1)
    assert {(one["host"], one["action"], one.get("error", {}).get("code")) for one in objects(failed)} == {
        (there, "failed", "HOST_012"), (here, "held", None)}
    [row] = rows(inventory, "ticker")
    assert (row["host"], row["ready"], row["restarts"]) == (here, True, 0)
    left = inside(there, hosts[there], f"ls /etc/systemd/system {STATE}/workloads | grep ticker")
    assert not left, "nothing half done"
    inside(there, hosts[there], "echo good > /srv/skerry-reconcile/config")

    told: list[dict[str, Any]] = []
    since = time.time()
    with watched(inventory, told):
        moved = objects(skerry("move", "ticker", "-i", inventory, "--from", here, "--to", there, "--json"))
        assert {(one["host"], one["action"]) for one in moved} == {(there, "created"), (here, "removed")}
    states: dict[str, str] = {}
    for event in told:
        states[event["host"]] = "gone" if event["event"] == "gone" else event.get("state", "")
    assert states == {here: "gone", there: "running"}
    assert min(spoken(there, hosts[there], since)) < max(spoken(here, hosts[here], since)), "there was a gap"

    planned = run(TICKER, options=("--dry-run",))
    assert [(one["host"], one["action"], one["why"].split(";")[0]) for one in planned] == [
        (there, "unchanged", "moved here by hand")]
    back = run({**TICKER, "placement": {"replicas": 1, "hosts": [here]}})
    assert {(one["host"], one["action"]) for one in back} == {(here, "created"), (there, "removed")}
    [gone] = [one for one in back if one["host"] == there]
    assert gone["why"] == "it was moved here by hand, but placement.hosts does not name it"
    assert "DEPLOY_114" in skerry("move", "ticker", "-i", inventory, "--from", here, "--to", there, code=1).stderr
    assert "DEPLOY_111" in skerry("move", "nobody", "-i", inventory, "--from", here, "--to", there, code=1).stderr
    assert place_of(inventory) == here


#: Packages that a controller does without as long as it only deploys modules: hosts here are small.
_LARGE = ("ansible_collections", "ziglang", "go", "pyarrow*", "kubernetes", "numpy*", "selenium", "wasmtime", "*mypy*",
          "pip", "aiohttp", "hypothesis", "trio", "setuptools", "ansible_test", "__pycache__")


def shell(host: str, variables: dict[str, Any], command: str, feed: bytes = b"") -> str:
    """A shell command on a host, which must succeed; its output."""
    name = f"{variables['sandbox_name']}-{host}"
    done = subprocess.run(["docker", "exec", "-i", name, "sh", "-ec", command], input=feed, capture_output=True,
                          check=False, timeout=200)
    assert done.returncode == 0, f"{command}\n{done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode()


@pytest.fixture
def controller(hosts: dict[str, dict[str, Any]], module: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A host that has this checkout, with systemd, and is its own only host."""
    asked = "import sys; print(sys.version_info[1])"
    fitting = [(host, values) for host, values in hosts.items()
               if inside(host, values, f"python3 -c '{asked}'").strip() == str(sys.version_info[1])]
    if not fitting:
        pytest.skip(f"no host has Python 3.{sys.version_info[1]}, as the packages of this environment need it")
    host, values = fitting[0]
    names = ["skerry", "tools", "playbooks", "group_vars", "ansible.cfg", "requirements.lock", ".venv/lib",
             ".venv/skerry-lock", ".venv/bin/ansible-inventory"]
    packed = subprocess.run(["tar", "-C", str(ROOT), "-cf", "-", *(f"--exclude={name}" for name in _LARGE), *names],
                            capture_output=True, check=True).stdout
    shell(host, values, f"mkdir -p {ROOT} && tar -C {ROOT} -xf -", packed)
    shell(host, values, f"ln -s /usr/bin/python3 {ROOT}/.venv/bin/python; mkdir /root/lab")
    shell(host, values, f"echo home = /usr/bin > {ROOT}/.venv/pyvenv.cfg")
    shell(host, values, "cat > /root/lab/ticker.wasm", module.read_bytes())
    shell(host, values, "cat > /root/lab/hosts.yml", b"all: {hosts: {here: {ansible_connection: local}}}\n")
    document = {"name": "timed", "kind": "service", "module": "ticker.wasm", "readiness": {"line": "tick 1"}}
    shell(host, values, "cat > /root/lab/site.yml", json.dumps(document).encode())
    yield host, values
    options = "-i /root/lab/hosts.yml"
    inside(host, values, f"{ROOT}/skerry reconcile {options} --remove-timer; {ROOT}/skerry undeploy timed {options}")
    shell(host, values, f"rm -r {ROOT} /root/lab")


@pytest.mark.full
def test_systemd_of_the_controller_reconciles_again_and_again(controller: tuple[str, dict[str, Any]]) -> None:
    host, values = controller

    def skerry_there(words: str) -> str:
        return shell(host, values, f"{ROOT}/skerry {words} -i /root/lab/hosts.yml --json")

    assert json.loads(skerry_there("deploy /root/lab/site.yml"))["action"] == "created"
    first = json.loads(skerry_there("reconcile --install-timer --every 2s"))
    assert first["action"] == "installed"
    assert json.loads(skerry_there("reconcile --install-timer --every 2s"))["action"] == "unchanged"
    assert "2s" in shell(host, values, f"systemctl cat {first['timer']}")
    since = shell(host, values, "date +%s; systemctl stop 'skerry-timed.*'").strip()
    service = first["timer"].replace(".timer", ".service")
    said = f"journalctl --no-pager -o cat -u {service} --since @{since}"
    deadline = time.monotonic() + 90
    while '"action": "repaired"' not in inside(host, values, said):
        assert time.monotonic() < deadline, inside(host, values, said)
        time.sleep(1)
    assert inside(host, values, "systemctl list-units --no-legend --state=active 'skerry-timed.*'")
    bad = inside(host, values, f"{ROOT}/skerry reconcile --install-timer --every often -i /root/lab/hosts.yml 2>&1")
    assert "DEPLOY_108" in bad
    assert json.loads(skerry_there("reconcile --remove-timer"))["action"] == "removed"
    assert json.loads(skerry_there("reconcile --remove-timer"))["action"] == "absent"
    assert not inside(host, values, "ls /etc/systemd/system | grep skerry-reconcile")
