"""Files of a registry host: the registry's configuration, its users, units.

Configuration keys as upstream documents them for distribution 2.8. Python 3.8, standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import secrets

from ansible_collections.skerry.edge.plugins.module_utils.coded import CodedError

FOLDER = "/etc/skerry/registry"
CONFIG = FOLDER + "/config.yml"
READ_ONLY = FOLDER + "/read-only.yml"
USERS = FOLDER + "/htpasswd"
CERTIFICATE = FOLDER + "/tls.crt"
KEY = FOLDER + "/tls.key"
AUTHORITY = FOLDER + "/tls-ca.crt"
SERVICE = "docker-registry.service"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/skerry.conf"
GC_SERVICE = "/etc/systemd/system/skerry-registry-gc.service"
GC_TIMER = "/etc/systemd/system/skerry-registry-gc.timer"
ACCOUNT = "docker-registry"
BINARY = "/usr/bin/docker-registry"
MARK = "# Written by Skerry's role registry; changes are lost.\n"
USER_NAME = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
#: Each request of a client is checked against bcrypt, so more rounds cost the registry more than an attacker gains from
#: passwords of 190 bits; 2**8 rounds take some 15 ms.
ROUNDS = 8
_SALT = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

_CONFIG = """version: 0.1
log:
  level: info
  accesslog: {{disabled: true}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
  cache: {{blobdescriptor: inmemory}}
  maintenance:
    uploadpurging: {{enabled: true, age: 168h, interval: 24h, dryrun: false}}
    readonly: {{enabled: {read_only}}}
auth:
  htpasswd: {{realm: skerry, path: {users}}}
http:
  addr: {address}
  secret: {secret}
  tls: {{certificate: {certificate}, key: {key}, minimumtls: tls1.2}}
  headers: {{X-Content-Type-Options: [nosniff]}}
health:
  storagedriver: {{enabled: true, interval: 10s, threshold: 3}}
"""

_DROP_IN = """[Unit]
ConditionPathExists={config}

[Service]
Environment=SKERRY_REGISTRY_CONFIG={config}
# Names the read-only configuration while the garbage collection runs.
EnvironmentFile=-/run/skerry/registry.env
ExecStart=
ExecStart={binary} serve ${{SKERRY_REGISTRY_CONFIG}}
Restart=on-failure
RestartSec=2
NoNewPrivileges=true
PrivateTmp=true
ProtectHome=true
ProtectSystem=full
UMask=0027
{ports}"""

_GC_SERVICE = """[Unit]
Description=Remove what no image of the registry refers to any more
After={service}
ConditionPathExists={config}

[Service]
Type=oneshot
# Uploads during a collection could lose layers: the registry serves read-only meanwhile, whatever happens not longer.
ExecStartPre=/bin/mkdir -p /run/skerry
ExecStartPre=/bin/sh -c 'echo SKERRY_REGISTRY_CONFIG={read_only} > /run/skerry/registry.env'
ExecStartPre=/bin/systemctl restart {service}
ExecStart=/sbin/runuser -u {account} -- {binary} garbage-collect {untagged}{config}
ExecStopPost=/bin/rm -f /run/skerry/registry.env
ExecStopPost=/bin/systemctl restart {service}
Nice=10
IOSchedulingClass=idle
"""

_GC_TIMER = """[Unit]
Description=Remove what no image of the registry refers to any more

[Timer]
OnCalendar={calendar}
RandomizedDelaySec=300
Persistent=true

[Install]
WantedBy=timers.target
"""


class RegistryError(CodedError):
    """What is wrong here, and what to do."""


def remove(path):
    """Remove a file, and its folder when nothing else is in it and it was made for the registry alone."""
    os.unlink(path)
    folder = os.path.dirname(path)
    if os.path.basename(folder) in ("registry", "registries.d", SERVICE + ".d") or "/certs.d/" in folder:
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(folder)
            if "/certs.d/" in folder:
                os.rmdir(os.path.dirname(folder))


def config(params, read_only=False):
    """The registry's configuration. The upload secret follows the key, so that a restart does not break uploads."""
    secret = hashlib.sha256(("upload:" + params["key"]).encode()).hexdigest()
    return MARK + _CONFIG.format(
        data=json.dumps(params["data_dir"]), read_only="true" if read_only else "false", users=USERS,
        address=json.dumps(":{}".format(params["port"])), secret=secret, certificate=CERTIFICATE, key=KEY,
    )


def drop_in(port):
    """The drop-in of the distribution's unit."""
    low = "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" if int(port) < 1024 else ""
    return MARK + _DROP_IN.format(config=CONFIG, binary=BINARY, ports=low)


def gc_service(untagged):
    """The unit of the garbage collection."""
    return MARK + _GC_SERVICE.format(
        service=SERVICE, config=CONFIG, read_only=READ_ONLY, account=ACCOUNT, binary=BINARY,
        untagged="--delete-untagged " if untagged else "",
    )


def gc_timer(calendar):
    """Its timer."""
    return MARK + _GC_TIMER.format(calendar=calendar)


def _crypt(password, setting):
    """crypt(3) of the host's libcrypt, '' where it refuses."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError as error:
        raise RegistryError(
            "REGISTRY_010", f"the host has no libcrypt: {error}", "install the package libcrypt1, then run again"
        ) from error
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    answer = library.crypt(password.encode(), setting.encode())
    return answer.decode() if answer and answer.startswith(b"$2") else ""


def hashed(password):
    """bcrypt of a password. Raises REGISTRY_010 where the host cannot make one."""
    # The last character of a salt carries two bits only.
    salt = "".join(secrets.choice(_SALT) for _ in range(21)) + secrets.choice(".Oeu")
    answer = _crypt(password, f"$2b${ROUNDS:02d}${salt}")
    if not answer:
        raise RegistryError(
            "REGISTRY_010", "libcrypt of this host knows no bcrypt", "put the registry on Debian 12 or 13"
        )
    return answer


def users_of(text):
    """{name: hash} of an htpasswd file."""
    rows = [line.split(":", 1) for line in (text or "").splitlines() if ":" in line and not line.startswith("#")]
    return {name: value.strip() for name, value in rows}


def users(wanted, text):
    """The htpasswd file for [{name, password}]; the hash of a password that still holds stays. Raises REGISTRY_011."""
    present, lines = users_of(text), []
    for user in wanted:
        name, password = user.get("name") or "", user.get("password") or ""
        if not USER_NAME.match(name) or not password or len(password.encode()) > 72:
            raise RegistryError(
                "REGISTRY_011",
                f"user {name!r} has no usable name or password (bcrypt takes at most 72 bytes)",
                "correct registry_username, registry_password and registry_users",
            )
        before = present.get(name, "")
        same = before and _crypt(password, before) == before
        lines.append(f"{name}:{before if same else hashed(password)}\n")
    return "".join(sorted(lines))
