"""Syntax of Kubernetes' names, labels and taints, and of addresses.

Rules: RFC 1123 (names), Kubernetes' documentation of labels (key: optional DNS prefix, slash, name of 63 characters at
most that begins and ends with a letter or digit) and of taints (key[=value]:effect).
"""

from __future__ import annotations

import ipaddress
import re

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def is_dns_name(name: str) -> bool:
    """Whether ``name`` is an RFC 1123 subdomain: lower case, labels of 63 characters, 253 in all."""
    return len(name) <= 253 and _DNS.fullmatch(name) is not None


def is_label_key(key: str) -> bool:
    """Whether Kubernetes takes ``key`` as the key of a label or taint."""
    prefix, slash, name = key.rpartition("/")
    return _NAME.fullmatch(name) is not None and (is_dns_name(prefix) if slash else True)


def is_label_value(value: str) -> bool:
    """Whether Kubernetes takes ``value`` as a label's value (empty is one)."""
    return value == "" or _NAME.fullmatch(value) is not None


def is_taint(text: str) -> bool:
    """Whether ``text`` is ``key[=value]:Effect``."""
    body, colon, effect = text.rpartition(":")
    key, _, value = body.partition("=")
    return bool(colon) and effect in EFFECTS and is_label_key(key) and is_label_value(value)


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address or a host name that ssh can be given."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        numeric = re.fullmatch(r"[0-9.]+", text) is not None  # 300.1.1.1 is a mistake, not a name
        return not numeric and is_dns_name(text.lower().rstrip(".").replace("_", "-"))
    return True
