"""The rung container and kind container on hosts: modules and images under Docker, with the same verbs as ever."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasm_modules
import yaml
from debian_registry import PASSWORD, USER, running
from deploying import (
    SERVICE,
    TICKER,
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

from skerry.oci.kinds import CONFIG, LAYER, MANIFEST, content_of, descriptor, encoded, refer
from skerry.oci.layout import Layout

pytestmark = pytest.mark.hosts

#: Answers HTTP with what it was given and whether it could write where it may, and where it may not.
BROKER = r"""
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int may(const char *path) { FILE *f = fopen(path, "a"); if (f) { fputs("x", f); fclose(f); } return f != 0; }
static void bye(int n) { (void)n; puts("asked to end"); fflush(stdout); _exit(0); }
int main(int argc, char **argv) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  char asked[1024], body[512], file[64] = "";
  signal(SIGTERM, bye);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (void *)&at, sizeof at) || listen(listener, 64)) return 3;
  FILE *secret = fopen("/run/secrets/token", "r");
  if (secret) { fgets(file, sizeof file, secret); fclose(secret); }
  printf("uid %d listens, %s\n", getuid(), argc > 1 ? argv[1] : "plain");
  fflush(stdout);
  for (;;) {
    int link = accept(listener, 0, 0);
    read(link, asked, sizeof asked);
    snprintf(body, sizeof body, "data=%d tmp=%d root=%d token=%s args=%s\n", may("/data/log"), may("/tmp/x"),
             may("/x"), file, argc > 1 ? argv[1] : "plain");
    dprintf(link, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    close(link);
  }
}
"""


@pytest.fixture(scope="module")
def hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """Hosts whose Docker runs WebAssembly."""
    return able(inventory, "grep -q '\"wasm_runtime\": \"crun\"' /etc/ansible/facts.d/skerry.fact",
                "no host has Docker with a runtime that was proved to run WebAssembly")


@pytest.fixture(scope="module")
def every(inventory: Path) -> dict[str, dict[str, Any]]:
    """Hosts that have Docker."""
    return able(inventory, "docker info >/dev/null", "no host has Docker")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules, and what goes with them."""
    folder = tmp_path_factory.mktemp("containers")
    (folder / "config").write_text("first line\n")
    for name in ("loops", "eats", "prints"):
        (folder / f"{name}.wasm").write_bytes(wasm_modules.module(name))
    build(SERVICE, folder / "ticker.wasm")
    return folder


@pytest.fixture(scope="module")
def run(inventory: Path, every: dict[str, Any], folder: Path) -> Iterator[Run]:
    """Deploy documents; nothing of them is left at the end, in Docker neither."""
    file = folder / "boxes.yml"

    def deploy(*documents: dict[str, Any], code: int = 0, options: tuple[str, ...] = (),
               env: dict[str, str] | None = None) -> list[dict[str, Any]]:
        file.write_text(yaml.safe_dump_all([{"rung": "container", **one} for one in documents]))
        return objects(skerry("deploy", file, "-i", inventory, "--json", *options, code=code, env=env))

    yield deploy
    last = {"name": "last", "kind": "job", "module": "ticker.wasm", "args": [0]}
    file.write_text(yaml.safe_dump(last))
    skerry("deploy", file, "-i", inventory, "--prune")
    skerry("undeploy", "last", "-i", inventory)
    for host, values in every.items():
        look = "docker ps -aq --filter label=dev.skerry.workload; docker images | grep site/broker"
        left = inside(host, values, look)
        assert left == "", f"{host}: {left}"


def on(hosts: dict[str, Any]) -> dict[str, Any]:
    return {"hosts": list(hosts)}


MINE = "docker ps -q --filter label=dev.skerry.workload=ticker"


def test_a_module_is_kept_in_a_container(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    ticker = {**TICKER, "placement": on(hosts)}
    first = run(ticker)
    assert {(one["host"], one["action"], one["rung"]) for one in first} == {(h, "created", "container") for h in hosts}
    assert actions(run(ticker)) == {"unchanged"}
    lines = objects(skerry("logs", "ticker", "-i", inventory, "--json", "-n", "1000", "--since", "1m"))
    said = {(one["host"], one["line"]) for one in lines if "token=" in one["line"]}
    assert said == {(host, f"ticker token={TOKEN} config=first") for host in hosts}
    for host, values in hosts.items():
        [one] = json.loads(inside(host, values, f"docker inspect $({MINE})"))
        own = one["HostConfig"]
        assert (own["Memory"], own["MemorySwap"], own["NanoCpus"], own["PidsLimit"]) == (64 << 20, 64 << 20, 5e8, 64)
        assert (own["ReadonlyRootfs"], own["CapDrop"], own["NetworkMode"]) == (True, ["ALL"], "none")
        assert own["SecurityOpt"] == ["no-new-privileges:true"]
        assert int(one["Config"]["User"].split(":")[0]) > 1 << 30
        assert "hush" not in inside(host, values, "systemctl cat 'skerry-ticker*'; ps axww")
        inside(host, values, f"docker kill $({MINE})")
    until(lambda: all(row["restarts"] == 1 and row["ready"] for row in rows(inventory, "ticker", None)))
    changed = run({**ticker, "env": {"NEW": "1"}})
    assert actions(changed) == {"changed"}
    failed = run({**ticker, "args": ["3"]}, code=1)
    assert actions(failed) <= {"failed", "held"}
    skerry("rollback", "ticker", "-i", inventory)
    assert all(row["ready"] and row["memory_bytes"] for row in rows(inventory, "ticker"))
    for host, values in hosts.items():
        assert inside(host, values, f"{MINE} -a | wc -l").strip() == "1"


def until(what: Any, seconds: float = 30) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_hosts_without_it_are_passed_over_with_the_reason(run: Run, hosts: dict[str, Any],
                                                           every: dict[str, Any]) -> None:
    others = sorted(set(every) - set(hosts))
    if not others:
        pytest.skip("every host's Docker runs WebAssembly")
    job = {"name": "job", "kind": "job", "module": "ticker.wasm", "args": ["0"]}
    assert run({**job, "placement": {"hosts": others}}, code=1) == []


LIMITS = {"loops": {"time": "2s"}, "eats": {"memory": "48Mi"}, "prints": {"output": "200Ki"}}


def test_jobs_and_schedules_run_in_containers_and_meet_their_limits(run: Run, inventory: Path,
                                                                    hosts: dict[str, Any]) -> None:
    jobs = [{"name": name, "kind": "job", "module": f"{name}.wasm", "limits": limits, "placement": on(hosts)}
            for name, limits in LIMITS.items()]
    job = {"name": "job", "kind": "job", "module": "ticker.wasm", "args": ["7"], "placement": on(hosts)}
    nightly = {**job, "name": "nightly", "kind": "schedule", "schedule": {"cron": "30 2 * * *"}}
    run({**TICKER, "placement": on(hosts)}, *jobs, job, nightly)
    ids = skerry("job", "run", "nightly", "-i", inventory, "--id-only").stdout.split()
    last: dict[str, list[dict[str, Any]]] = {}

    def ended() -> bool:
        last.clear()
        for row in objects(skerry("ps", "-i", inventory, "--json", code=None)):
            last.setdefault(row["name"], []).append(row)
        return all(row["last"] for name in (*LIMITS, "job", "nightly") for row in last[name])

    until(ended, 60)
    for name, limits in LIMITS.items():
        assert {(row["state"], row["last"]["limit"]) for row in last[name]} == {("failed", next(iter(limits)))}
    for row in last["nightly"]:
        assert (row["state"], f"{row['host']}/{row['last']['invocation']}" in ids) == ("waiting", True)
    for row in last["job"]:
        assert (row["last"]["exit_code"], row["last"]["code_lost"]) == (None, True), "crun's WasmEdge drops the code"
    assert all(row["ready"] for row in last["ticker"]), "the neighbour goes on"


# -- images ------------------------------------------------------------------------------------------------------------


def packed(layout: Layout, name: str, program: bytes) -> str:
    """An image of one native program; its digest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("broker")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    layer = out.getvalue()
    config = encoded({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/broker"]},
                      "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}})
    manifest = encoded({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config),
                        "layers": [descriptor(LAYER, layer)]})
    with layout.filling():
        for content in (layer, config, manifest):
            layout.put(content)
        made = content_of(manifest, name)
        layout.name(refer(name), made)
    return made.digest


@pytest.fixture(scope="module")
def broker(folder: Path) -> bytes:
    return build(BROKER, folder / "broker", "x86_64-linux-musl").read_bytes()


def test_an_image_runs_beside_modules(run: Run, inventory: Path, every: dict[str, Any], broker: bytes,
                                      tmp_path: Path) -> None:
    cache = {"SKERRY_CACHE": str(tmp_path)}
    packed(Layout(tmp_path / "oci"), "192.0.2.7/site/broker:1", broker)  # an address that nobody has
    document = {"name": "broker", "kind": "container", "image": "192.0.2.7/site/broker:1", "args": ["hello"],
                "directories": [{"host": "/var/lib/e2e-broker", "guest": "/data", "read_only": False}],
                "secrets": {"TOKEN": {"env": "SKERRY_TEST_TOKEN", "mount": "/run/secrets/token"}},
                "ports": [{"port": 18080, "target": 8080}], "placement": on(every),
                "readiness": {"http": {"port": 18080}}, "drain": 2}
    assert actions(run(document, env=cache)) == {"created"}
    assert actions(run(document, env=cache)) == {"unchanged"}
    ask = "exec 3<>/dev/tcp/127.0.0.1/18080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    expected = f"data=1 tmp=1 root=0 token={TOKEN} args="
    for host, values in every.items():
        assert expected + "hello" in inside(host, values, f"bash -c '{ask.replace(chr(39), chr(34))}'"), host
    packed(Layout(tmp_path / "oci"), "192.0.2.7/site/broker:1", broker + b"\0")
    assert actions(run({**document, "args": ["again"]}, env=cache)) == {"changed"}
    for host, values in every.items():
        assert expected + "again" in inside(host, values, f"bash -c '{ask.replace(chr(39), chr(34))}'"), host
        assert inside(host, values, "cat /var/lib/e2e-broker/log").startswith("x"), "its data stay"
    assert {(row["kind"], row["ready"]) for row in rows(inventory, "broker")} == {("container", True)}
    lines = {one["line"] for one in objects(skerry("logs", "broker", "-i", inventory, "--json", "--since", "1m"))}
    assert "asked to end" in lines, "programs of images may clean up"


def test_docker_pulls_from_a_registry_with_the_controllers_login(
    run: Run, every: dict[str, Any], broker: bytes, tmp_path: Path
) -> None:
    gateway = str(next(iter(every.values()))["sandbox_subnet"]).replace("0/24", "1")
    made, login = tmp_path / "made", {"SKERRY_REGISTRY_USER": USER, "SKERRY_REGISTRY_PASSWORD": PASSWORD}
    tmp_path.joinpath("registry").mkdir()
    with running(tmp_path / "registry", gateway) as registry:
        name = f"{registry.host}/site/broker:1"
        digest = packed(Layout(made / "oci"), name, broker)
        trusted = {"SKERRY_REGISTRY_CA": str(registry.authority), **login}
        skerry("image", "push", name, env={"SKERRY_CACHE": str(made), **trusted})
        for host, values in every.items():
            place = f"/etc/docker/certs.d/{registry.host}"
            text = registry.authority.read_text()
            inside(host, values, f"mkdir -p {place}; cat > {place}/ca.crt <<'E'\n{text}\nE")
        document = {"name": "pulled", "kind": "container", "image": name, "placement": on(every),
                    "network": True, "readiness": {"line": "listens"}}
        env = {"SKERRY_CACHE": str(tmp_path / "other"), **trusted}
        assert actions(run(document, env=env)) == {"created"}
    assert actions(run(document, env=env)) == {"unchanged"}, "the registry is away: the tag leads to what it led to"
    for host, values in every.items():
        found = inside(host, values, "docker inspect -f '{{index .RepoDigests 0}}' $(docker ps -q --no-trunc --filter "
                       "label=dev.skerry.workload=pulled | xargs docker inspect -f '{{.Image}}')")
        assert found.strip().endswith(digest), host
        inside(host, values, f"rm -r /etc/docker/certs.d/{registry.host}")
