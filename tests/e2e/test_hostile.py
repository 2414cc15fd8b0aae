"""Modules that mean harm, on every rung of real hosts: the limit that is meant for it ends each and is named, nothing
outside of what it was given is touched, and a neighbour goes on all the while (docs/protection.md)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import hostile_modules
import pytest
import wasm_modules
import yaml
from deploying import ENVIRONMENT, ROOT, SERVICE, STATE, build, hosts_with, inside, objects, rows, skerry

from skerry.status import kubeconfig
from skerry.targets.inventory import read

pytestmark = pytest.mark.hosts

#: Seconds between two lines of a neighbour that prints ten a second: what docs/protection.md promises.
GAP = 2.0
#: Bytes by which a disk limit may be passed before it is seen (docs/protection.md), on hosts that write 2 GB/s.
BEYOND = 512 << 20
PLACE = "/srv/hostile"


@dataclass(frozen=True)
class Attack:
    """A job that means harm. ``ends``: how it may end: a limit's name, or ``exit N``."""

    module: str
    ends: tuple[str, ...]
    args: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    folder: bool = False


#: Pods have no directories; what no controller sends is sent to none of them.
IN_PODS = ("loops", "eats", "prints", "functions", "huge", "deep")
#: An interpreter compiles nothing: to it a bomb is a large program that does nothing.
_BOMB = ("memory", "time", "exit 0 interpreted")
ATTACKS = {
    "loops": Attack("loops", ("time",), limits={"time": "3s"}),
    "eats": Attack("eats", ("memory",), limits={"memory": "48Mi"}),
    "prints": Attack("prints", ("output",), limits={"output": "200Ki"}),
    "opens": Attack("attacker", ("open_files",), ("opens",), {"open_files": 128}, True),
    "writes": Attack("attacker", ("disk",), ("writes",), {"disk": "32Mi", "file_size": None}, True),
    "grows": Attack("attacker", ("file_size",), ("writes",), {"file_size": "16Mi"}, True),
    "fills": Attack("attacker", ("disk",), ("fills",), {"disk": "32Mi"}, True),
    "litters": Attack("attacker", ("disk",), ("litters",), {"disk": "8Mi"}, True),
    "escapes": Attack("attacker", ("exit 0",), ("escapes",), {}, True),
    "forks": Attack("forks", ("exit",)),
    # One process is the watcher's on the rung process, and the module's in a container.
    "crowded": Attack("loops", ("processes", "time"), limits={"processes": 1, "time": "3s"}),
    "functions": Attack("functions", _BOMB, limits={"memory": "64Mi"}),
    "huge": Attack("huge", _BOMB, limits={"memory": "64Mi"}),
    "deep": Attack("deep", _BOMB, limits={"memory": "64Mi"}),
}


@pytest.fixture(scope="module")
def able(inventory: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """rung -> hosts on which a workload can be kept there, those with the most memory first."""
    looks = {"process": "grep -Eq 'bin/(wasmtime|wasmedge)\"' /etc/ansible/facts.d/skerry.fact",
             "container": "grep -q '\"wasm_runtime\": \"crun\"' /etc/ansible/facts.d/skerry.fact",
             "pod": "grep -q '\"crun-wasm\"' /etc/ansible/facts.d/skerry.fact && test -e /var/lib/rancher/k3s"}
    found = {rung: hosts_with(inventory, look) for rung, look in looks.items()}
    if not any(path.exists() for path in kubeconfig.of_inventory(read([str(inventory)])).values()):
        found["pod"] = {}  # site.yml, which brings it here, has not been through these hosts
    return {rung: dict(sorted(hosts.items(), key=lambda one: -_memory(*one))) for rung, hosts in found.items()}


def _memory(host: str, variables: Mapping[str, Any]) -> int:
    return int(inside(host, variables, "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes "
                                       "2>/dev/null | grep -v max || grep -o '[0-9]*' /proc/meminfo").split()[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All modules, by name."""
    place = tmp_path_factory.mktemp("hostile")
    for name in ("loops", "eats", "prints"):
        (place / f"{name}.wasm").write_bytes(wasm_modules.module(name))
    for name, make in hostile_modules.BOMBS.items():
        (place / f"{name}.wasm").write_bytes(make())
    (place / "attacker.wasm").write_bytes(hostile_modules.attacker().read_bytes())
    build(SERVICE, place / "ticker.wasm")
    return place


class Site:
    """One host on one rung."""

    def __init__(self, inventory: Path, folder: Path, rung: str, host: str, variables: Mapping[str, Any]) -> None:
        self.inventory, self.folder, self.rung, self.host, self.variables = inventory, folder, rung, host, variables

    def inside(self, command: str) -> str:
        return inside(self.host, self.variables, command)

    def deploy(self, *documents: Mapping[str, Any], code: int | None = 0,
               options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        file = self.folder / f"hostile-{self.rung}.yml"
        placed = [{"placement": {"hosts": [self.host]}, "rung": self.rung, **one} for one in documents]
        file.write_text(yaml.safe_dump_all(placed))
        return objects(skerry("deploy", file, "-i", self.inventory, "--json", *options, code=code))

    def job(self, name: str) -> dict[str, Any]:
        """The document of an attack."""
        attack = ATTACKS[name]
        given = [{"host": f"{PLACE}/{name}/given", "guest": "/data", "read_only": False}] if attack.folder else []
        module = self.stored() if attack.module == "forks" else f"{attack.module}.wasm"
        return {"name": name, "kind": "job", "module": module, "args": list(attack.args), "directories": given,
                "limits": {"time": "20s", **attack.limits}}

    def disk(self) -> int:
        """Bytes in places that are written to."""
        return int(self.inside("du -sc -B1 /var /tmp /srv 2>/dev/null | tail -1").split()[0])

    def journal(self) -> int:
        """Bytes that the journal takes."""
        return int(self.inside("du -sc -B1 /var/log/journal /run/log/journal 2>/dev/null | tail -1").split()[0])

    def stored(self) -> str:
        """The module that forks, put into the host's store behind the controller's back, which would not send it."""
        data = hostile_modules.forks()
        digest = hashlib.sha256(data).hexdigest()
        text = "".join(f"\\{byte:03o}" for byte in data)
        self.inside(f"mkdir -p {STATE}/store && printf '{text}' > {STATE}/store/{digest}")
        return f"sha256:{digest}"

    def lay_out(self) -> None:
        """A folder to break out of: what is outside, and links that lead there."""
        given = f"{PLACE}/escapes/given"
        self.inside(f"mkdir -p {given}/inner && chmod -R 777 {given} && echo untouched > {PLACE}/escapes/canary && "
                    f"ln -s {PLACE}/escapes {given}/outside && ln -s ../canary {given}/canary-link")

    def settled(self, names: set[str], seconds: float = 90) -> dict[str, dict[str, Any]]:
        """How the jobs ended; the host answers within a few seconds all the while."""
        deadline = time.monotonic() + seconds
        while True:
            begun = time.monotonic()
            found = {row["name"]: row for row in objects(skerry("ps", "-i", self.inventory, "--json", code=None))
                     if row["host"] == self.host and row["name"] in names}
            assert time.monotonic() - begun < 30, "the host hardly answers"
            if set(found) == names and all(row["last"] for row in found.values()):
                return found
            assert time.monotonic() < deadline, {name: row["state"] for name, row in found.items() if not row["last"]}
            time.sleep(1)

    def check_neighbour(self) -> None:
        """It runs as it did before, and printed all the while."""
        [ticker] = [row for row in rows(self.inventory, "ticker", None) if row["host"] == self.host]
        assert (ticker["state"], ticker["restarts"]) == ("running", 0)
        said = objects(skerry("logs", "ticker", "-i", self.inventory, "--json", "-n", "5000"))
        mine = [one["at"] for one in said if one["invocation"] == said[-1]["invocation"]]
        gaps = sorted(after - before for before, after in pairwise(mine))
        assert len(gaps) > 50
        assert gaps[-1] < GAP, gaps[-3:]

    def check_nothing_outside(self, said: list[str], boxed: bool) -> None:
        """What looked for ways out found none. In a container it is given the container's own files, no host's."""
        assert "looked everywhere" in said
        ways = [line for line in said if line.startswith(("READ", "WROTE", "SAW"))]
        assert not [line for line in ways if "untouched" in line or "root:" in line or not boxed], ways
        there = self.inside(f"ls {PLACE}/escapes; cat {PLACE}/escapes/canary").split()
        assert there == ["canary", "given", "untouched"]

    def clean(self) -> None:
        """Take everything away that was deployed here; the folder of the attacks is the test's own."""
        self.deploy({"name": "last", "kind": "job", "module": "ticker.wasm", "args": ["0"]}, options=("--prune",))
        skerry("undeploy", "last", "-i", self.inventory)
        self.inside(f"rm -rf {PLACE}")


TICKER = {"name": "ticker", "kind": "service", "module": "ticker.wasm", "limits": {"memory": "64Mi"}}


@pytest.fixture
def site(request: pytest.FixtureRequest, inventory: Path, folder: Path,
         able: dict[str, dict[str, dict[str, Any]]]) -> Iterator[Site]:
    """The host with the most memory of those that have the rung; a neighbour runs there."""
    rung = request.param
    if not able[rung]:
        pytest.skip(f"no host can keep modules on the rung {rung}")
    host, variables = next(iter(able[rung].items()))
    made = Site(inventory, folder, rung, host, variables)
    made.inside(f"rm -rf {PLACE}")
    made.deploy(TICKER)
    yield made
    made.clean()


RUNGS = pytest.mark.parametrize("site", ["process", "container"], indirect=True)


def how(row: Mapping[str, Any]) -> str:
    """How a job ended, in the words of `Attack.ends`."""
    last = row["last"]
    if last["limit"]:
        return str(last["limit"])
    return "exit 0" if last.get("code_lost") else f"exit {last['exit_code']}"


def as_meant(attack: Attack, row: Mapping[str, Any]) -> bool:
    ended = how(row)
    interpreted = row["runtime"].startswith(("wasmedge", "crun"))
    return any(ended == one or (one == "exit 0 interpreted" and interpreted and ended == "exit 0")
               or (one == "exit" and ended.startswith("exit ") and (ended != "exit 0" or row["last"].get("code_lost")))
               for one in attack.ends)


@pytest.mark.parametrize("site", ["process", "container", pytest.param("pod", marks=pytest.mark.full)], indirect=True)
def test_every_attack_at_once_ends_at_its_limit_and_the_neighbour_goes_on(site: Site) -> None:
    attacks = IN_PODS if site.rung == "pod" else tuple(ATTACKS)
    site.lay_out()
    before = site.disk()
    site.deploy(*(site.job(name) for name in attacks), TICKER)
    found = site.settled(set(attacks), 180 if site.rung == "pod" else 90)
    wrong = {name: (how(row), row["last"]) for name, row in found.items() if not as_meant(ATTACKS[name], row)}
    assert not wrong, wrong
    site.check_neighbour()
    if site.rung == "pod":
        return
    # Nothing outside of what was given.
    said = objects(skerry("logs", "escapes", "-i", site.inventory, "--json"))
    mine = [one["line"] for one in said if one["invocation"] == found["escapes"]["last"]["invocation"]]
    site.check_nothing_outside(mine, site.rung == "container")
    # The disk.
    held = {line.split()[1].split("/")[3]: int(line.split()[0])
            for line in site.inside(f"du -s -B1 {PLACE}/*").splitlines()}
    assert all(size < (32 << 20) + BEYOND for size in held.values()), held
    site.clean()
    assert site.disk() < before + (32 << 20), "what was taken was not given back"
    assert site.inside(f"ls {STATE}/workloads; pgrep -fa 'wasm(time|edge) '; true").strip() == ""


@pytest.mark.full
@RUNGS
def test_a_full_directory_is_no_start(site: Site) -> None:
    """What a run left counts for the next one: no restart or schedule fills a disk step by step."""
    site.deploy(site.job("fills"), TICKER)
    first = site.settled({"fills"})["fills"]["last"]
    size = site.inside(f"du -s -B1 {PLACE}/fills")
    skerry("job", "run", "fills", "-i", site.inventory)
    deadline = time.monotonic() + 30
    while (last := site.settled({"fills"})["fills"]["last"])["invocation"] == first["invocation"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert last["limit"] == "disk"
    assert site.inside(f"du -s -B1 {PLACE}/fills") == size


@pytest.mark.full
@RUNGS
def test_a_link_in_the_place_of_a_directory_is_not_followed(site: Site) -> None:
    """A module may replace a directory below one that it fills; at its next start it would be given what it chose."""
    outer, inner = f"{PLACE}/swaps", f"{PLACE}/swaps/inner"
    given = [{"host": outer, "guest": "/data", "read_only": False}, {"host": inner, "guest": "/inner",
                                                                     "read_only": False}]
    site.deploy({"name": "swaps", "kind": "job", "module": "attacker.wasm", "args": ["swaps"], "directories": given,
                 "limits": {"time": "20s"}}, TICKER)
    site.settled({"swaps"})
    assert site.inside(f"readlink {inner}").strip() == "../../../etc", "the module could make its link"
    skerry("job", "run", "swaps", "-i", site.inventory)
    deadline = time.monotonic() + 30
    while not (last := site.settled({"swaps"})["swaps"]["last"]).get("refused"):
        assert time.monotonic() < deadline, last
        time.sleep(0.5)
    assert last["refused"].startswith("HOST_040 ")
    assert site.inside("stat -c %u:%g /etc").strip() == "0:0"


@pytest.mark.full
@RUNGS
def test_services_that_mean_harm(site: Site) -> None:
    """One that never becomes ready, one that is ended while it starts, one that turns when it was taken for good."""
    spins = {"name": "spins", "kind": "service", "module": "loops.wasm",
             "readiness": {"line": "ready", "timeout": "3s"}}
    gorges = {"name": "gorges", "kind": "service", "module": "eats.wasm", "limits": {"memory": "48Mi"},
              "readiness": {"line": "ready", "timeout": "20s"}}
    turns = {"name": "turns", "kind": "service", "module": "attacker.wasm", "args": ["turns"],
             "limits": {"memory": "48Mi"}, "readiness": {"line": "behaves", "timeout": "20s"}}
    outcomes = {one["name"]: one for one in site.deploy(spins, gorges, turns, TICKER, code=1) if "name" in one}
    assert outcomes["spins"]["error"]["code"] == "HOST_012"
    assert outcomes["gorges"]["error"]["code"] == "HOST_011"
    assert "limit: memory" in outcomes["gorges"]["error"]["cause"]
    if outcomes["turns"]["action"] == "held":  # after one failed, nothing more is begun
        site.deploy(turns, TICKER)
    assert site.settled({"turns"}, 30)["turns"]["last"]["limit"] == "memory"
    site.check_neighbour()


@pytest.mark.full
@RUNGS
def test_a_service_that_shouts_drowns_nobody(site: Site) -> None:
    """It may print for ever: the journal takes so many lines of it, and those of its neighbour all the while."""
    kept = site.journal()
    site.deploy({"name": "shouts", "kind": "service", "module": "prints.wasm", "limits": {"memory": "64Mi"}}, TICKER)
    time.sleep(15)
    [shouts] = [row for row in rows(site.inventory, "shouts") if row["host"] == site.host]
    assert shouts["state"] == "running"
    site.check_neighbour()
    assert site.journal() < kept + (64 << 20)


def test_the_controller_sends_nothing_that_asks_for_threads(inventory: Path, folder: Path, tmp_path: Path) -> None:
    module = folder / "forks.wasm"
    module.write_bytes(hostile_modules.forks())
    (tmp_path / "w.yml").write_text(yaml.safe_dump({"name": "forks", "kind": "job", "module": str(module)}))
    assert "RUN_006" in skerry("deploy", tmp_path / "w.yml", "-i", inventory, code=2).stderr
    assert "RUN_006" in skerry("run", module, "-i", inventory, code=2).stderr


# `skerry run`: every rung that a host has, pods too -----------------------------------------------------------------


def ran(inventory: Path, host: str, module: Path, *options: str) -> list[dict[str, Any]]:
    """`skerry run` on one host; what its rungs told."""
    command = [sys.executable, str(ROOT / "skerry"), "run", str(module), "-i", str(inventory), "--on", host, "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False,
                          env=ENVIRONMENT)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found, done.stderr
    return found


def expected(able: Mapping[str, Any], host: str) -> set[str]:
    """Rungs that a host has to have run something on."""
    return {"embedded", *(rung for rung, hosts in able.items() if host in hosts)}


RUNS = {
    "opens": (("--open-files", "100", "--timeout", "20"), "open_files"),
    "fills": (("--disk", "16M", "--timeout", "40"), "disk"),
    "writes": (("--disk", "16M", "--timeout", "40"), "disk"),
    "escapes": ((), None),
}


@pytest.mark.parametrize("what", ["fills", "escapes", *(pytest.param(name, marks=pytest.mark.full)
                                                       for name in ("opens", "writes"))])
def test_runs_meet_their_limits_on_every_rung(inventory: Path, folder: Path, able: dict[str, Any], what: str) -> None:
    host, variables = next(iter((able["container"] or able["process"]).items()))
    site = Site(inventory, folder, "run", host, variables)
    options, limit = RUNS[what]
    site.inside(f"rm -rf {PLACE}")
    site.inside(f"mkdir -p {PLACE}/{what}/given && chmod 777 {PLACE}/{what}/given")
    if what == "escapes":
        site.lay_out()
    try:
        given = f"{PLACE}/{what}/given::/data"
        found = ran(inventory, host, folder / "attacker.wasm", "--dir", given, *options, "--", what)
        wrong = [{**one, "stdout": one["stdout"][-300:]} for one in found if one["limit"] != limit or one["error"]]
        assert not wrong, wrong
        assert expected(able, host) <= {one["rung"] for one in found}
        if what == "escapes":
            for one in found:
                site.check_nothing_outside(one["stdout"].splitlines(), one["rung"] in ("container", "pod"))
        size = int(site.inside(f"du -s -B1 {PLACE}").split()[0])
        assert size < len(found) * ((16 << 20) + BEYOND)
    finally:
        site.inside(f"rm -rf {PLACE}")


@pytest.mark.full
@pytest.mark.parametrize("bomb", hostile_modules.BOMBS)
def test_bombs_meet_the_limits_of_a_run_on_every_rung(inventory: Path, folder: Path, able: dict[str, Any],
                                                      bomb: str) -> None:
    host = next(iter(able["container"] or able["process"]))
    found = ran(inventory, host, folder / f"{bomb}.wasm", "--memory", "160M", "--timeout", "40")
    for one in found:
        harmless = one["mode"] == "interpreter" and one["exit_code"] == 0
        assert harmless or one["limit"] in ("memory", "timeout"), {**one, "stdout": ""}
    assert expected(able, host) <= {one["rung"] for one in found}
