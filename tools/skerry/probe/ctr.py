"""containerd's events on the node, as ``k3s ctr events`` tells them: when a container was made, started, ended - to the
nanosecond and by the runtime itself, where a pod's status comes a second late and is rounded to seconds."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from .crilog import nanoseconds, to_monotonic
from .faults import ProbeError

NAMESPACE = "k8s.io"
_LINE = re.compile(r"^(\d{4}-\d\d-\d\d) (\S+) ([+-]\d{4}) \S+ k8s\.io (/\S+) (\{.*\})$")


def run(k3s: str, *words: str) -> str:
    """``k3s ctr``; its output. Raises ProbeError when it fails."""
    command = [k3s, "ctr", "-n", NAMESPACE, *words]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-400:]
        raise ProbeError(
            "RUN_025", f"k3s ctr {words[0]} {words[1]} failed: {said}", "journalctl -u k3s on the host says more"
        )
    return done.stdout.decode("utf-8", "replace")


@dataclass
class Event:
    """``at_ns``: of the monotonic clock, when containerd published it."""

    topic: str
    at_ns: int
    body: dict[str, Any]


def parse(line: str) -> Event | None:
    """One line of ``ctr events``; None when it is none."""
    found = _LINE.match(line)
    if found is None:
        return None
    date, clock, zone, topic, body = found.groups()
    stamp = f"{date}T{clock}{zone[:3]}:{zone[3:]}"
    return Event(topic, to_monotonic(nanoseconds(stamp)), json.loads(body))


class Events:
    """A resident ``ctr events``."""

    def __init__(self, k3s: str) -> None:
        self.process = subprocess.Popen(
            [k3s, "ctr", "-n", NAMESPACE, "events"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if self.process.stdout is None:
            raise AssertionError("a pipe was asked for")
        self.fd = self.process.stdout.fileno()
        os.set_blocking(self.fd, False)
        self.rest = b""

    def read(self) -> list[Event]:
        """What has come; [] when nothing has.

        Raises:
            ProbeError: containerd's events have ended.
        """
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return []
        if not data:
            raise ProbeError("RUN_025", "containerd's events ended", "systemctl status k3s (or k3s-agent) on the host")
        *lines, self.rest = (self.rest + data).split(b"\n")
        parsed = (parse(line.decode("utf-8", "replace")) for line in lines)
        return [event for event in parsed if event is not None]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
