"""Where HTTP messages end, told from the bytes alone: what decides whether a connection may go on elsewhere."""

from __future__ import annotations

import pytest

from skerry_host.messages import Exchange

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: What goes back and forth ("c" from the client), and whether the connection is between two requests after it.
TALKS: dict[str, tuple[list[tuple[str, bytes]], bool]] = {
    "nothing yet": ([], True),
    "a request alone": ([("c", GET)], False),
    "half a head": ([("c", GET[:9])], False),
    "answered": ([("c", GET), ("s", OK)], True),
    "half an answer": ([("c", GET), ("s", OK[:-1])], False),
    "two at once, one answered": ([("c", GET + GET), ("s", OK)], False),
    "two at once, both answered": ([("c", GET + GET), ("s", OK + OK)], True),
    "a body not whole": ([("c", b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), ("s", OK)], False),
    "a body whole": ([("c", b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), ("s", OK)], True),
    "an interim answer": ([("c", GET), ("s", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")], False),
    "after an interim answer": ([("c", GET), ("s", b"HTTP/1.1 100 Continue\r\n\r\n" + OK)], True),
    "chunks": ([("c", GET), ("s", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  b"5;x=y\r\nab\r\nc\r\n0\r\nDigest: z\r\n\r\n")], True),
    "chunks without their end": ([("c", GET), ("s", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                                    b"2\r\nab\r\n0\r\n")], False),
    "no body to HEAD": ([("c", b"HEAD / HTTP/1.1\r\n\r\n"), ("s", OK[:-2])], True),
    "no body with 304": ([("c", GET), ("s", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")], True),
    "until the end": ([("c", GET), ("s", b"HTTP/1.1 200 OK\r\n\r\nanything")], False),
    "the server will close": ([("c", GET), ("s", OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))], False),
    "the client will close": ([("c", GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")), ("s", OK)], False),
    "HTTP/1.0": ([("c", b"GET / HTTP/1.0\r\n\r\n"), ("s", OK.replace(b"1.1", b"1.0"))], False),
    "another protocol from here on": ([("c", GET.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\n\r\n")),
                                       ("s", b"HTTP/1.1 101 Switching Protocols\r\n\r\n")], False),
    "a tunnel": ([("c", b"CONNECT a:1 HTTP/1.1\r\n\r\n"), ("s", b"HTTP/1.1 200 OK\r\n\r\n")], False),
    "HTTP/2": ([("c", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], False),
    "no HTTP": ([("c", b"\x16\x03\x01\x02\x00\x01\n\r\n")], False),
    "two lengths": ([("c", b"PUT / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), ("s", OK)], False),
    "an answer to nothing": ([("s", OK)], False),
    "a head without end": ([("c", b"GET / HTTP/1.1\r\nA: " + b"a" * 70000)], False),
}


@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "byte by byte"])
def test_between_two_requests(name: str, at_once: bool) -> None:
    talk, between = TALKS[name]
    exchange = Exchange()
    for who, data in talk:
        for piece in [data] if at_once else [data[at : at + 1] for at in range(len(data))]:
            (exchange.request if who == "c" else exchange.answer)(piece)
    assert exchange.between is between


def test_a_connection_that_was_lost_stays_so() -> None:
    exchange = Exchange()
    exchange.request(b"no http\r\n\r\n")
    exchange.answer(OK)
    exchange.request(GET)
    exchange.answer(OK)
    assert not exchange.between
