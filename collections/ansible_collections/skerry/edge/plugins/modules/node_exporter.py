#!/usr/bin/python
"""Configure the distribution's node exporter and prove that it answers (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_exporter
short_description: Configure the distribution's node exporter, write the host's facts as metrics, prove that it answers
description:
  - Finds the unit of the package, whatever the distribution calls it, and gives it arguments of ours by a drop-in.
  - With I(tls) and no I(certificate) the host makes one for I(names), which is made anew 30 days before its end.
  - A login is kept as a bcrypt hash. Files with secrets can be read by root and the exporter alone.
  - Writes what the fact file knows as metrics for the textfile collector, on nodes of a cluster too (I(service=false)).
  - The exporter is restarted when what it runs with differs from what it should run with, and then asked.
options:
  state:
    description: C(absent) stops it and removes what this module wrote.
    type: str
    choices: [present, absent]
    default: present
  service:
    description: Whether this host runs an exporter of its own; else only the facts are written.
    type: bool
    default: true
  listen:
    description: Address to listen on; empty for all.
    type: str
    default: ""
  port:
    description: Port to listen on.
    type: int
    default: 9100
  tls:
    description: Answer with TLS only.
    type: bool
    default: false
  names:
    description: Names and addresses that the certificate is for.
    type: list
    elements: str
    default: []
  certificate:
    description: Certificate to use (PEM); empty to make one.
    type: str
    default: ""
  key:
    description: Its private key (PEM).
    type: str
    default: ""
  days:
    description: Validity of a certificate that is made.
    type: int
    default: 3650
  user:
    description: User that must log in; empty for no login.
    type: str
    default: ""
  password:
    description: The user's password.
    type: str
    default: ""
  collectors:
    description: Collectors to switch on.
    type: list
    elements: str
    default: []
  collectors_off:
    description: Collectors to switch off, as far as this version has them.
    type: list
    elements: str
    default: []
  facts:
    description: Write the facts as metrics.
    type: bool
    default: true
  labels:
    description: Labels of C(skerry_host_info).
    type: dict
    default: {}
  timeout:
    description: Seconds until the exporter must answer.
    type: int
    default: 60
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
attributes:
  diff_mode:
    description: Shows the drop-in and the metrics, never a key or a hash.
"""

EXAMPLES = r"""
- name: Configure the node exporter
  skerry.edge.node_exporter:
    tls: true
    names: [edge-7, 192.0.2.7]
"""

RETURN = r"""
version:
  description: Version of the exporter; '' without one.
  returned: success
  type: str
certificate:
  description: The certificate that it shows (PEM); '' without TLS.
  returned: success
  type: str
recorded:
  description: What the fact file says of the role node_exporter by now.
  returned: success
  type: dict
"""

import base64
import grp
import http.client
import json
import os
import pwd
import re
import shutil
import ssl
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import exporter_host as on_host
from ansible_collections.skerry.edge.plugins.module_utils import exporter_text, fact_file
from ansible_collections.skerry.edge.plugins.module_utils.exporter_host import ExporterError, output, read
from ansible_collections.skerry.edge.plugins.module_utils.files import replace_file

FOLDER = "/etc/skerry/node-exporter"
CERTIFICATE = FOLDER + "/tls.crt"
KEY = FOLDER + "/tls.key"
TEXTS = "/var/lib/prometheus/node-exporter"
METRICS = TEXTS + "/skerry.prom"
DROP_IN = "/etc/systemd/system/{}.d/skerry.conf"


class Work:
    """One run of the module."""

    def __init__(self, module):
        self.given = module.params
        self.check = module.check_mode
        self.unit, self.state = on_host.unit_of() if self.given["service"] else ("", {})
        self.diff = []
        self.changed = False
        self.group = 0

    # -- files -----------------------------------------------------------------------------------------------------

    def put(self, path, text, mode, secret=False):
        """Bring a file into its state."""
        group = self.group if mode == 0o640 else 0
        before = read(path)
        if before == text and os.path.exists(path):
            now = os.stat(path)
            if (now.st_mode & 0o777, now.st_uid, now.st_gid) == (mode, 0, group):
                return
        self.changed = True
        shown = ("(secret)\n" if before else "", "(secret, changed)\n") if secret else (before, text)
        self.diff.append({"before_header": path, "after_header": path, "before": shown[0], "after": shown[1]})
        if not self.check:
            replace_file(path, text, mode, (0, group))

    def drop(self, path):
        """Remove a file or folder."""
        if not os.path.lexists(path):
            return
        self.changed = True
        self.diff.append({"header": path, "before": "there\n", "after": ""})
        if not self.check:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    # -- present ---------------------------------------------------------------------------------------------------

    def present(self):
        """Everything, in its order; returns the module's result."""
        version = ""
        if self.given["service"]:
            if not self.unit:
                if self.check:
                    return {"changed": True, "version": "", "certificate": "", "diff": self.diff}
                cause = "no node exporter is installed"
                raise ExporterError("MONITOR_014", cause, "run the role node_exporter with its installing tasks")
            version = self.service()
        elif self.given["facts"]:
            self.metrics()
        if not self.given["facts"]:
            self.drop(METRICS)
        certificate = read(CERTIFICATE) if self.given["service"] and self.given["tls"] else ""
        return {"changed": self.changed, "version": version, "certificate": certificate, "diff": self.diff}

    def service(self):
        """Files, unit, restart, proof; returns the exporter's version."""
        command = on_host.command_of(self.state["FragmentPath"])
        flags, version = on_host.flags_of(command)
        user = self.state.get("User") or "root"
        self.group = pwd.getpwnam(user).pw_gid if user != "root" else grp.getgrnam("root").gr_gid
        web = self.web_config(flags)
        if self.given["facts"]:
            self.metrics()
        arguments = [command, *self.arguments(flags, web)]
        text = "[Service]\nExecStart=\nExecStart={}\n".format(" ".join(quoted(item) for item in arguments))
        self.put(DROP_IN.format(self.unit), "# Written by Skerry's role node_exporter.\n" + text, 0o644)
        self.start(arguments)
        if not self.check:
            self.prove()
        return version

    def web_config(self, flags):
        """Certificate, login and the file that names them; returns its path, '' without both."""
        given, lines = self.given, []
        if not (given["tls"] or given["user"]):
            self.drop(FOLDER)
            return ""
        if not {"web.config", "web.config.file"} & flags:
            cause = "this version of the node exporter knows neither TLS nor a login"
            raise ExporterError("MONITOR_015", cause, "take a newer one, or set node_exporter_tls: false and no user")
        for stale in ([FOLDER + "/web.yml"] if given["tls"] else [FOLDER + "/web-tls.yml", CERTIFICATE, KEY]):
            self.drop(stale)
        if given["tls"]:
            self.certificate()
            lines += ["tls_server_config:", f"  cert_file: {CERTIFICATE}", f"  key_file: {KEY}", "  min_version: TLS12"]
        # Its own name for each: TLS is switched on and off by a restart only, which a changed argument leads to.
        path = FOLDER + ("/web-tls.yml" if given["tls"] else "/web.yml")
        if given["user"]:
            known = re.search(r'^  "[^"]*": "(\$2[^"]+)"$', read(path), re.MULTILINE)
            hashed = on_host.hashed(given["password"], known.group(1) if known else "")
            lines += ["basic_auth_users:", f'  {json.dumps(given["user"])}: "{hashed}"']
        self.put(path, "\n".join(lines) + "\n", 0o640, secret=True)
        return path

    def certificate(self):
        """The certificate that was given, or one of the host's own."""
        if self.given["certificate"]:
            certificate, key = self.given["certificate"].strip() + "\n", self.given["key"].strip() + "\n"
        elif on_host.certificate_fits(CERTIFICATE, KEY, self.given["names"]):
            certificate, key = read(CERTIFICATE), read(KEY)
        elif self.check:
            self.changed = True
            return
        else:
            certificate, key = on_host.make_certificate(self.given["names"], self.given["days"])
        self.put(KEY, key, 0o640, secret=True)
        self.put(CERTIFICATE, certificate, 0o644)

    def metrics(self):
        """The host's facts as metrics."""
        try:
            facts = json.loads(read(fact_file.PATH) or "{}")
        except ValueError:
            facts = {}
        tls = self.given["service"] and self.given["tls"]
        ends = {CERTIFICATE: end} if tls and (end := on_host.end_of(CERTIFICATE)) else {}
        self.put(METRICS, exporter_text.text(facts, self.given["labels"], ends), 0o644)

    def arguments(self, flags, web):
        """What the exporter is started with."""
        given = self.given
        told = [f"--web.listen-address={given['listen']}:{given['port']}", f"--collector.textfile.directory={TEXTS}"]
        if web:
            told.append(f"--web.config{'.file' if 'web.config.file' in flags else ''}={web}")
        unknown = [name for name in given["collectors"] if "collector." + name not in flags]
        if unknown:
            cause = f"this version has no collector {', '.join(unknown)}"
            remedy = "correct node_exporter_collectors; the exporter's --help lists them"
            raise ExporterError("MONITOR_016", cause, remedy)
        told += [f"--collector.{name}" for name in given["collectors"]]
        return told + [f"--no-collector.{name}" for name in given["collectors_off"] if "collector." + name in flags]

    def start(self, arguments):
        """Enable and (re)start where what runs is not what should run."""
        enabled = self.state.get("UnitFileState") == "enabled"
        pid = self.state.get("MainPID", "0")
        running = read(f"/proc/{pid}/cmdline").rstrip("\0").split("\0") if pid != "0" else []
        fresh = self.state.get("ActiveState") == "active" and running == arguments
        if enabled and fresh:
            return
        self.changed = True
        words = ([] if enabled else ["enabled"]) + ([] if fresh else ["restarted" if running else "started"])
        self.diff.append({"header": self.unit, "before": "", "after": "".join(f"{word}\n" for word in words)})
        if self.check:
            return
        steps = [["daemon-reload"]] + ([] if enabled else [["enable", self.unit]])
        if self.state.get("ActiveState") == "failed":  # of a unit that systemd does not hold it would be an error
            steps.append(["reset-failed", self.unit])
        for step in [*steps, ["--no-block", "restart", self.unit]]:
            self.systemctl(*step)

    def systemctl(self, *step):
        """Run systemctl; a failure is MONITOR_017."""
        status, text = output(["systemctl", *step])
        if status != 0:
            cause = f"systemctl {' '.join(step)} failed: {text.strip()[-300:]}"
            raise ExporterError("MONITOR_017", cause, f"look at `systemctl status {self.unit}` on the host")

    def prove(self):
        """Ask the exporter as Prometheus will, until it answers or the time is over."""
        deadline = time.monotonic() + self.given["timeout"]
        while True:
            why = self.asked()
            if not why:
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(0.2)
        _, journal = output(["journalctl", "-u", self.unit, "-n", "60", "--no-pager", "-o", "cat"])
        lines = [line for line in journal.splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"level=(error|ERROR)|err=|address already in use", line)]
        words = " / ".join((errors or lines)[-2:])[:500]
        cause = f"the node exporter did not answer within {self.given['timeout']} s: {why}; its last words: {words}"
        remedy = f"look at `journalctl -u {self.unit}` on the host; another exporter may have the port"
        raise ExporterError("MONITOR_018", cause, remedy)

    def asked(self):
        """'' when the exporter answers as it should, else why not."""
        given = self.given
        where = given["listen"].strip("[]") or "127.0.0.1"
        headers = {}
        if given["user"]:
            login = base64.b64encode(f"{given['user']}:{given['password']}".encode()).decode()
            headers["Authorization"] = "Basic " + login
        try:
            connection = self.connection(where)
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        if answer.status != 200:
            return f"status {answer.status}"
        if given["facts"] and "skerry_host_info" not in text:
            return "it does not show the facts"
        return "" if "node_exporter_build_info" in text else "it is something else"

    def connection(self, where):
        """An unused connection to the exporter; its certificate has to be the one on disk."""
        if not self.given["tls"]:
            return http.client.HTTPConnection(where, self.given["port"], timeout=5)
        context = ssl.create_default_context(cafile=CERTIFICATE)
        context.check_hostname = False  # asked at the loopback address, which the certificate does not name
        if self.given["certificate"]:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return http.client.HTTPSConnection(where, self.given["port"], timeout=5, context=context)

    # -- absent ----------------------------------------------------------------------------------------------------

    def absent(self):
        """Stop the exporter and remove what was written."""
        if self.unit and self.state.get("ActiveState") in ("active", "activating"):
            self.changed = True
            if not self.check:
                self.systemctl("disable", "--now", self.unit)
        for unit in on_host.UNITS:
            self.drop(DROP_IN.format(unit))
        self.drop(METRICS)
        self.drop(FOLDER)
        if self.changed and not self.check:
            self.systemctl("daemon-reload")
        return {"changed": self.changed, "version": "", "certificate": "", "diff": self.diff}


def quoted(argument):
    """An argument as a unit file writes it."""
    text = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if re.search(r"[\s\"'\\;]", argument) else text


def main():
    """Entry point."""
    texts = ("listen", "certificate", "user")
    lists = ("names", "collectors", "collectors_off")
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "service": {"type": "bool", "default": True},
            "port": {"type": "int", "default": 9100},
            "tls": {"type": "bool", "default": False},
            "key": {"type": "str", "default": "", "no_log": True},
            "days": {"type": "int", "default": 3650},
            "password": {"type": "str", "default": "", "no_log": True},
            "facts": {"type": "bool", "default": True},
            "labels": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 60},
            **{name: {"type": "str", "default": ""} for name in texts},
            **{name: {"type": "list", "elements": "str", "default": []} for name in lists},
        },
        supports_check_mode=True,
    )
    work = Work(module)
    try:
        result = work.present() if module.params["state"] == "present" else work.absent()
    except ExporterError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        cause = f"cannot write {error.filename}: {error.strerror}"
        remedy = "check rights and free space (df -h), then run again"
        module.fail_json(msg=f"MONITOR_019 {cause} | remedy: {remedy}", code="MONITOR_019", cause=cause, remedy=remedy)
    module.exit_json(recorded=fact_file.section("node_exporter"), **result)


if __name__ == "__main__":
    main()
