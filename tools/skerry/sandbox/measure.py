"""Measures what a host's link really does, with packets: echo requests, and a short stream in each direction."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skerry.sandbox.links import Link
from skerry.sandbox.measure_host import rate

PINGS = 200
STREAM_SECONDS = 1.2
#: Rates above it are measured by TCP: Python cannot pace datagrams that fast on both ends of one small machine.
MOST_DATAGRAM_MBIT = 200.0


@dataclass(frozen=True)
class Measured:
    """What was seen: round trip in ms (mean, standard deviation), packets lost on the way there and back in percent,
    Mbit/s of payload towards and from the host (None: not measured, ``why`` says so)."""

    rtt_ms: float | None
    rtt_deviation_ms: float | None
    loss_percent: float
    down_mbit: float | None = None
    up_mbit: float | None = None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_ping(text: str) -> Measured:
    """What ``ping -q`` printed."""
    lost = re.search(r"([0-9.]+)% packet loss", text)
    times = re.search(r"= [0-9.]+/([0-9.]+)/[0-9.]+/([0-9.]+) ms", text)
    return Measured(
        float(times[1]) if times else None,
        float(times[2]) if times else None,
        float(lost[1]) if lost else 100.0,
        why="" if lost else f"ping: {text.strip()[-120:]}",
    )


def _accept(server: socket.socket) -> socket.socket:
    server.settimeout(20)
    client, _ = server.accept()
    client.settimeout(20)
    return client


def _drain(client: socket.socket) -> float:
    """Mbit/s of what arrives until the end, without the first 0.2 s (slow start, the token bucket's burst)."""
    first, counted, last = time.monotonic(), 0, 0.0
    while chunk := client.recv(1 << 18):
        last = time.monotonic()
        if last - first > 0.2:
            counted += len(chunk)
    return counted * 8 / 1e6 / max(last - first - 0.2, 1e-3)


def _receive_datagrams(port: socket.socket) -> tuple[float, tuple[str, int]]:
    """Mbit/s of the datagrams that come until one of them says stop, and who sent them."""
    port.settimeout(20)
    times: list[tuple[float, int]] = []
    while True:
        data, sender = port.recvfrom(2048)
        if data.startswith(b"stop"):
            return rate(times), sender
        times.append((time.monotonic(), len(data) + 28))  # the IP and UDP headers use the link, too


def send_datagrams(port: socket.socket, to: tuple[str, int], mbit: float, heard: Callable[[], bool]) -> None:
    """Send datagrams of 1,400 bytes at ``mbit`` for a while, then say stop until the host has ``heard``."""
    payload, gap = bytes(1400), 1428 * 8 / (mbit * 1e6)
    start = at = time.monotonic()
    while at - start < STREAM_SECONDS:
        if (wait := at - time.monotonic()) > 0:
            time.sleep(wait)
        port.sendto(payload, to)
        at += gap
    while not heard() and time.monotonic() - start < STREAM_SECONDS + 10:
        port.sendto(b"stop", to)
        time.sleep(0.05)


def _host_script(gateway: str, mode: str, port: int, up: float, down: float) -> str:
    helper = (Path(__file__).with_name("measure_host.py")).read_text(encoding="utf-8")
    return f"{helper}\nmain({gateway!r}, {mode!r}, {port}, {up}, {down}, {STREAM_SECONDS})\n"


def _streams(ssh: Sequence[str], gateway: str, link: Link) -> tuple[float, float]:
    """Mbit/s towards and from the host."""
    datagrams = 0 < link.down <= MOST_DATAGRAM_MBIT and 0 < link.up <= MOST_DATAGRAM_MBIT
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind((gateway, 0))
        if not datagrams:
            server.listen(2)
        # A little more than the link carries: what arrives then is the link's rate.
        script = _host_script(
            gateway, "udp" if datagrams else "tcp", server.getsockname()[1], link.up * 1.15, link.down
        )
        process = subprocess.Popen(
            [*ssh, "python3", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stdin is not None
            process.stdin.write(script)
            process.stdin.close()
            process.stdin = None
            if datagrams:
                up, host = _receive_datagrams(server)
                send_datagrams(server, host, link.down * 1.15, lambda: process.poll() is not None)
            else:
                with _accept(server) as client:
                    up = _drain(client)
                with _accept(server) as client:
                    end = time.monotonic() + STREAM_SECONDS
                    while time.monotonic() < end:
                        client.send(bytes(1 << 16))
            said, trouble = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise OSError(trouble.strip()[-200:] or f"exit code {process.returncode}")
    return float(json.loads(said)["down"]), up


def link(ssh: Sequence[str], gateway: str, asked: Link, streams: bool) -> Measured:
    """Measure one host's link; ``ssh`` is the command that logs in to it, ``gateway`` this machine's address there."""
    command = ["ping", "-q", "-n", "-i", "0.01", "-c", str(PINGS), "-W", "3", gateway]
    done = subprocess.run([*ssh, *command], capture_output=True, text=True, check=False, timeout=60)
    seen = parse_ping(done.stdout or done.stderr)
    if not streams or seen.rtt_ms is None:
        return seen
    try:
        down, up = _streams(ssh, gateway, asked)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Measured(seen.rtt_ms, seen.rtt_deviation_ms, seen.loss_percent, why=f"no stream: {error}")
    return Measured(seen.rtt_ms, seen.rtt_deviation_ms, seen.loss_percent, round(down, 2), round(up, 2))
