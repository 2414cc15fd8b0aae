"""A relay in user space: holds a host's frames back, loses some, and keeps their order.

It stands in the host's cable. The outer end of the host's virtual Ethernet pair leaves the bridge, and a TAP device
takes its port there; this process carries frames between the two. So it sees everything that the host sends and gets,
the host cannot go round it, and no packet filter is involved. When the process ends, the TAP device ends with it.

Run as: python -m skerry.sandbox.relay '{"outer": ..., "tap": ..., "link": {...}, "pid": ...}' (root).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from skerry.sandbox.links import QUEUE_SECONDS, Link

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_SIOCETHTOOL = 0x8946
#: ethtool's old "set" commands: transmit checksums, scatter-gather, TSO, GSO, GRO. Switched off, every frame that the
#: relay sees is a real one: at most one MTU long, with its checksum.
_ETHTOOL_FEATURES = (0x17, 0x19, 0x1F, 0x24, 0x2C)
_PACKET_IGNORE_OUTGOING, _SOL_PACKET = 23, 263
_ETH_P_ALL = 3
_CLONE_NEWNET = 0x40000000
#: Frames read at one wake-up before departures are looked at again.
_BURST = 64
#: Frames held at once in one direction: 10,000 of 1,500 bytes are 150 ms of a gigabit or 1.2 s of 100 Mbit/s.
_MOST_HELD = 10_000


class Lane:
    """One direction: decides for each frame whether and when it leaves. Times are seconds of a monotonic clock."""

    def __init__(self, link: Link, mbit: float, rng: random.Random) -> None:
        self._delay, self._jitter, self._loss = link.latency / 1000, link.jitter / 1000, link.loss / 100
        self._seconds_per_byte = 8 / (mbit * 1e6) if mbit else 0.0
        self._random = rng.random
        self._sent_until = 0.0  # when the (rate-limited) wire is free again
        self._last = 0.0  # departure of the frame before: none overtakes it
        self._held: deque[tuple[float, bytes]] = deque()
        self.lost = self.dropped = 0

    def put(self, frame: bytes, now: float) -> None:
        """Take one frame: lose it, drop it (queue full), or hold it until its time."""
        if self._loss and self._random() < self._loss:
            self.lost += 1
            return
        start = now
        if self._seconds_per_byte:
            start = max(now, self._sent_until)
            if start - now > QUEUE_SECONDS:
                self.dropped += 1
                return
            start += len(frame) * self._seconds_per_byte
            self._sent_until = start
        if len(self._held) >= _MOST_HELD:
            self.dropped += 1
            return
        leave = start + self._delay + (self._jitter * (2 * self._random() - 1) if self._jitter else 0.0)
        self._last = max(leave, self._last)
        self._held.append((self._last, frame))

    def due(self, now: float) -> list[bytes]:
        """Frames whose time has come, in the order in which they came."""
        held, ready = self._held, []
        while held and held[0][0] <= now:
            ready.append(held.popleft()[1])
        return ready

    def next(self) -> float | None:
        """When the next frame leaves; None when none is held."""
        return self._held[0][0] if self._held else None


def _features(name: str, on: bool) -> None:
    """Switch the offloads of interface ``name`` in this process's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _ETHTOOL_FEATURES:
            value = ctypes.create_string_buffer(struct.pack("II", command, int(on)))
            request = struct.pack("16sP8x", name.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, _SIOCETHTOOL, request)


def _features_inside(pid: int, name: str, on: bool) -> None:
    """The same in the namespace of process ``pid``; this process is back in its own afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open("rb") as home, Path(f"/proc/{pid}/ns/net").open("rb") as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            _features(name, on)
        finally:
            if libc.setns(home.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns back")


def _ip(*words: str) -> None:
    subprocess.run(["ip", "link", "set", *words], check=True, capture_output=True, text=True)


class Cable:
    """The two ends that the relay stands between: the outer end of the host's pair, and a TAP device on the bridge.

    Args:
        outer: name of the outer end, a port of ``bridge``.
        bridge: name of the sandbox's bridge.
        pid: a process inside the host (its network namespace holds ``inner``).
        inner: the host's own name of its interface.
    """

    def __init__(self, outer: str, bridge: str, pid: int, inner: str = "eth0") -> None:
        self.outer, self.bridge, self._pid, self._inner = outer, bridge, pid, inner
        self._offloads(False)
        self.tap_name = f"skt{outer[-11:]}"
        self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tap, _TUNSETIFF, struct.pack("16sH22x", self.tap_name.encode(), _IFF_TAP | _IFF_NO_PI))
        # ETH_P_ALL is given only with the bind, so that no frame of another interface is ever queued.
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.wire.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.wire.bind((outer, _ETH_P_ALL))
        self.wire.setblocking(False)
        _ip("dev", self.tap_name, "up", "txqueuelen", "2000")
        # The machine itself must not answer on the loose end: frames are the relay's alone there.
        _ip("dev", outer, "nomaster", "arp", "off")
        quiet = Path(f"/proc/sys/net/ipv6/conf/{outer}/disable_ipv6")
        if quiet.exists():
            quiet.write_text("1", encoding="ascii")
        _ip("dev", self.tap_name, "master", bridge)

    def _offloads(self, on: bool) -> None:
        _features_inside(self._pid, self._inner, on)
        _features(self.outer, on)

    def close(self) -> None:
        """Plug the host into the bridge again, where both are still there."""
        self.wire.close()
        os.close(self.tap)
        if Path(f"/sys/class/net/{self.outer}").exists() and Path(f"/sys/class/net/{self.bridge}").exists():
            _ip("dev", self.outer, "arp", "on", "master", self.bridge)
            self._offloads(True)


class Relay:
    """Carries frames until told to stop, or until the host's cable is gone."""

    def __init__(self, cable: Cable, link: Link, rng: random.Random) -> None:
        self._cable = cable
        self.to_host, self.from_host = Lane(link, link.down, rng), Lane(link, link.up, rng)
        self.stopping = False

    def _read(self, now: float) -> bool:
        """Take what has arrived; False when an end is gone."""
        return self._take(self._from_bridge, self.to_host, now) and self._take(self._from_wire, self.from_host, now)

    def _from_bridge(self) -> bytes:
        return os.read(self._cable.tap, 65536)

    def _from_wire(self) -> bytes:
        return self._cable.wire.recv(65536)

    def _take(self, read: Callable[[], bytes], lane: Lane, now: float) -> bool:
        for _ in range(_BURST):
            try:
                lane.put(read(), now)
            except BlockingIOError:
                break
            except OSError:  # the interface went down for a moment, or for good
                return Path(f"/sys/class/net/{self._cable.outer}").exists()
        return True

    def _write(self, now: float) -> None:
        cable = self._cable
        for send, lane in ((cable.wire.send, self.to_host), (lambda frame: os.write(cable.tap, frame), self.from_host)):
            for frame in lane.due(now):
                try:
                    send(frame)
                except OSError:  # the device's queue is full, or it is down: a real cable loses the frame too
                    lane.dropped += 1

    def run(self) -> None:
        """The loop; one thread, no busy waiting."""
        clock, cable = time.monotonic, self._cable
        while not self.stopping:
            times = [at for at in (self.to_host.next(), self.from_host.next()) if at is not None]
            wait = max(0.0, min(times) - clock()) if times else 5.0
            select.select([cable.tap, cable.wire.fileno()], [], [], wait)
            if not self._read(clock()):
                return
            self._write(clock())


def main() -> None:
    """Entry point; prints ``ready`` when the cable is in place."""
    asked = json.loads(sys.argv[1])
    if os.geteuid() == 0:
        os.nice(-10)  # a late frame is a false delay
    try:
        cable = Cable(asked["outer"], asked["bridge"], int(asked["pid"]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}: {error.stderr.strip()}")
    relay = Relay(cable, Link(**asked["link"]), random.Random(asked.get("seed")))

    def stop(*_: object) -> None:
        relay.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print("ready", flush=True)
    try:
        relay.run()
    finally:
        cable.close()


if __name__ == "__main__":
    main()
