"""The relay of a service's ports as a process, with sockets handed to it as systemd does and real servers behind it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from skerry import paths

#: Puts the sockets where systemd would have put them, then is the relay.
CODE = """
import os, sys
high = [os.dup2(int(fd), 50 + at) for at, fd in enumerate(sys.argv[1].split(","))]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(high), 60)
from skerry_host import relay
relay.main(sys.argv[2:])
"""
BIG = bytes(range(256)) * 40_000
#: What each server says.
TEXTS: dict[socketserver.BaseServer, str] = {}


class Answering(BaseHTTPRequestHandler):
    """Says which server it is; /wait later, /cut only half."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/wait":
            time.sleep(0.5)
        body = TEXTS[self.server].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) * (2 if self.path == "/cut" else 1)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/cut":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise ConnectionResetError

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Echo(socketserver.BaseRequestHandler):
    """Sends back what comes, after its server's name."""

    def handle(self) -> None:
        self.request.sendall(TEXTS[self.server].encode())
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Quiet(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no news."""


class QuietHttp(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As above."""


@dataclass
class Behind:
    """Instances: slot -> the ports of its two servers, one for HTTP and one that echoes."""

    servers: list[socketserver.BaseServer] = field(default_factory=list)

    def instance(self, text: str, http_port: int = 0) -> list[tuple[str, int]]:
        """Start one; where it listens."""
        found = []
        for server in (QuietHttp(("127.0.0.1", http_port), Answering), Quiet(("127.0.0.1", 0), Echo)):
            TEXTS[server] = text
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            self.servers.append(server)
            found.append(("127.0.0.1", int(server.server_address[1])))
        return found


@dataclass
class Running:
    """The relay under test: its control socket and the two ports at which clients come."""

    control: Path
    http: int
    tcp: int

    def ask(self, **message: Any) -> dict[str, Any]:
        """Ask it as the host's side does."""
        if message["op"] == "switch":
            message.setdefault("most", 100)
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.control))
            link.sendall(json.dumps(message).encode() + b"\n")
            answer: dict[str, Any] = json.loads(link.makefile("rb").readline())
            return answer

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.ask(op="status")["connections"]
        return counts

    def get(self, path: str = "/") -> str:
        """One request on a connection of its own."""
        link = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        try:
            link.request("GET", path)
            return link.getresponse().read().decode()
        finally:
            link.close()


@pytest.fixture
def behind() -> Iterator[Behind]:
    found = Behind()
    yield found
    for server in found.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Running]:
    """The relay, without an instance in force."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(tmp_path / "control"))
    control.listen()
    (tmp_path / "target").write_text(json.dumps({"slot": "", "to": [], "most": 0}))
    ports = [one.getsockname()[1] for one in listeners]
    handed = [one.fileno() for one in (*listeners, control)]

    environment = {**os.environ, "LISTEN_FDNAMES": "8080:9090:control", "CREDENTIALS_DIRECTORY": str(tmp_path),
                   "PYTHONPATH": str(paths.root() / "roles" / "workload" / "files")}
    command = [sys.executable, "-c", CODE, ",".join(map(str, handed)), "8080=http", "9090=tcp"]
    process = subprocess.Popen(command, env=environment, pass_fds=handed)
    for one in (*listeners, control):
        one.close()
    yield Running(tmp_path / "control", *ports)
    assert process.poll() is None, "it was still running"
    process.terminate()
    process.wait(10)


def echo(link: socket.socket, data: bytes) -> bytes:
    """What comes back after everything was sent and the way there was closed."""
    def send() -> None:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    found = bytearray()
    while piece := link.recv(65536):
        found += piece
    return bytes(found)


def test_a_connection_kept_open_goes_on_with_the_new_instance(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("one"))
    link = http.client.HTTPConnection("127.0.0.1", relay.http, timeout=10)
    link.request("GET", "/")
    assert link.getresponse().read() == b"one"
    here = link.sock
    assert relay.counts() == {"1": 1}
    assert relay.ask(op="switch", slot="2", to=behind.instance("two"))["connections"] == {"": 1}
    link.request("GET", "/")
    assert link.getresponse().read() == b"two"
    assert link.sock is here
    assert relay.counts() == {"2": 1}


def test_what_is_under_way_ends_where_it_began(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("one"))
    slow = http.client.HTTPConnection("127.0.0.1", relay.http, timeout=10)
    slow.request("GET", "/wait")
    stays = socket.create_connection(("127.0.0.1", relay.tcp))
    assert stays.recv(9) == b"one"
    time.sleep(0.1)
    relay.ask(op="switch", slot="2", to=behind.instance("two"))
    assert relay.get() == "two"
    assert relay.counts()["1"] == 2
    assert slow.getresponse().read() == b"one"
    slow.request("GET", "/")
    assert slow.getresponse().read() == b"two"
    assert echo(stays, b"still there") == b"still there"
    stays.close()
    assert "1" not in relay.counts()


def test_who_comes_early_waits(relay: Running, behind: Behind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        later = place.getsockname()[1]
    said: list[str] = []
    early = threading.Thread(target=lambda: said.append(relay.get()))
    early.start()
    time.sleep(0.2)
    relay.ask(op="switch", slot="1", to=[["127.0.0.1", later], ["127.0.0.1", later]])
    time.sleep(0.3)
    assert not said
    behind.instance("at last", later)
    early.join(10)
    assert said == ["at last"]


def test_requests_wait_while_no_instance_is_in_force(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("one"))
    link = http.client.HTTPConnection("127.0.0.1", relay.http, timeout=10)
    link.request("GET", "/")
    link.getresponse().read()
    assert relay.ask(op="switch", slot="", to=[])["connections"] == {"": 1}
    said: list[str] = []
    fresh = threading.Thread(target=lambda: said.append(relay.get()))
    fresh.start()
    link.request("GET", "/")
    time.sleep(0.3)
    relay.ask(op="switch", slot="2", to=behind.instance("two"))
    assert link.getresponse().read() == b"two"
    fresh.join(10)
    assert said == ["two"]


def test_those_who_are_too_many_wait(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("one"), most=2)
    first, second, third = (socket.create_connection(("127.0.0.1", relay.tcp), 5) for _ in range(3))
    assert (first.recv(3), second.recv(3)) == (b"one", b"one")
    third.settimeout(0.3)
    with pytest.raises(TimeoutError):
        third.recv(3)
    first.close()
    third.settimeout(5)
    assert third.recv(3) == b"one"


def test_who_asks_nothing_makes_room(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("one"), most=2)
    kept = [http.client.HTTPConnection("127.0.0.1", relay.http, timeout=10) for _ in range(2)]
    for link in kept:
        link.request("GET", "/")
        assert link.getresponse().read() == b"one"
    assert relay.get() == "one"
    assert kept[0].sock.recv(1) == b"", "the one that had been idle for longest"
    kept[1].request("GET", "/")
    assert kept[1].getresponse().read() == b"one"


def test_bytes_arrive_whole_both_ways(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance(""))
    with socket.create_connection(("127.0.0.1", relay.tcp)) as link:
        assert echo(link, BIG) == BIG


def test_an_answer_that_was_cut_off_is_no_whole_one(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("half"))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        relay.get("/cut")
    assert relay.get() == "half"


def test_closed_ports_refuse_and_let_requests_end(relay: Running, behind: Behind) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("one"))
    idle = http.client.HTTPConnection("127.0.0.1", relay.http, timeout=10)
    idle.request("GET", "/")
    idle.getresponse().read()
    slow = http.client.HTTPConnection("127.0.0.1", relay.http, timeout=10)
    slow.request("GET", "/wait")
    time.sleep(0.1)
    assert relay.ask(op="close")["connections"] == {"1": 1}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", relay.http))
    assert idle.sock.recv(1) == b""
    assert slow.getresponse().read() == b"one"
    assert slow.sock is None or slow.sock.recv(1) == b""
    assert relay.counts() == {}


@pytest.mark.parametrize("kept", [True, False], ids=["kept open", "one request a connection"])
def test_no_request_fails_while_instances_change(relay: Running, behind: Behind, kept: bool) -> None:
    relay.ask(op="switch", slot="1", to=behind.instance("0"))
    seen: list[str] = []
    lost: list[bool] = []
    faults: list[BaseException] = []
    over = threading.Event()

    def client() -> None:
        link = http.client.HTTPConnection("127.0.0.1", relay.http, timeout=10)
        try:
            while not over.is_set():
                if not kept:
                    link.close()
                link.request("GET", "/")
                seen.append(link.getresponse().read().decode())
                lost.append(kept and link.sock is None)
        except (OSError, http.client.HTTPException) as error:
            faults.append(error)
        finally:
            link.close()

    clients = [threading.Thread(target=client) for _ in range(6)]
    for one in clients:
        one.start()
    for number in range(1, 6):
        time.sleep(0.3)
        relay.ask(op="switch", slot=str(number + 1), to=behind.instance(str(number)))
        deadline = time.monotonic() + 5
        while relay.counts().get(str(number)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not relay.counts().get(str(number))
        for server in behind.servers[2 * number - 2 : 2 * number]:
            server.shutdown()
            with contextlib.suppress(OSError):
                server.server_close()
    over.set()
    for one in clients:
        one.join(10)
    assert not faults
    assert not any(lost), "connections were kept"
    assert set(seen) == {str(number) for number in range(6)}
