"""From an inventory to the kubeconfig of its cluster, and from a kubeconfig to a connection."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.probe.kube import context as tls_context
from skerry.targets.api import Target

_PLAIN_TEMPLATE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Access:
    """How an API server is spoken to. ``certificate`` and ``key`` are PEM, b"" with a token; ``ca`` is PEM or ""."""

    source: Path
    server: str
    ca: str
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.server).port or 443

    def context(self) -> ssl.SSLContext | None:
        """TLS that trusts the kubeconfig's CA alone; None for plain http.

        Raises:
            SkerryError: STATUS_003, when certificate, key or CA cannot be used.
        """
        if urlsplit(self.server).scheme == "http":
            return None
        try:
            return tls_context(self.ca, self.certificate or None, self.key or None)
        except (ssl.SSLError, ValueError) as error:
            raise _unusable(self.source, f"its certificates cannot be read: {error}") from error


def _unusable(path: Path, why: str) -> SkerryError:
    return SkerryError(
        "STATUS_003",
        f"the kubeconfig {path} cannot be used: {why}",
        "run playbooks/cluster.yml, which fetches it again, or name another with --kubeconfig",
    )


def _bytes(section: Mapping[str, Any], name: str, beside: Path) -> bytes:
    """A value that stands in the file in base64, or in a file of its own."""
    if data := section.get(f"{name}-data"):
        return base64.b64decode(str(data))
    if named := section.get(name):
        return (beside / str(named)).read_bytes()
    return b""


def read(path: Path) -> Access:
    """The current context of a kubeconfig with a client certificate or a token.

    Raises:
        SkerryError: STATUS_003.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        wanted = content["current-context"]
        chosen = next(entry["context"] for entry in content["contexts"] if entry["name"] == wanted)
        cluster = next(entry["cluster"] for entry in content["clusters"] if entry["name"] == chosen["cluster"])
        user = next(entry["user"] for entry in content["users"] if entry["name"] == chosen["user"])
        token = user.get("token") or ""
        if named := user.get("tokenFile"):
            token = (path.parent / named).read_text(encoding="utf-8").strip()
        return Access(
            path,
            cluster["server"],
            _bytes(cluster, "certificate-authority", path.parent).decode(),
            _bytes(user, "client-certificate", path.parent),
            _bytes(user, "client-key", path.parent),
            token,
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration, ValueError, AttributeError) as error:
        raise _unusable(path, f"{type(error).__name__}: {error}") from error


def setting(target: Target, name: str, default: str) -> str:
    """A host's variable; templates that name nothing but another variable are followed."""
    value = str(target.variables.get(name) or default)
    for _ in range(5):
        found = _PLAIN_TEMPLATE.search(value)
        if found is None:
            break
        value = value.replace(found[0], str(target.variables.get(found[1]) or ""))
    return default if "{{" in value or "{%" in value or not value else value


def members(targets: Sequence[Target]) -> list[Target]:
    """The hosts that have k3s."""
    return [one for one in targets if {"skerry_servers", "skerry_agents"} & set(one.groups)]


def of_inventory(targets: Sequence[Target]) -> dict[str, Path]:
    """Where the role k3s leaves the kubeconfig of each cluster of an inventory: its name -> the file."""
    found: dict[str, Path] = {}
    for target in members(targets):
        folder = setting(target, "k3s_kubeconfig_dir", str(paths.state() / "kube"))
        name = setting(target, "k3s_cluster_name", "skerry")
        found.setdefault(name, Path(folder).expanduser() / f"{name}.yaml")
    return found


def choose(targets: Sequence[Target], given: Path | None, cluster: str | None) -> tuple[str, Path] | None:
    """(cluster's name, kubeconfig) to read; None where the inventory has no cluster.

    Raises:
        SkerryError: STATUS_001 (several clusters and none named), STATUS_002 (no such cluster).
    """
    known = of_inventory(targets)
    if given is not None:
        return cluster or next(iter(known), given.stem), given
    if cluster is not None and cluster not in known:
        raise SkerryError(
            "STATUS_002",
            f"the inventory has no cluster {cluster!r}",
            f"name one of: {', '.join(known) or 'none'}",
            Exit.USAGE,
        )
    if len(known) > 1 and cluster is None:
        raise SkerryError(
            "STATUS_001",
            f"the inventory has {len(known)} clusters: {', '.join(known)}",
            "choose one with --cluster",
            Exit.USAGE,
        )
    name = cluster or next(iter(known), None)
    return None if name is None else (name, known[name])
