"""Compares values with the options of an argument spec, as Ansible does at run time, but before any host is touched."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from skerry.inventory.files import Vaulted
from skerry.inventory.findings import MISSING_KEY, NOT_A_CHOICE, UNKNOWN_KEY, WRONG_TYPE, Rule
from skerry.inventory.specs import Option

_BOOLEANS = {"yes", "no", "on", "off", "true", "false", "y", "n", "t", "f", "1", "0"}


@dataclass(frozen=True)
class Problem:
    """A value that its option does not allow. ``path`` leads to it from the variable: keys and list positions."""

    rule: Rule
    path: tuple[str | int, ...]
    cause: str
    remedy: str = ""


def templated(value: Any) -> bool:
    """Whether only Ansible can know the value: Jinja, or Ansible Vault."""
    return isinstance(value, Vaulted) or (isinstance(value, str) and ("{{" in value or "{%" in value))


def nearest(name: str, known: Iterator[str] | set[str] | list[str]) -> str | None:
    """The known name that is closest to ``name``, if any is close."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.75)
    return found[0] if found else None


def did_you_mean(name: str, known: set[str]) -> str:
    """`did you mean x?`, or the known names where none is close and they are few."""
    if close := nearest(name, known):
        return f"did you mean {close}?"
    return f"known are: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""


def check(option: Option, value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Problem]:
    """Every problem of ``value`` under ``option``; values that only Ansible can know have none."""
    if value is None or templated(value):
        return
    if not _fits(option.type, value):
        yield Problem(WRONG_TYPE, path, f"{shown(value)} is no {option.type}", f"write {_example(option.type)}")
        return
    if option.choices and option.type != "list" and not _is_choice(value, option):
        choices = {str(choice) for choice in option.choices}
        yield Problem(NOT_A_CHOICE, path, f"{shown(value)} is none of the choices", did_you_mean(str(value), choices))
    if option.type == "list" and isinstance(value, list):
        member = Option(option.name, option.elements or "raw", choices=option.choices, options=option.options)
        for position, item in enumerate(value):
            yield from check(member, item, (*path, position))
    elif option.options and isinstance(value, dict):
        yield from _keys(option, value, path)


def _keys(option: Option, value: dict[Any, Any], path: tuple[str | int, ...]) -> Iterator[Problem]:
    known = set(option.options) | {alias for nested in option.options.values() for alias in nested.aliases}
    for key in value:
        if str(key) not in known:
            cause = f"{option.name} has no key {key}"
            yield Problem(UNKNOWN_KEY, (*path, str(key)), cause, did_you_mean(str(key), known))
    for name, nested in option.options.items():
        present = [key for key in (name, *nested.aliases) if key in value]
        if present:
            yield from check(nested, value[present[0]], (*path, present[0]))
        elif nested.required:
            yield Problem(MISSING_KEY, path, f"{option.name} lacks the key {name}", f"add {name}")


def _is_choice(value: Any, option: Option) -> bool:
    if option.type == "bool":
        return True
    return value in option.choices or str(value) in {str(choice) for choice in option.choices}


def _fits(kind: str, value: Any) -> bool:
    """Whether Ansible would take ``value`` for ``kind`` and mean what the person meant."""
    checks = {
        "str": isinstance(value, str | int | float) and not isinstance(value, bool),
        "path": isinstance(value, str),
        "bool": isinstance(value, bool) or str(value).lower() in _BOOLEANS,
        "int": _number(value, int),
        "float": _number(value, float),
        # Ansible splits a string at its commas, and reads key=value pairs: both are meant so.
        "list": isinstance(value, list | str),
        "dict": isinstance(value, dict) or (isinstance(value, str) and _is_mapping_text(value)),
    }
    # Vaulted and templated members, raw, json, bits and the like: Ansible's own business.
    return checks.get(kind, True)


def _is_mapping_text(text: str) -> bool:
    """Whether Ansible reads a string as a mapping: JSON or a Python literal in braces, or key=value pairs."""
    if text.startswith("{"):
        try:
            return isinstance(ast.literal_eval(text), dict)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return _is_json_mapping(text)
    fields = [part for part in re.split(r"[,\s]+", text) if part]
    return bool(fields) and all("=" in part for part in fields)


def _is_json_mapping(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _number(value: Any, kind: type[int] | type[float]) -> bool:
    if isinstance(value, bool):
        return False
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return kind is float or number.is_integer()


def _example(kind: str) -> str:
    examples = {
        "str": "text", "path": "a path", "bool": "true or false", "int": "a whole number", "float": "a number",
        "list": "a list", "dict": "a mapping (key: value)",
    }
    return examples.get(kind, f"a {kind}")


def shown(value: Any) -> str:
    """A value in a message: short, on one line."""
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 60 else text[:57] + "...") if isinstance(value, str) else text[:60]
