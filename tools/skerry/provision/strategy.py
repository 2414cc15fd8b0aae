"""mitogen, an offered setting that is off by default: Python stays on the hosts between tasks (docs/speed.md)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from skerry.errors import Exit, SkerryError


def mitogen_environment() -> dict[str, str]:
    """Variables that make Ansible run its tasks through mitogen.

    Raises:
        SkerryError: PROVISION_009, the package is not installed beside Ansible.
    """
    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or found.origin is None:
        raise SkerryError(
            "PROVISION_009",
            "mitogen is not installed; it is offered, and no part of Skerry's environment",
            "install it with `.venv/bin/pip install mitogen`, or leave --mitogen out",
            Exit.PREREQUISITE,
        )
    plugins = Path(found.origin).parent / "plugins" / "strategy"
    return {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}
