#!/usr/bin/python
"""Configure and start the registry of a host (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_host
short_description: Configure and start the registry of a host
description:
  - Writes configuration, users (bcrypt), certificate and units of Debian's docker-registry, starts it, and asks it with
    the given user over TLS. The registry is restarted only for what it reads once, at its start; users it reads by
    itself.
  - A timer removes what no image refers to any more; the registry serves read-only while that runs.
options:
  state:
    description: >-
      C(guarded) writes only the drop-in that keeps a freshly installed package from starting unconfigured; C(absent)
      stops the registry and removes all files but its data.
    type: str
    choices: [guarded, present, absent]
    default: present
  port:
    description: Port.
    type: int
    default: 5000
  data_dir:
    description: Where images lie.
    type: path
    default: /var/lib/docker-registry
  users:
    description: Users. The first one is used to ask the registry.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name.
        type: str
        required: true
      password:
        description: Password.
        type: str
        required: true
  certificate:
    description: Certificate with its chain, in PEM.
    type: str
    default: ""
  key:
    description: Its key.
    type: str
    default: ""
  ca:
    description: The authority that signed it.
    type: str
    default: ""
  gc_calendar:
    description: When the garbage collection runs (systemd.time); empty for never.
    type: str
    default: "Sun 03:30"
  gc_untagged:
    description: Whether manifests without a tag go as well.
    type: bool
    default: true
  timeout:
    description: Seconds until the registry must answer.
    type: int
    default: 60
  remove_data:
    description: With C(state=absent), remove the images too.
    type: bool
    default: false
extends_documentation_fragment:
  - skerry.edge.attributes
attributes:
  diff_mode:
    description: Shows configuration and units; users, key and the upload secret are hidden.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Configure and start the registry
  skerry.edge.registry_host:
    users: [{name: skerry, password: "{{ __registry_secrets.password }}"}]
    certificate: "{{ __registry_secrets.certificate }}"
    key: "{{ __registry_secrets.key }}"
    ca: "{{ __registry_secrets.ca }}"
"""

RETURN = r"""
done:
  description: What was done, of write PATH, enable, start, restart.
  returned: success
  type: list
  elements: str
"""

import base64
import grp
import http.client
import os
import pwd
import re
import shutil
import ssl
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import registry_files as files
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text, replace_file

HIDDEN = "(not shown)\n"
TIMER = os.path.basename(files.GC_TIMER)
#: What the registry reads at its start only.
READ_ONCE = (files.CONFIG, files.CERTIFICATE, files.KEY, files.DROP_IN)


def run(*command):
    """(exit code, output with errors) of a command."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def systemctl(*words):
    """Run systemctl; a failure is REGISTRY_012."""
    status, said = run("systemctl", *words)
    if status != 0:
        cause = f"systemctl {' '.join(words)} failed: {said.strip()[-300:]}"
        raise files.RegistryError("REGISTRY_012", cause, f"look at `systemctl status {files.SERVICE}` on the host")


def unit(name):
    """What systemd knows of a unit."""
    _, said = run("systemctl", "show", name, "-p", "LoadState,ActiveState,MainPID,UnitFileState,NeedDaemonReload")
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def identity(name):
    """(uid, gid) of the registry's account, None where the package is not there yet."""
    try:
        return pwd.getpwnam(name).pw_uid, grp.getgrnam(name).gr_gid
    except KeyError:
        return None


class Host:
    """One run of the module."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.check = module.check_mode
        self.done = []
        self.diff = []

    # -- files -----------------------------------------------------------------------------------------------------

    def wanted(self):
        """{path: (text or None for absence, mode, whether it is secret)}."""
        params, calendar = self.params, self.params["gc_calendar"]
        if params["state"] == "absent":
            paths = (files.CONFIG, files.READ_ONLY, files.USERS, files.CERTIFICATE, files.KEY, files.AUTHORITY,
                     files.DROP_IN, files.GC_SERVICE, files.GC_TIMER)
            return {path: (None, 0, path in (files.USERS, files.KEY)) for path in paths}
        guard = {files.DROP_IN: (files.drop_in(params["port"]), 0o644, False)}
        if params["state"] == "guarded":
            return guard
        return {
            **guard,
            files.CERTIFICATE: (params["certificate"], 0o640, False),
            files.KEY: (params["key"], 0o640, True),
            files.AUTHORITY: (params["ca"], 0o644, False),
            files.USERS: (files.users(params["users"], read_text(files.USERS)), 0o640, True),
            files.READ_ONLY: (files.config(params, read_only=True), 0o640, False),
            files.CONFIG: (files.config(params), 0o640, False),
            files.GC_SERVICE: (files.gc_service(params["gc_untagged"]) if calendar else None, 0o644, False),
            files.GC_TIMER: (files.gc_timer(calendar) if calendar else None, 0o644, False),
        }

    def shown(self, text, secret):
        """A text for the diff."""
        return "" if text is None else HIDDEN if secret else re.sub(r"(?m)^  secret: .*$", "  secret: (hidden)", text)

    def place(self, path, text, mode, secret):
        """Bring one file into its state."""
        before = read_text(path)
        owner = identity(files.ACCOUNT) if mode == 0o640 else (0, 0)
        if text is None:
            if before is None:
                return
        elif before == text:
            stats = os.stat(path)
            group = owner[1] if owner else stats.st_gid
            if stats.st_mode & 0o7777 == mode and stats.st_gid == group:
                return
        header = {"before_header": path, "after_header": path}
        self.diff.append({**header, "before": self.shown(before, secret), "after": self.shown(text, secret)})
        self.done.append("write " + path if text is not None else "remove " + path)
        if not self.check:
            self.write(path, text, mode, owner[1] if owner else 0)

    def write(self, path, text, mode, group):
        """Replace or remove a file in one step."""
        if text is None:
            files.remove(path)
            return
        replace_file(path, text, mode, (0, group))

    def data(self):
        """Let the folder of the images exist and belong to the registry."""
        folder, owner = self.params["data_dir"], identity(files.ACCOUNT)
        if owner is None or (os.path.isdir(folder) and os.stat(folder).st_uid == owner[0]):
            return
        self.done.append("make " + folder)
        if not self.check:
            os.makedirs(folder, mode=0o750, exist_ok=True)
            os.chown(folder, *owner)

    # -- the service -----------------------------------------------------------------------------------------------

    def action(self, state):
        """What the service needs: start, restart or nothing."""
        if state.get("ActiveState") not in ("active", "activating", "reloading"):
            return "start"
        pid = int(state.get("MainPID") or 0)
        written = {line.split(" ", 1)[1] for line in self.done}
        if written & set(READ_ONCE):
            return "restart"
        # A run that ended between writing and restarting left files that are younger than the process.
        try:
            started = os.stat(f"/proc/{pid}").st_mtime
        except FileNotFoundError:
            return "restart"
        young = [path for path in READ_ONCE if os.path.exists(path) and os.stat(path).st_mtime > started]
        return "restart" if young else ""

    def units(self):
        """Enable, start or restart; wait until the registry answers."""
        state, timer = unit(files.SERVICE), unit(TIMER)
        if state.get("LoadState") != "loaded" and not self.check:
            raise files.RegistryError(
                "REGISTRY_012", "there is no docker-registry.service", "run the role registry with its installing tasks"
            )
        action, wants_timer = self.action(state), bool(self.params["gc_calendar"])
        rewritten = "write " + files.GC_TIMER in self.done
        if state.get("UnitFileState") != "enabled":
            self.done.append("enable")
        runs = (timer.get("UnitFileState"), timer.get("ActiveState")) == ("enabled", "active")
        if wants_timer and (rewritten or not runs):
            self.done.append("start " + TIMER)
        if action:
            self.done.append(action)
        if self.check:
            return
        if any("/etc/systemd/" in line for line in self.done) or "yes" in (
            state.get("NeedDaemonReload"), timer.get("NeedDaemonReload")
        ):
            systemctl("daemon-reload")
        if "enable" in self.done:
            systemctl("enable", "--quiet", files.SERVICE)
        if "start " + TIMER in self.done:
            systemctl("enable", "--quiet", TIMER)
            systemctl("restart", TIMER)
        if action:
            run("systemctl", "reset-failed", files.SERVICE)
            systemctl("--no-block", "restart", files.SERVICE)
        self.wait(patient=bool(action))

    def ask(self, user):
        """HTTP status of the registry's front door for a user (None asks without one)."""
        context = ssl.create_default_context(cadata=self.params["ca"])
        headers = {}
        if user:
            text = "{name}:{password}".format(**user)
            headers["Authorization"] = "Basic " + base64.b64encode(text.encode()).decode()
        connection = http.client.HTTPSConnection("localhost", self.params["port"], context=context, timeout=5)
        try:
            connection.request("GET", "/v2/", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def wait(self, patient):
        """Poll until the registry lets its user in and nobody else."""
        deadline = time.monotonic() + (self.params["timeout"] if patient else 5)
        while True:
            try:
                answers = self.ask(self.params["users"][0]), self.ask(None)
                if answers == (200, 401):
                    return
                why = "it answers its user with {} and a stranger with {}".format(*answers)
            except (OSError, http.client.HTTPException) as error:
                why = str(error)
            if time.monotonic() > deadline or unit(files.SERVICE).get("ActiveState") == "failed":
                raise self.failure(why)
            time.sleep(0.2)

    def failure(self, why):
        """REGISTRY_013 with what the registry said last."""
        _, journal = run("journalctl", "-u", files.SERVICE, "-n", "20", "--no-pager", "-o", "cat")
        lines = journal.splitlines()
        words = [line for line in lines if re.search(r"level=(error|fatal)|fatal|panic|denied|in use", line)] or lines
        return files.RegistryError(
            "REGISTRY_013",
            f"the registry does not work: {why}; its last words: {' / '.join(words[-3:])[:600]}",
            f"look at `journalctl -u {files.SERVICE}` on the host; a port in use and a full disk are the usual causes",
        )

    # -- doing it --------------------------------------------------------------------------------------------------

    def stop(self):
        """Stop and disable what runs."""
        for name in (TIMER, files.SERVICE):
            state = unit(name)
            if state.get("LoadState") != "loaded":
                continue
            if state.get("ActiveState") != "inactive" or state.get("UnitFileState") == "enabled":
                self.done.append("stop " + name)
                if not self.check:
                    systemctl("disable", "--quiet", "--now", name)

    def remove_data(self):
        """Remove the images."""
        if self.params["remove_data"] and os.path.isdir(self.params["data_dir"]):
            self.done.append("remove " + self.params["data_dir"])
            if not self.check:
                shutil.rmtree(self.params["data_dir"])

    def run(self):
        """Do everything; the module's result."""
        if self.params["state"] == "absent":
            self.stop()
        for path, item in self.wanted().items():
            self.place(path, *item)
        if self.params["state"] == "present":
            self.data()
            self.units()
        if self.params["state"] == "absent":
            self.remove_data()
            if self.done and not self.check:
                systemctl("daemon-reload")
        if self.params["state"] == "guarded" and self.done and not self.check:
            systemctl("daemon-reload")
        return {"changed": bool(self.done), "done": self.done, "diff": self.diff}


def main():
    """Entry point."""
    # Not the whole list: Ansible would hide the name wherever it stands, in paths too.
    user = {"name": {"type": "str", "required": True}, "password": {"type": "str", "required": True, "no_log": True}}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["guarded", "present", "absent"], "default": "present"},
            "port": {"type": "int", "default": 5000},
            "data_dir": {"type": "path", "default": "/var/lib/docker-registry"},
            "users": {"type": "list", "elements": "dict", "default": [], "options": user},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "ca": {"type": "str", "default": ""},
            "gc_calendar": {"type": "str", "default": "Sun 03:30"},
            "gc_untagged": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
            "remove_data": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Host(module).run())
    except files.RegistryError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        cause = f"cannot write {error.filename or files.FOLDER}: {error.strerror}"
        wrong = files.RegistryError("REGISTRY_014", cause, "check rights and free space there (df -h), then run again")
        module.fail_json(**wrong.as_result())


if __name__ == "__main__":
    main()
