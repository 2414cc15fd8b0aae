"""Services of the host: units, their journals, who listens where, the Docker Engine."""

from __future__ import annotations

import glob
import http.client
import json
import os
import re
import socket
import subprocess
from typing import Any

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"
#: Units that Skerry's roles, or what they build on, bring; those that a host does not have are left out.
UNITS = (
    "k3s",
    "k3s-agent",
    "docker",
    "containerd",
    "chrony",
    "chronyd",
    "systemd-timesyncd",
    "nfs-server",
    "nfs-ganesha",
    "rpcbind",
    "docker-registry",
    "prometheus-node-exporter",
)
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "NRestarts",
    "MainPID",
    "ExecMainStatus",
    "ExecMainCode",
    "InvocationID",
    "StateChangeTimestampMonotonic",
)
#: Ports whose holder is worth a name.
PORTS = (6443, 6444, 10250, 10248, 10257, 10259, 2379, 2380, 5000, 9100, 111, 2049)
#: What must not leave the host with a journal.
SECRET = re.compile(r"(K10[0-9a-f]{64}::\w+:|(?:token|password|secret)[\"']?\s*[=:]\s*[\"']?)[^\s\"',]+", re.I)


def run(command: list[str], timeout: float = 5.0) -> tuple[int, str, str]:
    """(exit code, output, errors); 127 when it cannot be started, 124 when it did not end in time."""
    environment = {"PATH": PATH, "LC_ALL": "C", "HOME": "/nonexistent", "SYSTEMD_COLORS": "0"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {timeout:.0f} s"
    except OSError as error:
        return 127, "", error.strerror or str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def units() -> dict[str, dict[str, str]]:
    """Units that are there, by name, with the properties above; {} where the host has no systemd."""
    code, out, _ = run(["systemctl", "show", *UNITS, "--property=" + ",".join(PROPERTIES)])
    found: dict[str, dict[str, str]] = {}
    for block in out.split("\n\n") if code == 0 else []:
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("LoadState") not in ("not-found", None):
            found.setdefault(values["Id"].rsplit(".", 1)[0], values)
    return found


def journal(unit: str, state: dict[str, str], lines: int = 300) -> str:
    """The end of what a unit said since it was last started by somebody, without tokens and passwords.

    What it said before a person put it right is no longer true; a unit that systemd starts again and again says each
    time a part of what is wrong.
    """
    command = ["journalctl", "-n", str(lines), "-o", "short-iso", "--no-pager", "--quiet"]
    if int(state.get("NRestarts") or 0) > 0 or not state.get("InvocationID"):
        chosen = ["-u", unit, "--since", "-90s"]
    else:
        chosen = ["_SYSTEMD_INVOCATION_ID=" + state["InvocationID"]]
    out = run([*command, *chosen], 8.0)[1]
    return SECRET.sub(r"\1[hidden]", "\n".join(line[:600] for line in out.splitlines()))


def journals() -> dict[str, str]:
    """Journals of the services that carry the platform."""
    known = units()
    return {name: journal(name, known[name]) for name in ("k3s", "k3s-agent", "docker") if name in known}


def _listening() -> dict[int, set[str]]:
    """Port -> inodes of the sockets that listen on it."""
    found: dict[int, set[str]] = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == "0A":
                found.setdefault(int(words[1].rsplit(":", 1)[1], 16), set()).add(words[9])
    return found


def listeners() -> dict[str, str | None]:
    """Port -> name of the process that listens there; None when nobody says whose it is."""
    sockets = {port: inodes for port, inodes in _listening().items() if port in PORTS}
    wanted = {inode: port for port, inodes in sockets.items() for inode in inodes}
    holders: dict[str, str | None] = {str(port): None for port in sockets}
    for path in glob.glob("/proc/[0-9]*/fd/*") if wanted else []:
        try:
            link = os.readlink(path)
        except OSError:
            continue
        if link.startswith("socket:[") and link[8:-1] in wanted:
            process = path.split("/")[2]
            try:
                with open(f"/proc/{process}/comm") as file:
                    holders[str(wanted[link[8:-1]])] = f"{file.read().strip()} (pid {process})"
            except OSError:
                continue
    return holders


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=4.0)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def docker() -> dict[str, Any] | None:
    """The Docker Engine: whether it answers, its version and runtimes; None where there is none."""
    program = next((path for path in ("/usr/bin/dockerd", "/usr/sbin/dockerd") if os.path.exists(path)), None)
    if program is None:
        return None
    found: dict[str, Any] = {"answers": False, "version": "", "error": "", "runtimes": [], "config_error": ""}
    try:
        with open("/etc/docker/daemon.json") as file:
            settings = json.load(file)
        found["runtimes"] = [
            {"name": name, "path": one.get("path", "")} for name, one in settings.get("runtimes", {}).items()
        ]
    except FileNotFoundError:
        pass  # Docker's own defaults
    except (OSError, ValueError, AttributeError) as error:
        found["config_error"] = f"/etc/docker/daemon.json: {error}"
    for runtime in found["runtimes"]:
        runtime.update(starts(runtime["path"]))
    connection = _UnixConnection("/run/docker.sock")
    try:
        connection.request("GET", "/version")
        answer = connection.getresponse()
        found["version"] = json.loads(answer.read()).get("Version", "")
        found["answers"] = answer.status == 200
    except (OSError, ValueError, http.client.HTTPException) as error:
        found["error"] = getattr(error, "strerror", None) or str(error) or type(error).__name__
    finally:
        connection.close()
    return found


def starts(path: str) -> dict[str, Any]:
    """Whether a program is there and says its version: {"starts": bool, "says": its words}."""
    if not path:
        return {"starts": True, "says": ""}
    if not os.path.exists(path):
        return {"starts": False, "says": "no such file"}
    if not os.access(path, os.X_OK):
        return {"starts": False, "says": "not executable"}
    word = "-v" if os.path.basename(path).startswith("containerd-shim") else "--version"
    code, out, err = run([path, word])
    said = " ".join((out or err).split())[:300]
    return {"starts": code == 0, "says": said or f"exit code {code}"}
