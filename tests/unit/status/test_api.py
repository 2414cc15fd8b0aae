"""Reading lists page after page: from a small server on this machine that is slow, wrong or gone when told so."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from skerry.status.api import Api, ApiError, Deadline, Outcome, read_list
from skerry.status.kubeconfig import Access

PER_PAGE = 3


class Server(ThreadingHTTPServer):
    """Serves /items of 8 objects; ``slow`` delays the page that begins with that object, ``behaviour`` spoils it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.slow: dict[int, float] = {}
        self.status: dict[int, int] = {}
        self.asked: list[tuple[float, int]] = []
        self.truncate = -1


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Nothing is said."""

    def do_GET(self) -> None:  # the name that http.server looks for
        where = urlsplit(self.path)
        if where.path != "/items":
            self._answer(404, {"kind": "Status", "message": "the server could not find the requested resource"})
            return
        start = int(parse_qs(where.query).get("continue", ["0"])[0])
        self.server.asked.append((time.monotonic(), start))
        time.sleep(self.server.slow.get(start, 0.0))
        if start in self.server.status:
            self._answer(self.server.status[start], {"kind": "Status", "message": "no"})
            return
        last = min(8, start + PER_PAGE)
        meta: dict[str, Any] = {"resourceVersion": "1"}
        if last < 8:
            meta |= {"continue": str(last), "remainingItemCount": 8 - last}
        items = [{"metadata": {"name": str(number)}} for number in range(start, last)]
        self._answer(200, {"kind": "List", "metadata": meta, "items": items}, start == self.server.truncate)

    def _answer(self, status: int, body: dict[str, Any], cut: bool = False) -> None:
        data = json.dumps(body, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def api(server: Server) -> Api:
    return Api(Access(Path("kubeconfig"), f"http://127.0.0.1:{server.server_port}", ""))


def read(server: Server, seconds: float = 5.0, path: str = "/items") -> tuple[list[str], Outcome]:
    names: list[str] = []
    outcome = read_list(api(server), "items", path, seconds, lambda item: names.append(item["metadata"]["name"]))
    return names, outcome


def test_all_pages_are_read(server: Server) -> None:
    names, outcome = read(server)
    assert names == [str(number) for number in range(8)]
    assert (outcome.state, outcome.count, outcome.remaining) == ("complete", 8, None)
    assert [start for _, start in server.asked] == [0, 3, 6]


def test_what_came_before_the_deadline_is_kept_and_the_rest_counted(server: Server) -> None:
    server.slow[6] = 3.0
    start = time.monotonic()
    names, outcome = read(server, 0.6)
    assert time.monotonic() - start < 1.5
    assert len(names) == 6
    assert (outcome.state, outcome.count, outcome.remaining, outcome.kind) == ("partial", 6, 2, "timeout")
    assert not outcome.whole


def test_a_server_that_refuses_in_the_middle_leaves_a_part(server: Server) -> None:
    server.status[3] = 500
    names, outcome = read(server)
    assert (names, outcome.state, outcome.status) == (["0", "1", "2"], "partial", 500)


def test_an_answer_that_breaks_off_is_no_answer(server: Server) -> None:
    server.truncate = 3
    names, outcome = read(server)
    assert (names, outcome.state) == (["0", "1", "2"], "partial")
    assert outcome.error


def test_a_kind_that_is_not_there_has_no_objects(server: Server) -> None:
    names, outcome = read(server, path="/others")
    assert (names, outcome.state, outcome.whole) == ([], "absent", True)


def test_nobody_listens(server: Server) -> None:
    server.shutdown()
    server.server_close()
    _, outcome = read(server)
    assert (outcome.state, outcome.kind) == ("failed", "refused")


@pytest.mark.parametrize(("status", "kind"), [(401, "unauthorised"), (403, "forbidden"), (429, "refused-request")])
def test_refusals_have_a_kind(server: Server, status: int, kind: str) -> None:
    server.status[0] = status
    with pytest.raises(ApiError) as caught:
        api(server).get("/items", Deadline(2))
    assert (caught.value.status, caught.value.kind, caught.value.said) == (status, kind, "no")
