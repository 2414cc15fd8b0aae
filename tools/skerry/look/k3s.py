"""k3s on the host: configuration, certificates, how the host stands with its server, containerd's handlers."""

from __future__ import annotations

import base64
import calendar
import glob
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import time
import urllib.parse
from typing import Any

from . import network
from .services import PATH, run, starts
from .system import text_of

DATA = "/var/lib/rancher/k3s"
CONFIG = "/etc/rancher/k3s/config.yaml"
BINARY = "/usr/local/bin/k3s"
#: The two times of an X.509 validity, as DER writes them.
_MOMENT = rb"(?:\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z)"
_VALIDITY = re.compile(rb"\x30." + _MOMENT + _MOMENT, re.DOTALL)
_SECRET_KEYS = re.compile(r"^(\s*-?\s*[\w-]*(?:token|password|secret)[\w-]*\s*:\s*).+$", re.MULTILINE)
_TOKEN = re.compile(r"^K10(?P<hash>[0-9a-f]{64})::(?P<user>[^:]+):(?P<password>\S+)$")


def role() -> str:
    """"server", "agent", or "" when no unit of k3s is there."""
    for name, unit in (("server", "k3s"), ("agent", "k3s-agent")):
        if any(os.path.exists(f"{place}/systemd/system/{unit}.service") for place in ("/etc", "/usr/lib")):
            return name
    return ""


def config() -> str:
    """The configuration file without its secrets."""
    return _SECRET_KEYS.sub(r"\1[hidden]", text_of(CONFIG) or "")


def binary() -> dict[str, Any]:
    """Whether the program itself starts, and its version."""
    found = starts(BINARY)
    version = re.search(r"k3s version (\S+)", found["says"])
    return {**found, "version": version.group(1) if version else ""}


# Certificates --------------------------------------------------------------------------------------------------------


def _time(short: bytes | None, long: bytes | None) -> float:
    text = (long or b"").decode()
    if short:
        text = ("19" if short[:2] >= b"50" else "20") + short.decode()
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%S")))


def validity(pem: str) -> tuple[float, float] | None:
    """(not before, not after) of the first certificate of a PEM text, in seconds since 1970."""
    block = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END", pem, re.DOTALL)
    found = _VALIDITY.search(base64.b64decode(block.group(1))) if block else None
    if not found:
        return None
    groups = found.groups()
    return _time(groups[0], groups[1]), _time(groups[2], groups[3])


def certificates() -> list[dict[str, Any]]:
    """Certificates that k3s keeps on this host, soonest to end first."""
    found = []
    for path in sorted({*glob.glob(DATA + "/server/tls/*.crt"), *glob.glob(DATA + "/server/tls/etcd/*.crt"),
                        *glob.glob(DATA + "/agent/*.crt")}):  # fmt: skip
        times = validity(text_of(path) or "")
        if times:
            found.append({"path": path, "not_before": times[0], "not_after": times[1]})
    return sorted(found, key=lambda one: float(one["not_after"]))


# The server ----------------------------------------------------------------------------------------------------------


def _get(
    where: urllib.parse.SplitResult, path: str, tls: ssl.SSLContext, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(where.hostname or "", where.port or 443, context=tls, timeout=4.0)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def api() -> dict[str, Any]:
    """The API server of this host, asked with its own administrator's certificate: status and checks that fail."""
    tls = DATA + "/server/tls/"
    try:
        context = ssl.create_default_context(cafile=tls + "server-ca.crt")
        context.load_cert_chain(tls + "client-admin.crt", tls + "client-admin.key")
        status, body = _get(urllib.parse.urlsplit("https://127.0.0.1:6443"), "/readyz?verbose", context)
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "error": str(error) or type(error).__name__, "failed": []}
    failed = re.findall(r"^\[-\](\S+)", body.decode("utf-8", "replace"), re.MULTILINE)
    return {"status": status, "error": "", "failed": failed}


def _token() -> str:
    found = re.search(r"^token:\s*[\"']?([^\s\"']+)", text_of(CONFIG) or "", re.MULTILINE)
    if found:
        return found.group(1)
    named = re.search(r"^token-file:\s*[\"']?([^\s\"']+)", text_of(CONFIG) or "", re.MULTILINE)
    return (text_of(named.group(1) if named else "/etc/rancher/k3s/token") or "").strip()


def joining() -> dict[str, Any] | None:
    """How the server that this host joins answers it: network, CA against the token, the token itself.

    ``ca_matches`` is None when the token does not name a CA; ``token_status`` is HTTP's for the token (200: taken,
    401: refused), 0 when it was not asked. None on a host that joins nobody.
    """
    found = re.search(r"^server:\s*[\"']?(https://[^\s\"']+)", text_of(CONFIG) or "", re.MULTILINE)
    if not found:
        return None
    url = found.group(1)
    where = urllib.parse.urlsplit(url)
    answer: dict[str, Any] = {"url": url, "ca_matches": None, "token_status": 0, "error": ""}
    answer["tcp"] = network.reach(where.hostname or "", where.port or 443)
    if not answer["tcp"]["open"]:
        return answer
    token = _TOKEN.match(_token())
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE  # the bundle is compared with the token's own hash
    try:
        status, bundle = _get(where, "/cacerts", unchecked)
        if status != 200 or not token:
            answer["error"] = f"/cacerts answers {status}" if status != 200 else "the token is not of the form K10..."
            return answer
        answer["ca_matches"] = hashlib.sha256(bundle).hexdigest() == token.group("hash")
        if answer["ca_matches"]:
            checked = ssl.create_default_context(cadata=bundle.decode())
            login = "{}:{}".format(token.group("user"), token.group("password"))
            basic = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
            answer["token_status"] = _get(where, "/v1-k3s/readyz", checked, basic)[0]
    except (OSError, ValueError, http.client.HTTPException) as error:
        answer["error"] = str(error) or type(error).__name__
    return answer


def kubelet() -> dict[str, Any]:
    """The kubelet's own health, on the loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", 10248, timeout=3.0)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return {"status": answer.status, "says": answer.read(300).decode("utf-8", "replace").strip()}
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "says": getattr(error, "strerror", None) or str(error) or type(error).__name__}
    finally:
        connection.close()


# containerd ----------------------------------------------------------------------------------------------------------

_NAME = r"([\w-]+|\"[^\"]+\"|'[^']+')"
_TABLE = re.compile(r"^\s*\[plugins\..*\.containerd\.runtimes\." + _NAME + r"(?:\.[\"']?options[\"']?)?\]\s*$")
_VALUE = re.compile(r"^\s*(runtime_type|BinaryName)\s*=\s*[\"']([^\"']*)[\"']")


def _configurations() -> list[str]:
    main = DATA + "/agent/etc/containerd/config.toml"
    text = text_of(main)
    if text is None:
        return []
    imports = re.search(r"^imports\s*=\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    patterns = re.findall(r"[\"']([^\"']+)[\"']", imports.group(1)) if imports else []
    return [main, *[path for pattern in patterns for path in sorted(glob.glob(pattern))]]


def _program(kind: str, binary_name: str) -> str:
    """The file that containerd would start for a runtime; '' when there is none."""
    if binary_name:
        return binary_name if binary_name.startswith("/") else shutil.which(binary_name, path=_paths()) or ""
    parts = kind.split(".")
    if kind in ("", "io.containerd.runc.v2") or len(parts) < 4:
        return "builtin"
    return shutil.which(f"containerd-shim-{parts[-2]}-{parts[-1]}", path=_paths()) or ""


def _paths() -> str:
    return ":".join([*sorted(glob.glob(DATA + "/data/current/bin")), PATH])


def handlers(deep: bool) -> dict[str, dict[str, Any]]:
    """containerd's runtimes by name: type, program, whether it is there (``deep``: whether it starts)."""
    found: dict[str, dict[str, Any]] = {}
    for path in _configurations():
        current: dict[str, Any] | None = None
        for line in (text_of(path) or "").splitlines():
            table = _TABLE.match(line)
            if table:
                name = table.group(1).strip("\"'")
                current = found.setdefault(name, {"type": "", "binary": "", "file": path})
            elif line.lstrip().startswith("["):
                current = None
            value = _VALUE.match(line)
            if value and current is not None:
                current["type" if value.group(1) == "runtime_type" else "binary"] = value.group(2)
    found = {name: one for name, one in found.items() if "runhcs" not in one["type"]}  # Windows, in k3s's template
    for name, one in found.items():
        program = _program(one["type"], one["binary"])
        one["program"] = program
        one.update({"starts": bool(program), "says": "" if program else "its program is not on this host"})
        if program.startswith("/") and (deep or not os.path.exists(program)):
            one.update(starts(program))
        if name == "runc" and program == "builtin":
            one["says"] = "k3s's own"
    return found


def containerd() -> dict[str, Any]:
    """Whether k3s's containerd takes connections."""
    path = "/run/k3s/containerd/containerd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(3.0)
        try:
            link.connect(path)
        except OSError as error:
            return {"answers": False, "error": f"{path}: {error.strerror or error}"}
    return {"answers": True, "error": ""}


def packet_filter() -> list[str]:
    """Rules that drop or refuse what k3s needs between hosts (6443, 10250, 8472): as iptables lists them."""
    code, out, _ = run(["iptables", "-S"], 4.0)
    wanted = re.compile(r"-j (DROP|REJECT)")
    ports = re.compile(r"\b(6443|10250|8472)\b")
    return [line for line in out.splitlines() if code == 0 and wanted.search(line) and ports.search(line)][:10]
