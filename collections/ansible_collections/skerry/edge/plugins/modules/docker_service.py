#!/usr/bin/python
"""Start Docker and apply its configuration with the least disturbance (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_service
short_description: Start Docker, apply its configuration, wait until it answers
description:
  - Starts without blocking and polls Docker's API with a deadline; when that passes, the daemon's own last words are
    in the message.
  - A changed daemon.json leads to a reload where a running daemon takes up every changed key, else to a restart; a
    changed unit leads to a restart. What the daemon runs with is noted in C(/run/skerry), so that a run that was
    killed between writing and applying is made good by the next one.
options:
  enabled:
    description: Whether Docker starts with the host.
    type: bool
    default: true
  users:
    description: Existing users who shall be in the group C(docker).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds until Docker must answer.
    type: int
    default: 120
  state:
    description: C(stopped) stops and disables it, for removal.
    type: str
    choices: [started, stopped]
    default: started
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
"""

EXAMPLES = r"""
- name: Start Docker
  skerry.edge.docker_service:
    timeout: 60
"""

RETURN = r"""
version:
  description: Version of the running engine ('' in check mode, when there is none yet).
  returned: success
  type: str
runtimes:
  description: Names of the runtimes that it offers.
  returned: success
  type: list
recorded:
  description: What the fact file says of the role docker by now.
  returned: success
  type: dict
done:
  description: What was done, of enable, start, reload, restart, user names added.
  returned: success
  type: list
"""

import grp
import http.client
import json
import os
import pwd
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.docker_daemon import (
    DockerError,
    ask,
    output,
    reload_is_enough,
)
from ansible_collections.skerry.edge.plugins.module_utils.fact_file import section
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text, replace_file

SOCKET = "/var/run/docker.sock"
DAEMON_JSON = "/etc/docker/daemon.json"
DROP_IN = "/etc/systemd/system/docker.service.d/skerry-proxy.conf"
NOTE = "/run/skerry/docker.json"
FIELDS = ("LoadState", "ActiveState", "SubState", "MainPID", "UnitFileState", "NeedDaemonReload")


def unit():
    """What systemd knows of docker.service."""
    _, text = output(["systemctl", "show", "docker.service", "-p", ",".join(FIELDS)])
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def systemctl(*arguments):
    """Run systemctl; a failure is DOCKER_004."""
    status, text = output(["systemctl", *arguments])
    if status != 0:
        cause = f"systemctl {' '.join(arguments)} failed: {text.strip()[-400:]}"
        raise DockerError("DOCKER_004", cause, "look at `systemctl status docker` on the host")


def on_disk():
    """The configuration as it lies on disk: (daemon.json, drop-in)."""
    texts = []
    for path in (DAEMON_JSON, DROP_IN):
        try:
            with open(path, encoding="utf-8") as stream:
                texts.append(stream.read())
        except FileNotFoundError:
            texts.append("")
    try:
        return json.loads(texts[0] or "{}"), texts[1]
    except ValueError as error:
        cause = f"{DAEMON_JSON} is no JSON: {error}"
        raise DockerError("DOCKER_001", cause, "run the role docker with its configuring tasks") from error


def noted(pid):
    """What the running daemon was started with, as far as it is known: (daemon.json, drop-in), or None.

    Without a note (somebody else started it) files older than the process are what it runs with.
    """
    try:
        note = json.loads(read_text(NOTE) or "{}")
        if note.get("pid") == pid:
            return note["config"], note["unit"]
    except (ValueError, KeyError):
        pass  # a damaged note: the times tell
    started = os.stat(f"/proc/{pid}").st_mtime
    for path in (DAEMON_JSON, DROP_IN, os.path.dirname(DAEMON_JSON)):
        if os.path.exists(path) and os.stat(path).st_mtime >= started:
            return None
    return on_disk()


def note_now(pid):
    """Note what the daemon runs with."""
    config, drop_in = on_disk()
    # A proxy's password may be in it.
    replace_file(NOTE, json.dumps({"pid": pid, "config": config, "unit": drop_in}), 0o600)


def answer(info=False):
    """Docker's version (and info), or None while it does not answer."""
    try:
        version = ask(SOCKET, "/version")
        return (version, ask(SOCKET, "/info")) if info else (version, None)
    except (OSError, http.client.HTTPException, ValueError):
        return None


def wait(deadline, timeout):
    """Poll until Docker answers; returns (version, info)."""
    while True:
        state = unit()
        if state.get("ActiveState") == "active":
            got = answer(info=True)
            # A reload takes a moment to be heard: its runtimes show when it was.
            if got and set(on_disk()[0].get("runtimes") or {}) <= set(got[1].get("Runtimes") or {}):
                return got
        failed = state.get("ActiveState") == "failed"
        if failed or time.monotonic() > deadline:
            _, journal = output(["journalctl", "-u", "docker.service", "-n", "40", "--no-pager", "-o", "cat"])
            lines = [line for line in journal.splitlines() if not line.startswith(("docker.service:", "Failed to"))]
            words = [line for line in lines if re.search(r"level=(error|fatal)|failed to|unable to", line)]
            why = "ended again" if failed else f"did not answer within {timeout} s"
            raise DockerError(
                "DOCKER_003",
                f"Docker {why}; its last words: {' / '.join((words or journal.splitlines())[-3:])[:900]}",
                "look at `journalctl -u docker` on the host; a daemon.json of your own or the storage driver is the "
                "usual cause, on slow hosts raise docker_ready_timeout",
            )
        time.sleep(0.2)


def newcomers(users):
    """Those of the users who are not in the group yet; one who does not exist is DOCKER_007."""
    for user in users:
        try:
            pwd.getpwnam(user)
        except KeyError as error:
            cause = f"there is no user {user} on this host"
            raise DockerError("DOCKER_007", cause, "make the user first, or correct docker_users") from error
    return [user for user in users if user not in grp.getgrnam("docker").gr_mem]


def join(user):
    """Put a user into the group docker; DOCKER_008 where that cannot be done."""
    status, said = output(["usermod", "-aG", "docker", user])
    if status != 0:
        raise DockerError(
            "DOCKER_008",
            f"{user} cannot be put into the group docker: {said.strip()[-300:]}",
            "a user of a directory (LDAP) joins the group there: leave it out of docker_users",
        )


def plan(state):
    """What has to be done, of start, reload, restart."""
    if state.get("ActiveState") not in ("active", "activating", "reloading"):
        return "start"
    pid = int(state.get("MainPID") or 0)
    running = noted(pid) if pid else None
    config, drop_in = on_disk()
    if running is None:
        return "restart" if pid else ""
    if running[1] != drop_in:
        return "restart"
    if running[0] == config:
        return ""
    return "reload" if reload_is_enough(running[0], config) else "restart"


def started(module):
    """Bring Docker up with the configuration on disk."""
    state = unit()
    absent = state.get("LoadState") != "loaded"
    done = []
    if absent and module.check_mode:
        return {"changed": True, "done": ["enable", "start"], "version": "", "runtimes": []}
    if absent:
        raise DockerError("DOCKER_004", "there is no docker.service", "run the role docker with its installing tasks")
    if state.get("UnitFileState") != ("enabled" if module.params["enabled"] else "disabled"):
        done.append("enable" if module.params["enabled"] else "disable")
    action = plan(state)
    if action:
        done.append(action)
    added = newcomers(module.params["users"])
    done += [f"add {user} to group docker for" for user in added]
    if not module.check_mode:
        for user in added:
            join(user)
        former = noted(int(state["MainPID"])) if action == "restart" else None
        apply(state, done, action)
        try:
            version, info = wait(time.monotonic() + module.params["timeout"], module.params["timeout"])
        except DockerError as error:
            fall_back(former, error, module.params["timeout"])
        note_now(int(unit()["MainPID"]))
    else:
        version, info = answer(info=True) or ({"Version": ""}, {"Runtimes": {}})
    runtimes = sorted(name for name in info.get("Runtimes") or {} if not name.startswith("io.containerd."))
    return {"changed": bool(done), "done": done, "version": version["Version"], "runtimes": runtimes}


def apply(state, done, action):
    """Do what was planned."""
    if state.get("NeedDaemonReload") == "yes":
        systemctl("daemon-reload")
    for word in ("enable", "disable"):
        if word in done:
            systemctl(word, "docker.service")
    if action in ("start", "restart"):
        # The unit gives up after three starts a minute; this one is wanted.
        systemctl("reset-failed", "docker.service")
        if action == "restart":
            systemctl("stop", "docker.service")
        systemctl("--no-block", "start", "docker.service")
        time.sleep(0.1)
    elif action == "reload":
        systemctl("reload", "docker.service")


def fall_back(former, error, timeout):
    """After a restart that failed, let Docker run with what it ran with before; ends with the error in any case."""
    if former is None:
        raise error
    replace_file(DAEMON_JSON, json.dumps(former[0], indent=2, sort_keys=True) + "\n", 0o644)
    systemctl("reset-failed", "docker.service")
    systemctl("--no-block", "start", "docker.service")
    time.sleep(0.1)
    wait(time.monotonic() + timeout, timeout)
    note_now(int(unit()["MainPID"]))
    raise DockerError(error.code, f"{error.cause}; the former daemon.json is back in force", error.remedy)


def stopped(module):
    """Stop Docker and keep it from starting again."""
    state = unit()
    active = state.get("ActiveState") in ("active", "activating", "reloading")
    if active and not module.check_mode:
        output(["systemctl", "disable", "docker.socket"])  # some packages have none
        systemctl("disable", "docker.service")
        systemctl("stop", "docker.service", "docker.socket")
    return {"changed": active, "done": ["stop"] if active else [], "version": "", "runtimes": []}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "enabled": {"type": "bool", "default": True},
            "users": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 120},
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
        },
        supports_check_mode=True,
    )
    try:
        result = started(module) if module.params["state"] == "started" else stopped(module)
    except DockerError as error:
        module.fail_json(**error.as_result())
    diff = {"before": "", "after": "".join(f"{word} docker.service\n" for word in result["done"])}
    module.exit_json(diff=diff, recorded=section("docker"), **result)


if __name__ == "__main__":
    main()
