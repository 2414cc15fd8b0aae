"""Where things are: the checkout, its state, the user's cache."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The checkout that this package belongs to."""
    return Path(os.environ.get("SKERRY_ROOT") or Path(__file__).resolve().parents[2])


def state() -> Path:
    """State of this checkout (sandbox keys, logs, results); ignored by git."""
    return root() / ".skerry"


def cache() -> Path:
    """The user's cache: host images, built workloads, the default mirror. ``SKERRY_CACHE`` moves it."""
    if moved := os.environ.get("SKERRY_CACHE"):
        return Path(moved)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skerry"


def mirror() -> Path:
    """The default mirror directory; the variable ``skerry_mirror`` and ``SKERRY_MIRROR`` name another."""
    return Path(os.environ.get("SKERRY_MIRROR") or cache() / "mirror")
