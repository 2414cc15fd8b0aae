"""daemon.json: which keys there are and of which type, which of them a running daemon takes up without a restart.

Keys as documented for Docker Engine 20.10 to 29 (dockerd's reference). Python 3.8, standard library only.
"""

from __future__ import annotations

import difflib
import http.client
import json
import socket
import subprocess

from ansible_collections.skerry.edge.plugins.module_utils.coded import CodedError

#: Keys of daemon.json by the JSON type of their value.
_STRINGS = """
    bip bridge cgroup-parent containerd containerd-namespace containerd-plugins-namespace data-root
    default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-runtime exec-root
    firewall-backend fixed-cidr fixed-cidr-v6 group host-gateway-ip http-proxy https-proxy init-path ip log-driver
    log-format log-level metrics-addr min-api-version no-proxy pidfile seccomp-profile storage-driver
    swarm-default-advertise-addr tlscacert tlscert tlskey userland-proxy-path userns-remap
"""
_BOOLEANS = """
    allow-direct-routing debug experimental icc init ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6
    live-restore no-new-privileges raw-logs selinux-enabled tls tlsverify userland-proxy
"""
_NUMBERS = """
    max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu network-control-plane-mtu
    network-diagnostic-port oom-score-adjust shutdown-timeout
"""
_LISTS = """
    allow-nondistributable-artifacts authorization-plugins cdi-spec-dirs default-address-pools dns dns-opts dns-search
    exec-opts insecure-registries labels node-generic-resources registry-mirrors storage-opts
"""
_MAPPINGS = "builder default-network-opts default-ulimits features log-opts proxies runtimes"
KEYS = {str: _STRINGS, bool: _BOOLEANS, int: _NUMBERS, list: _LISTS, dict: _MAPPINGS}
#: What a running daemon takes up on SIGHUP; everything else wants a restart.
RELOADABLE = {
    "authorization-plugins", "debug", "default-runtime", "features", "insecure-registries", "labels", "live-restore",
    "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "registry-mirrors", "runtimes",
    "shutdown-timeout",
}
_TYPES = {key: kind for kind, keys in KEYS.items() for key in keys.split()}
_WORDS = {str: "a string", bool: "true or false", int: "a whole number", list: "a list", dict: "a mapping"}


class DockerError(CodedError):
    """What is wrong here, and what to do."""


def _fits(value, kind):
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def complaints(config):
    """What is wrong with a daemon.json, in words; empty when nothing is."""
    found = []
    for key, value in sorted(config.items()):
        if key == "hosts":
            found.append("hosts belongs to the unit, which passes -H: a daemon with both does not start")
        elif key not in _TYPES:
            near = difflib.get_close_matches(key, _TYPES, n=1)
            found.append(f"{key} is no key of daemon.json" + (f", {near[0]} is" if near else ""))
        elif not _fits(value, _TYPES[key]):
            found.append(f"{key} must be {_WORDS[_TYPES[key]]}, not {json.dumps(value)}")
    for option, value in (config.get("log-opts") or {}).items():
        if not isinstance(value, str):
            found.append(f"log-opts.{option} must be a string, not {json.dumps(value)}")
    for name, runtime in (config.get("runtimes") or {}).items():
        if name == "runc" or not isinstance(runtime, dict) or not {"path", "runtimeType"} & set(runtime):
            found.append(f"runtimes.{name} must be a mapping with path or runtimeType, and not be called runc")
    if config.get("live-restore") and config.get("swarm-default-advertise-addr"):
        found.append("live-restore does not go with swarm")
    return found


def reload_is_enough(old, new):
    """Whether a running daemon takes up the difference of two configurations on SIGHUP."""
    return {key for key in set(old) | set(new) if old.get(key) != new.get(key)} <= RELOADABLE


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path, request, timeout=10):
    """JSON answer of Docker's API on a unix socket.

    Raises:
        OSError, http.client.HTTPException, ValueError: nobody listens, or no answer of Docker's.
    """
    connection = _UnixConnection(path, timeout)
    try:
        connection.request("GET", request)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}: {text[:200]}")
        return json.loads(text)
    finally:
        connection.close()


def output(command):
    """(exit code, output with errors) of a command."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout
