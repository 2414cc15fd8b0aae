"""Reading the host's Skerry fact file."""

from __future__ import annotations

import json

PATH = "/etc/ansible/facts.d/skerry.fact"


def section(name, path=PATH):
    """One role's section, or {}: where there is none, or no readable file."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}
    found = content.get(name) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}
