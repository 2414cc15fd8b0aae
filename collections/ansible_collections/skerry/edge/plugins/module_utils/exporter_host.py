"""The distribution's node exporter on a host: its unit, its command, its login and its certificate.

Runs on the hosts: Python 3.8 or later, standard library only.
"""

from __future__ import annotations

import calendar
import ctypes
import ipaddress
import os
import re
import secrets
import string
import subprocess
import tempfile
import time

from ansible_collections.skerry.edge.plugins.module_utils.coded import CodedError
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text

UNITS = ("prometheus-node-exporter.service", "node_exporter.service", "prometheus-node_exporter.service")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BCRYPT = string.ascii_letters + string.digits + "./"
RENEW_DAYS = 30
# No authority: a key that was taken passes for its own host only, though Prometheus trusts the certificate as a root.
SETTINGS = """[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = {name}
[extensions]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = {alternatives}
"""


class ExporterError(CodedError):
    """What is wrong here, and what to do."""


def output(command, feed=None):
    """(exit code, output and errors) of a command; 127 where it is absent."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": PATH}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, input=feed)
    except FileNotFoundError:
        return 127, f"{command[0]}: not found"
    return done.returncode, done.stdout + done.stderr


def unit_of():
    """(name of the exporter's unit, its properties), or ("", {}) where none is installed."""
    fields = ("LoadState", "ActiveState", "MainPID", "UnitFileState", "NeedDaemonReload", "User", "FragmentPath")
    for name in UNITS:
        _, text = output(["systemctl", "show", name, "-p", ",".join(fields)])
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if found.get("LoadState") == "loaded":
            return name, found
    return "", {}


def command_of(fragment):
    """Path of the exporter, as the package's own unit starts it."""
    try:
        with open(fragment, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as error:
        cause = f"cannot read {fragment}: {error.strerror}"
        raise ExporterError("MONITOR_011", cause, "reinstall its package") from error
    found = re.search(r"^ExecStart=[-@:+!]*(\S+)", text, re.MULTILINE)
    if not found:
        raise ExporterError("MONITOR_011", f"{fragment} starts nothing", "reinstall its package")
    return found.group(1)


def flags_of(command):
    """(names of the flags that this version of the exporter knows, its version)."""
    _, text = output([command, "--help"])
    flags = set(re.findall(r"--\[?(?:no-\]?)?([a-z][\w.-]*)", text))
    _, said = output([command, "--version"])
    found = re.search(r"version (\S+)", said)
    return flags, found.group(1).rstrip(",") if found else ""


def crypt(password, setting):
    """crypt(3) of the system's library; Python's own module is gone since 3.13."""
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.crypt.restype = ctypes.c_char_p
        made = library.crypt(password.encode(), setting.encode())
        text = made.decode() if made else ""
        if text.startswith("$2"):
            return text
    cause = "this host's libcrypt makes no bcrypt hashes"
    raise ExporterError("MONITOR_012", cause, "leave node_exporter_user empty on it and use a firewall or TLS instead")


def hashed(password, known):
    """A bcrypt hash of the password: ``known`` where it is one."""
    if known and crypt(password, known) == known:
        return known
    salt = "".join(secrets.choice(BCRYPT) for _ in range(21)) + secrets.choice(".Oeu")
    return crypt(password, "$2b$10$" + salt)


def alternative_names(names):
    """What the certificate is for, as openssl writes it."""
    told = []
    for name in names:
        try:
            told.append(f"IP:{ipaddress.ip_address(name)}")
        except ValueError:
            told.append(f"DNS:{name}")
    return ",".join(sorted(set(told)))


def certificate_fits(certificate, key, names):
    """Whether the files hold a certificate of ours for these names that lasts, and its key."""
    if not (os.path.exists(certificate) and os.path.exists(key)):
        return False
    status, text = output(
        ["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName,basicConstraints", "-pubkey",
         "-checkend", str(RENEW_DAYS * 86400)]
    )  # fmt: skip
    if status != 0 or "CA:TRUE" in text:
        return False
    # openssl writes addresses of version 6 in full: through the same function they look alike.
    shown = re.findall(r"(?:DNS|IP Address):([^,\s]+)", text)
    _, public = output(["openssl", "pkey", "-in", key, "-pubout"])
    return alternative_names(shown) == alternative_names(names) and bool(public.strip()) and public.strip() in text


def make_certificate(names, days):
    """(certificate, key) as PEM: one that verifies itself, for these names."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        files = [os.path.join(folder, name) for name in ("cert.pem", "key.pem")]
        settings = os.path.join(folder, "settings.cnf")
        with open(settings, "w", encoding="utf-8") as stream:
            stream.write(SETTINGS.format(name=names[0][:64], alternatives=alternative_names(names)))
        status, text = output(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", str(days), "-config", settings, "-out", files[0], "-keyout", files[1]]
        )  # fmt: skip
        if status != 0:
            cause = f"openssl made no certificate: {text.strip()[-300:]}"
            remedy = "install openssl 1.1.1 or later, or set node_exporter_certificate and node_exporter_key"
            raise ExporterError("MONITOR_013", cause, remedy)
        texts = []
        for path in files:
            with open(path, encoding="utf-8") as stream:
                texts.append(stream.read())
        return texts


def end_of(certificate):
    """When a certificate ends, in seconds since 1970; 0 where it cannot be read."""
    status, text = output(["openssl", "x509", "-in", certificate, "-noout", "-enddate"])
    found = re.search(r"notAfter=(.+) GMT", text)
    return calendar.timegm(time.strptime(found.group(1), "%b %d %H:%M:%S %Y")) if status == 0 and found else 0


def read(path):
    """A file's text, or ''."""
    return read_text(path) or ""
