"""Runs a job and counts what it prints: the one limit that systemd does not have."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from typing import NoReturn

#: How it ends when a run printed too much; no module can send a signal.
TOO_MUCH = signal.SIGUSR2
_CHUNK = 1 << 16


def run(argv: list[str], limit: int | None) -> NoReturn:
    """Become the parent of ``argv``, pass its output on, end it at ``limit`` bytes; exits as it does."""
    child = subprocess.Popen(argv, stdin=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda which, _: child.send_signal(which))
    if child.stdout is None or child.stderr is None:
        raise AssertionError("pipes were asked for")
    sinks, seen = {child.stdout.fileno(): 1, child.stderr.fileno(): 2}, 0
    while sinks:
        for fd in select.select(list(sinks), [], [])[0]:
            data = os.read(fd, _CHUNK)
            if not data:
                del sinks[fd]
                continue
            room = len(data) if limit is None else max(0, limit - seen)
            seen += len(data)
            os.write(sinks[fd], data[:room])
            if limit is not None and seen > limit:
                child.kill()
                child.wait()
                signal.signal(TOO_MUCH, signal.SIG_DFL)
                os.kill(os.getpid(), TOO_MUCH)
    status = child.wait()
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
