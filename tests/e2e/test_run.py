"""`skerry run` as a process against hosts: every rung that they have, bad hosts beside good ones, nothing left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
import yaml

from skerry import paths
from skerry.running.show import KEYS
from skerry.targets.inventory import read

pytestmark = pytest.mark.hosts

ROOT = paths.root()
#: The spec's keys, then what we add.
WANTED = {"host", "rung", "runtime", "version", "exit_code", "trap", "limit", "stdout", "stderr", "seconds",
          "memory_bytes"}
ADDED = {"mode", "note", "error"}


@pytest.fixture(scope="module")
def hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """The hosts' variables."""
    return {target.name: dict(target.variables) for target in read([str(inventory)])}


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder of modules, by name."""
    for name in ("loops", "eats", "prints", "unreachable", "recurses"):
        (tmp_path / f"{name}.wasm").write_bytes(wasm_modules.module(name))
    (tmp_path / "exits.wasm").write_bytes(wasm_modules.exiting(7))
    return tmp_path


def skerry(*arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """The command line, as people start it."""
    command = [sys.executable, str(ROOT / "skerry"), "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What --json printed."""
    found = [json.loads(line) for line in done.stdout.split("\n") if line]
    for one in found:
        assert tuple(one) == KEYS
        assert set(one) == WANTED | ADDED
    return found


def container(host: str, variables: dict[str, Any]) -> str:
    """The sandbox container of a host."""
    return f"{variables['sandbox_name']}-{host}"


def inside(name: str, command: str) -> str:
    """Run a shell command in a sandbox host, as root."""
    done = subprocess.run(["docker", "exec", name, "sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


LEFT = (
    "ls -d /var/tmp/skerry-* /tmp/skerry-* /sys/fs/cgroup/*/skerry-* /sys/fs/cgroup/skerry-* 2>/dev/null; "
    "pgrep -a -f 'SKERRY-[B]OOT' ; "
    "command -v docker >/dev/null && docker ps -aq --filter label=dev.skerry.session; "
    "command -v docker >/dev/null && docker images -q --filter label=dev.skerry.session; "
    "[ -S /run/k3s/containerd/containerd.sock ] && k3s ctr -n k8s.io images ls -q | grep ^skerry.local/; true"
)


def left_on(hosts: dict[str, dict[str, Any]], seconds: float = 40) -> dict[str, str]:
    """What sessions left on hosts, waited for a while."""
    deadline = time.monotonic() + seconds
    while True:
        found = {host: inside(container(host, values), LEFT).strip() for host, values in hosts.items()}
        found = {host: text for host, text in found.items() if text}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_every_host_and_rung_gives_the_same_output(inventory: Path, hosts: dict[str, Any], tmp_path: Path) -> None:
    stdin = tmp_path / "in"
    stdin.write_bytes(b"x" * 5000)
    done = skerry(wasm_modules.world(), "-i", inventory, "--json", "--stdin", stdin, "--env", "T_A=1", "--env",
                  "T_B=x=y", "--dir", "/etc::/etc-of-host", "--timeout", "120", "--", "0", "two words")
    found = objects(done)
    assert done.returncode == 0, done.stderr + str([one["error"] for one in found])
    assert {one["host"] for one in found} == set(hosts)
    rungs = {(one["rung"], one["runtime"]) for one in found}
    wasmedge = {("embedded", "wasmedge"), ("process", "wasmedge"), ("container", "wasmedge")}
    assert {("embedded", "wasmtime")} | wasmedge <= rungs
    name = wasm_modules.world().name
    expected = (f"argument {name}\nargument 0\nargument two words\nvariable T_A=1\nvariable T_B=x=y\n"
                "input 5000\nno newline at the end")
    for one in found:
        label = f"{one['host']} {one['rung']} {one['runtime']}"
        assert sorted(one["stdout"].splitlines()) == sorted(expected.splitlines()), label  # variables have no order
        assert one["stdout"].endswith("end"), label
        assert one["stderr"] == "a word on standard error", label
        assert one["seconds"] > 0 and one["memory_bytes"] > 0 and one["version"], label
    assert not left_on(hosts)


def test_exit_codes_and_traps_on_every_rung(inventory: Path, modules: Path) -> None:
    done = skerry(modules / "exits.wasm", "-i", inventory, "--json")
    assert done.returncode == 1
    for one in objects(done):
        if one["note"]:  # crun drops exit codes, and says so
            assert one["rung"] in ("container", "pod") and one["runtime"] == "wasmedge" and one["exit_code"] == 0
        else:
            assert (one["exit_code"], one["trap"]) == (7, None), f"{one}"
        assert one["memory_bytes"] < 256 << 20, f"{one}"  # its own, not that of the host
    done = skerry(modules / "unreachable.wasm", "-i", inventory, "--json")
    assert done.returncode == 1
    assert {(one["trap"], one["exit_code"]) for one in objects(done)} == {("unreachable", None)}


def test_endless_recursion_ends_everywhere(inventory: Path, modules: Path) -> None:
    done = skerry(modules / "recurses.wasm", "-i", inventory, "--json", "--memory", "64M", "--timeout", "100")
    assert done.returncode == 1
    for one in objects(done):  # WasmEdge's interpreter has no limit of its own (docs/wasi-findings.md)
        ended = ("stack_overflow", None) if one["runtime"] == "wasmtime" else (None, "memory")
        assert (one["trap"], one["limit"]) == ended, {**one, "stdout": ""}


@pytest.mark.parametrize(("name", "limit"), [("loops", "timeout"), ("eats", "memory"), ("prints", "output")])
def test_limits_on_every_rung(inventory: Path, hosts: dict[str, Any], modules: Path, name: str, limit: str) -> None:
    options = {"loops": ("--timeout", "3"), "eats": ("--memory", "64M", "--timeout", "100"),
               "prints": ("--output-limit", "200K", "--timeout", "100")}[name]
    done = skerry(modules / f"{name}.wasm", "-i", inventory, "--json", *options)
    found = objects(done)
    assert done.returncode == 1
    wrong = [one for one in found if one["limit"] != limit or one["exit_code"] is not None or one["error"]]
    assert not wrong, [{**one, "stdout": ""} for one in wrong]
    assert not left_on(hosts)


def test_output_carries_host_and_rung(inventory: Path, hosts: dict[str, Any]) -> None:
    host = next(iter(hosts))
    done = skerry(wasm_modules.world(), "-i", inventory, "--on", host, "--rung", "embedded", "--", "0")
    assert done.returncode == 0, done.stderr
    assert f"{host} embedded/wasmtime/aot | no newline at the end\n" in done.stdout
    assert f"{host} embedded/wasmtime/aot ! a word on standard error\n" in done.stderr
    assert "exit 0" in done.stderr


# Bad hosts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_hosts(tmp_path: Path, hosts: dict[str, dict[str, Any]]) -> Iterator[Path]:
    """An inventory of one good host and one of every bad kind, all made of real hosts."""
    name, good = next(iter(hosts.items()))
    box = container(name, good)
    keys = tmp_path / "keys"
    keys.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / "other")], check=True)
    public = (keys / "other.pub").read_text(encoding="utf-8")
    (keys / "changed").write_text(f"{good['ansible_host']} {' '.join(public.split()[:2])}\n", encoding="utf-8")
    inside(box, "useradd -m nosudo && mkdir -p ~nosudo/.ssh && mkdir -p /srv/full && "
                "mount -t tmpfs -o size=16k tmpfs /srv/full")
    inside(box, f"echo '{public.strip()}' > ~nosudo/.ssh/authorized_keys && chown -R nosudo ~nosudo/.ssh")
    nowhere = good["ansible_host"].rsplit(".", 1)[0] + ".250"
    changed = f"-o UserKnownHostsFile={keys / 'changed'} -o StrictHostKeyChecking=yes"
    content = {
        "good": good,
        "unreachable": {**good, "ansible_host": nowhere},
        "unresolved": {**good, "ansible_host": "no-such-host.invalid"},
        "wrong_key": {**good, "ansible_ssh_private_key_file": str(keys / "other")},
        "changed_key": {**good, "ansible_ssh_common_args": changed},
        "no_python": {**good, "ansible_python_interpreter": "/usr/bin/no-python"},
        "no_sudo": {**good, "ansible_user": "nosudo", "ansible_ssh_private_key_file": str(keys / "other")},
        "full_disk": {**good, "skerry_run_dir": "/srv/full"},
    }
    path = tmp_path / "bad.yml"
    path.write_text(yaml.safe_dump({"all": {"hosts": content}}), encoding="utf-8")
    yield path
    inside(box, "umount /srv/full; rmdir /srv/full; userdel -rf nosudo 2>/dev/null; true")


CODES = {"unreachable": "TARGET_003", "unresolved": "TARGET_002", "wrong_key": "TARGET_004",
         "changed_key": "TARGET_005", "no_python": "TARGET_006", "no_sudo": "TARGET_007", "full_disk": "TARGET_008"}


def test_bad_hosts_have_their_own_errors_and_the_good_one_carries_on(bad_hosts: Path, modules: Path) -> None:
    done = skerry(modules / "exits.wasm", "-i", bad_hosts, "--json", "--rung", "embedded/wasmtime")
    found = objects(done)
    assert done.returncode == 4
    assert {one["host"]: one["error"]["code"] for one in found if one["error"]} == CODES
    assert all(one["error"]["remedy"] for one in found if one["error"])
    assert [(one["host"], one["exit_code"]) for one in found if not one["error"]] == [("good", 7)]


def test_people_are_told_too(bad_hosts: Path, modules: Path) -> None:
    done = skerry(modules / "exits.wasm", "-i", bad_hosts, "--on", "good,no_sudo", "--rung", "embedded/wasmtime")
    assert done.returncode == 4
    assert "TARGET_007 host no_sudo: no sudo rights" in done.stderr
    assert "remedy:" in done.stderr and "Traceback" not in done.stderr
    assert "good" in done.stderr and "exit 7" in done.stderr


def test_an_unknown_host_is_refused_before_anything_is_done(inventory: Path, modules: Path) -> None:
    done = skerry(modules / "exits.wasm", "-i", inventory, "--on", "no-such-host")
    assert (done.returncode, done.stdout) == (2, "")
    assert "TARGET_001" in done.stderr and "remedy:" in done.stderr


def test_what_is_no_module_is_refused_before_anything_is_done(inventory: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.wasm"
    path.write_text("no module", encoding="utf-8")
    done = skerry(path, "-i", inventory)
    assert (done.returncode, done.stdout) == (2, "")
    assert "RUN_002" in done.stderr


# What stays behind ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_command_is_killed(
    inventory: Path, hosts: dict[str, dict[str, Any]], modules: Path, number: signal.Signals
) -> None:
    command = [sys.executable, str(ROOT / "skerry"), "run", str(modules / "loops.wasm"), "-i", str(inventory),
               "--timeout", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 60
        busy: set[str] = set()
        while busy != set(hosts) and time.monotonic() < deadline:
            busy = {host for host, values in hosts.items() if inside(container(host, values), LEFT).strip()}
            time.sleep(0.5)
        assert busy == set(hosts)
        time.sleep(5)
        running.send_signal(number)
        code = running.wait(60)
    assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert not left_on(hosts)
