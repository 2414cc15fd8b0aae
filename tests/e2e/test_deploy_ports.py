"""Ports of services on hosts: they answer while what is behind them is replaced, and are gone when it is."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploying import STATE, Run, able, actions, build, hosts_with, inside, objects, rows, skerry

from skerry.testing.http_component import component
from skerry.testing.http_load import Load
from skerry.workloads import new

pytestmark = pytest.mark.hosts

PORT = 18080
READY = {"http": {"port": PORT, "path": "/"}, "timeout": 30}
WEB = {"name": "web", "kind": "service", "module": "one.wasm", "ports": [{"port": PORT}], "drain": "20s",
       "readiness": READY, "limits": {"memory": "96Mi", "cpu": 1}}
#: A core module that listens through WasmEdge's sockets, and sends back what it is sent.
ECHO = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
WASI("sock_open") int32_t sock_open(int32_t family, int32_t type, int32_t *fd);
WASI("sock_bind") int32_t sock_bind(int32_t fd, void *address, uint32_t port);
WASI("sock_listen") int32_t sock_listen(int32_t fd, int32_t backlog);
WASI("sock_accept") int32_t sock_accept(int32_t fd, int32_t *link);
int main(void) {
  uint8_t here[4] = {127, 0, 0, 1};
  struct { uint8_t *bytes; uint32_t size; } address = {here, 4};
  int32_t listener, link;
  if (sock_open(1, 2, &listener) || sock_bind(listener, &address, atoi(getenv("PORT"))) || sock_listen(listener, 64))
    return 3;
  for (;;) {
    char data[512];
    if (sock_accept(listener, &link)) return 4;
    int size = read(link, data, sizeof data);
    if (size > 0) write(link, data, size);
    close(link);
  }
}
"""


@pytest.fixture(scope="module")
def hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """Hosts that have a server for wasi:http, with their variables."""
    return able(inventory, "grep -q 'bin/wasmtime' /etc/ansible/facts.d/skerry.fact",
                "no host has wasmtime's command: it is in no mirror here")


@pytest.fixture(scope="module")
def run(inventory: Path, hosts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Deploy documents; whatever is left of them at the end goes."""
    folder = tmp_path_factory.mktemp("ports")
    for text in ("one", "two"):
        (folder / f"{text}.wasm").write_bytes(component(text))
    (folder / "bad.wasm").write_bytes(component("bad", fails=True))
    build(ECHO, folder / "echo.wasm")
    file = folder / "ports.yml"

    def deploy(*documents: dict[str, Any], code: int = 0, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        placed = [{"placement": {"hosts": list(hosts)}, **one} for one in documents]
        file.write_text(yaml.safe_dump_all(placed))
        return objects(skerry("deploy", file, "-i", inventory, "--json", *options, code=code))

    yield deploy
    for name in ("web", "echo", "other"):
        skerry("undeploy", name, "-i", inventory, code=None)


def places(hosts: dict[str, dict[str, Any]]) -> list[tuple[str, int]]:
    return [(str(values["ansible_host"]), PORT) for values in hosts.values()]


def get(place: tuple[str, int], path: str = "/") -> str:
    link = http.client.HTTPConnection(*place, timeout=30)
    try:
        link.request("GET", path)
        return link.getresponse().read().decode()
    finally:
        link.close()


def units(host: str, values: dict[str, Any], name: str) -> list[str]:
    """Units of a workload that run on a host."""
    said = inside(host, values, f"systemctl list-units --plain --no-legend 'skerry-{name}.*' 'skerry-{name}-*'")
    return sorted(line.split()[0] for line in said.splitlines())


def test_a_service_is_replaced_without_a_lost_request(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    assert actions(run(WEB)) == {"created"}
    assert actions(run(WEB)) == {"unchanged"}
    with Load(places(hosts), pause=0.01) as load:
        waiting = http.client.HTTPConnection(*places(hosts)[0], timeout=30)
        waiting.request("GET", "/wait")
        busy = rows(inventory, "web")
        assert all(row["ready"] and row["ports"] == [PORT] and row["connections"] >= 2 for row in busy)
        assert actions(run({**WEB, "module": "two.wasm"})) == {"changed"}
        assert waiting.getresponse().read() == b"one"
        skerry("restart", "web", "-i", inventory)
        outcomes = run({**WEB, "module": "bad.wasm", "readiness": {**READY, "timeout": 2}}, code=1)
        assert actions(outcomes) <= {"failed", "held"}
        assert all(one["kept"] and one["error"]["code"] == "HOST_012" for one in outcomes if one["action"] == "failed")
        skerry("rollback", "web", "-i", inventory)
        time.sleep(0.5)
    assert load.asked.failed == 0, load.asked.faults[:5]
    assert load.asked.broken == 0, "connections that were kept open stayed open"
    assert {text for _, text in load.asked.answers} == {"one", "two"}
    assert [get(place) for place in places(hosts)] == ["one"] * len(hosts)
    for host, values in hosts.items():
        instances = [unit for unit in units(host, values, "web") if "@" in unit]
        assert len(instances) == 1, instances


def test_nobody_but_the_relay_reaches_an_instance(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(WEB)
    for host, values in hosts.items():
        listening = inside(host, values, "ss -Hltn").split()
        assert any(one.endswith(f":{PORT}") for one in listening)
        assert not any(one.startswith("127.0.0.1:2") for one in listening)
        [instance] = [unit for unit in units(host, values, "web") if "@" in unit]
        asked = "-p PrivateNetwork -p DynamicUser -p CapabilityBoundingSet"
        shown = inside(host, values, f"systemctl show {instance} {asked}")
        assert set(shown.split()) == {"PrivateNetwork=yes", "DynamicUser=yes", "CapabilityBoundingSet="}
        pid = inside(host, values, f"systemctl show {instance} -p MainPID --value").strip()
        inner = inside(host, values, f"nsenter -t {pid} -n ss -Hltn; nsenter -t {pid} -n ip -o address")
        assert "127.0.0.1:2" in inner
        assert "eth0" not in inner


def test_what_dies_comes_back_at_its_port(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(WEB)
    for place, (host, values) in zip(places(hosts), hosts.items(), strict=True):
        inside(host, values, "systemctl kill -s KILL 'skerry-web.*@*.service'; "
                             "while systemctl is-active -q 'skerry-web.*@*.service'; do sleep 0.05; done")
        assert get(place) == "one", "who comes meanwhile waits"
        inside(host, values, "systemctl kill -s KILL 'skerry-web.relay.*.service'; sleep 0.3")
        assert get(place) == "one"
        inside(host, values, "systemctl stop 'skerry-web.*@*.service'; "
                             "systemctl kill -s STOP 'skerry-web.relay.*.service'")
    assert actions(run(WEB)) == {"repaired"}
    assert [get(place) for place in places(hosts)] == ["one"] * len(hosts)


def test_a_flood_of_connections_ends_nothing(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(WEB)
    for place in places(hosts):
        flood = [socket.create_connection(place, 10) for _ in range(400)]
        flood[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"one" in flood[0].recv(999)
        for link in flood:
            link.close()
        assert get(place) == "one"
    assert all(row["restarts"] == 0 for row in rows(inventory, "web"))


def test_what_writes_to_a_directory_never_runs_twice(run: Run, hosts: dict[str, Any]) -> None:
    data = {"host": "/var/lib/e2e-web", "guest": "/data", "read_only": False}
    run({**WEB, "directories": [data]})
    order = "journalctl -o cat -u 'skerry-web.*@*' | grep -o '^Started\\|^Stopped' | tail -2"
    with Load(places(hosts), pause=0.02) as load:
        assert actions(run({**WEB, "directories": [data], "module": "two.wasm"})) == {"changed"}
        assert {inside(host, values, order) for host, values in hosts.items()} == {"Stopped\nStarted\n"}
        bad = {**WEB, "directories": [data], "module": "bad.wasm", "readiness": {**READY, "timeout": 1}}
        assert actions(run(bad, code=1)) <= {"failed", "held"}
    assert load.asked.failed == 0, load.asked.faults[:5]
    assert [get(place) for place in places(hosts)] == ["two"] * len(hosts)
    for host, values in hosts.items():
        inside(host, values, "rm -r /var/lib/e2e-web")


@pytest.mark.full
def test_another_list_of_ports(run: Run, hosts: dict[str, Any]) -> None:
    run(WEB)
    other = {**WEB, "ports": [{"port": PORT + 1}], "readiness": None}
    assert actions(run(other)) == {"changed"}
    for host, _ in places(hosts):
        assert get((host, PORT + 1)) == "one"
        with pytest.raises(ConnectionRefusedError):
            get((host, PORT))
    assert actions(run(WEB)) == {"changed"}


def test_a_port_has_one_owner_and_is_let_go(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    run(WEB)
    failed = run({**WEB, "name": "other"}, WEB, code=1)
    assert {one["error"]["code"] for one in failed if one["action"] == "failed"} == {"HOST_064"}
    ssh = run({**WEB, "name": "other", "ports": [{"port": 22}], "readiness": None}, WEB, code=1)
    assert {one["error"]["code"] for one in ssh if one["action"] == "failed"} == {"HOST_060"}
    assert [get(place) for place in places(hosts)] == ["one"] * len(hosts)
    skerry("undeploy", "web", "-i", inventory)
    for place, (host, values) in zip(places(hosts), hosts.items(), strict=True):
        with pytest.raises(ConnectionRefusedError):
            get(place)
        left = f"ls /etc/systemd/system /etc/systemd/system/*.wants /run/skerry/deployed {STATE}/workloads"
        assert "skerry-web" not in inside(host, values, left)
        assert not units(host, values, "web")


def test_a_program_answers_requests(run: Run, hosts: dict[str, Any], tmp_path: Path) -> None:
    new.write(tmp_path / "greet", "c", "http")
    source = (tmp_path / "greet" / "main.c").read_text()
    given = source.replace("%zu bytes\\n\"", "%zu bytes, %s\\n\"").replace(", body);", ", body, getenv(\"WORD\"));")
    assert given.count("WORD") == 1
    (tmp_path / "greet" / "main.c").write_text("#include <stdlib.h>\n" + given)
    document = {**WEB, "module": str(tmp_path / "greet"), "env": {"WORD": "a b"}}
    assert actions(run(document)) <= {"created", "changed"}
    for place in places(hosts):
        assert get(place, "/x?y") == "GET /x?y with 0 bytes, a b\n"
        link = http.client.HTTPConnection(*place, timeout=30)
        link.request("PUT", "/big", b"0" * 300_000)
        assert link.getresponse().read() == b"PUT /big with 300000 bytes, a b\n"
        link.close()


def test_core_modules_listen_through_wasmedge(run: Run, inventory: Path, hosts: dict[str, Any]) -> None:
    echo = {"name": "echo", "kind": "service", "module": "echo.wasm", "ports": [{"port": PORT + 2}]}
    able = hosts_with(inventory, "test -x /usr/bin/wasmedge")
    outcomes = run(echo, code=0 if able else 1)
    assert {(one["host"], one["action"]) for one in outcomes} == {(host, "created") for host in able}
    for values in able.values():
        link = socket.create_connection((values["ansible_host"], PORT + 2), 10)
        link.sendall(b"there and back")
        assert link.recv(99) == b"there and back"
    if able:
        skerry("undeploy", "echo", "-i", inventory)
