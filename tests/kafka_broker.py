"""A broker of Kafka's protocol for tests: franz-go's kfake, built from the Go module that tests/kafka/go pins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skerry import paths
from skerry.errors import SkerryError
from skerry.workloads import toolchain

SOURCES = paths.root() / "tests" / "kafka" / "go"


def program() -> Path:
    """The built broker, from the cache where the same sources were built before; skips where it cannot be built."""
    try:
        go = toolchain.find("go")
    except SkerryError as error:
        pytest.skip(f"no Go: {error.cause}")
    state = hashlib.sha256(go.version.encode())
    for name in ("go.mod", "go.sum", "main.go"):
        state.update((SOURCES / name).read_bytes())
    place = paths.cache() / "kafka" / state.hexdigest()[:16]
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            ours = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "", "GO111MODULE": "on"}
            made = place.with_suffix(".new")
            command = [*go.command, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(made), "."]
            done = subprocess.run(command, cwd=SOURCES, env={**os.environ, **ours}, capture_output=True, text=True,
                                  check=False, timeout=240)  # fmt: skip
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "downloading" not in line]
                unreachable = any(word in done.stderr for word in ("dial tcp", "lookup ", "Forbidden", "timeout"))
                assert unreachable, done.stderr[-2000:]
                pytest.skip(f"Go modules cannot be had: {' '.join(said)[-200:]}")
            made.rename(place)
    return place


@contextmanager
def broker(*arguments: str) -> Iterator[list[tuple[str, int]]]:
    """Run a cluster with the program's flags (tests/kafka/go/main.go); gives the addresses of its brokers."""
    with subprocess.Popen([str(program()), *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            addresses = []
            for line in process.stdout:
                if line.strip() == "ready":
                    break
                host, _colon, port = line.strip().rpartition(":")
                addresses.append((host, int(port)))
            assert addresses, "the broker did not start"
            yield addresses
        finally:
            process.terminate()
