"""`skerry deploy` and its relatives as processes against hosts, and a module to keep there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from skerry import paths
from skerry.targets.inventory import read

ROOT = paths.root()
TOKEN = "hush$\"'hush"
ENVIRONMENT = {**os.environ, "SKERRY_TEST_TOKEN": TOKEN, "NO_COLOR": "1", "COLUMNS": "160"}
#: Prints what it was given, then a line each 100 ms for ever; an argument is the code with which it ends at once.
SERVICE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
  char line[64] = "no file", secret[64] = "none", *token = getenv("TOKEN");
  FILE *file = fopen("/etc/app/config", "r"), *mounted = fopen("/run/secrets/token", "r");
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (file && fgets(line, sizeof line, file)) line[5] = 0;
  if (mounted && fgets(secret, sizeof secret, mounted)) token = secret;
  printf("%s token=%s config=%s\n", argv[0], token ? token : secret, line);
  if (argc > 1) return atoi(argv[1]);
  for (int at = 0;; at++) { printf("tick %d\n", at); usleep(100000); }
}
"""
TICKER = {"name": "ticker", "kind": "service", "module": "ticker.wasm", "readiness": {"line": "tick 2", "timeout": 30},
          "secrets": {"TOKEN": {"env": "SKERRY_TEST_TOKEN"}}, "limits": {"memory": "64Mi", "cpu": 0.5},
          "files": [{"source": "config", "guest": "/etc/app/config"}]}

#: Where the host's side keeps everything.
STATE = "/var/lib/skerry/deployed"
#: On a host: some runtime's command was proved there. Debian 13 has one of its own, wasmtime's comes with a mirror.
HAS_RUNTIME = "grep -Eq 'bin/(wasmtime|wasmedge)\"' /etc/ansible/facts.d/skerry.fact"

Run = Callable[..., list[dict[str, Any]]]


def converged(request: pytest.FixtureRequest) -> Path:
    """Inventory of converged hosts: those of all scenarios, or those that SKERRY_RUN_INVENTORY names."""
    if named := os.environ.get("SKERRY_RUN_INVENTORY"):
        return Path(named)
    shared: Path = request.getfixturevalue("shared_inventory")
    return shared


def skerry(*words: str | Path, code: int | None = 0,
           env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line, as people start it. ``code``: with which it must end, None for any."""
    command = [sys.executable, str(ROOT / "skerry"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False,
                          env={**ENVIRONMENT, **(env or {})})
    assert code in (None, done.returncode), f"{' '.join(command[2:])}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What a command printed with --json."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def inside(host: str, variables: Mapping[str, Any], command: str) -> str:
    """Run a shell command in a sandbox host, as root."""
    name = f"{variables['sandbox_name']}-{host}"
    done = subprocess.run(["docker", "exec", name, "sh", "-c", command], capture_output=True, text=True, check=False)
    return done.stdout


def hosts_with(inventory: Path, look: str) -> dict[str, dict[str, Any]]:
    """Hosts that have the host's side and on which a shell command succeeds, with their variables."""
    every = {target.name: dict(target.variables) for target in read([str(inventory)])}
    test = f"test -x /usr/local/sbin/skerry-host && {look} && echo yes"
    return {name: values for name, values in every.items() if "yes" in inside(name, values, test).split()}


def able(inventory: Path, look: str, lacking: str) -> dict[str, dict[str, Any]]:
    """As `hosts_with`; skips for the reason ``lacking`` where there are none."""
    found = hosts_with(inventory, look)
    if not found:
        pytest.skip(lacking)
    return found


def build(source: str, target: Path, triple: str = "wasm32-wasi") -> Path:
    """A C program, built with the toolchain from PyPI."""
    target.with_suffix(".c").write_text(source)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-Os", "-s"]
    subprocess.run([*command, "-o", str(target), str(target.with_suffix(".c"))], check=True)
    return target


def rows(inventory: Path, name: str, code: int | None = 0) -> list[dict[str, Any]]:
    """`skerry ps` of one workload."""
    return objects(skerry("ps", name, "-i", inventory, "--json", code=code))


def settled(inventory: Path, name: str, code: int | None = 0, seconds: float = 60) -> list[dict[str, Any]]:
    """`skerry ps` of a job once each host has a run of it behind it."""
    deadline = time.monotonic() + seconds
    while True:
        found = rows(inventory, name, None)
        if all(row["last"] for row in found) or time.monotonic() > deadline:
            return rows(inventory, name, code)
        time.sleep(0.3)


def actions(outcomes: list[dict[str, Any]]) -> set[str]:
    """What became of workloads."""
    return {one["action"] for one in outcomes}
