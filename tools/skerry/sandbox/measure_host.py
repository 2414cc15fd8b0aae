"""The host's half of a measurement (see measure.py): sent over ssh as text, Python 3.9, standard library only."""

import json
import socket
import time


def rate(arrivals: list[tuple[float, int]]) -> float:
    """Mbit/s between the arrivals (time, bytes) after the first 0.2 s."""
    steady = [item for item in arrivals if item[0] - arrivals[0][0] > 0.2]
    if len(steady) < 2:
        return 0.0
    return sum(size for _, size in steady[1:]) * 8 / 1e6 / (steady[-1][0] - steady[0][0])


def datagrams(gateway: str, port: int, up: float, seconds: float) -> float:
    """Send at ``up`` Mbit/s, then receive until told to stop; Mbit/s received."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        payload, gap = bytes(1400), 1428 * 8 / (up * 1e6)
        start = at = time.monotonic()
        while at - start < seconds:
            wait = at - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            link.sendto(payload, (gateway, port))
            at += gap
        arrivals: list[tuple[float, int]] = []
        link.settimeout(0.1)
        deadline = time.monotonic() + 20
        while True:
            try:
                data = link.recv(2048)
            except OSError:  # nothing for a moment
                if time.monotonic() > deadline:
                    return rate(arrivals)
                if not arrivals:  # the link loses some: say it until the other end has heard
                    link.sendto(b"stop", (gateway, port))
                continue
            if data.startswith(b"stop"):
                return rate(arrivals)
            arrivals.append((time.monotonic(), len(data) + 28))


def stream(gateway: str, port: int, seconds: float) -> float:
    """Send a TCP stream, then receive one to its end; Mbit/s received."""
    with socket.create_connection((gateway, port), timeout=20) as link:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            link.sendall(bytes(1 << 16))
    with socket.create_connection((gateway, port), timeout=20) as link:
        arrivals: list[tuple[float, int]] = []
        while True:
            data = link.recv(1 << 18)
            if not data:
                return rate(arrivals)
            arrivals.append((time.monotonic(), len(data)))


def main(gateway: str, mode: str, port: int, up: float, down: float, seconds: float) -> None:
    """Called by the last line of what measure.py sends."""
    got = datagrams(gateway, port, up, seconds) if mode == "udp" else stream(gateway, port, seconds)
    print(json.dumps({"down": round(got, 2)}))
