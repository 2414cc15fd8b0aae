"""The checkout that a script measures. Imported first, it lets scripts import the package as it lies there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent  # commands of the environment that runs the script
sys.path.insert(0, str(ROOT / "tools"))


def commit() -> str:
    """The commit that is measured, with ``-dirty`` where files differ from it; empty outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
