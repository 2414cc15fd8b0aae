"""The host's network as the platform sees it: resolvers, and whether other hosts answer."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from typing import Any

from .system import text_of

#: Seconds that a resolver has, asked twice.
RESOLVER_SECONDS = 1.2


def _question(name: str) -> bytes:
    """A DNS query for the addresses of a name."""
    number = int.from_bytes(os.urandom(2), "big")
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part)
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def ask_resolver(address: str, name: str, seconds: float = RESOLVER_SECONDS) -> str:
    """What a name server says: "answers" (whatever the answer), or why it does not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    problem = ""
    for _ in range(2):
        with socket.socket(family, socket.SOCK_DGRAM) as link:
            link.settimeout(seconds)
            query = _question(name)
            try:
                link.connect((address, 53))
                link.send(query)
                if link.recv(1500)[:2] == query[:2]:
                    return "answers"
            except socket.timeout:
                problem = f"no answer within {seconds:.1f} s"
            except OSError as error:
                problem = error.strerror or str(error)
    return problem


def resolvers(cluster_dns: str = "") -> dict[str, Any]:
    """Name servers of the host, each with what it says; the cluster's own where the host has k3s."""
    file = "/etc/resolv.conf"
    servers = re.findall(r"^\s*nameserver\s+(\S+)", text_of(file) or "", re.MULTILINE)
    found: dict[str, Any] = {"file": file, "servers": {one: ask_resolver(one, "skerry.invalid") for one in servers}}
    if cluster_dns:
        found["cluster"] = ask_resolver(cluster_dns, "kubernetes.default.svc.cluster.local")
    return found


def reach(host: str, port: int, seconds: float = 3.0) -> dict[str, Any]:
    """Whether a TCP port answers: {"open": bool, "error": str, "seconds": float}."""
    start = time.monotonic()
    try:
        with socket.create_connection((host, port), seconds):
            return {"open": True, "error": "", "seconds": time.monotonic() - start}
    except socket.timeout:
        error = f"no answer within {seconds:.0f} s"
    except OSError as failure:
        error = failure.strerror or str(failure)
    return {"open": False, "error": error, "seconds": time.monotonic() - start}


def reach_all(wanted: list[list[Any]]) -> dict[str, dict[str, Any]]:
    """`reach` for each [host, port], by ``host:port``."""
    return {f"{host}:{port}": reach(str(host), int(port)) for host, port in wanted}
