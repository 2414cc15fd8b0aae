"""One call of a module by Ansible itself, on this machine or on a host: arguments, connection and result are real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry import paths

_HERE = ("-c", "local", "-e", f"ansible_python_interpreter={sys.executable}")


@dataclass(frozen=True)
class Call:
    """The module's result, and all that Ansible printed."""

    result: dict[str, Any]
    output: str


def call(module: str, arguments: Mapping[str, Any], *words: str, host: str = "", inventory: Path | None = None) -> Call:
    """Run ``module`` (its full name); without a host on this machine. ``words`` are options of `ansible`."""
    where = [host, "-i", str(inventory), "-b"] if host else ["localhost", *_HERE]
    root = paths.root()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible"), *where, "-m", module, "-a", json.dumps(arguments), *words],
        cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(root / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "memory",
             "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
    )  # fmt: skip
    start = f"\n{done.stdout}".find("\n{")  # with -vvv other lines stand before it
    assert start >= 0, done.stdout + done.stderr
    said = json.loads(done.stdout[start:])
    return Call(said["plays"][0]["tasks"][0]["hosts"][host or "localhost"], done.stdout + done.stderr)
