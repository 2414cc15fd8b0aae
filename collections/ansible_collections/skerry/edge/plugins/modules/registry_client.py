#!/usr/bin/python
"""Let a host's k3s and Docker use a registry of the site (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_client
short_description: Let a host's k3s and Docker use a registry of the site
description:
  - Places the registry's authority and, for k3s, an entry with the login in C(/etc/skerry/registries.d); the role k3s
    merges the entries of that folder into its C(registries.yaml) and restarts k3s when they changed.
  - For Docker it places the authority in C(/etc/docker/certs.d), which the daemon reads at each pull, and logs the
    given users in.
  - What it wrote is noted, so that a registry under another address leaves nothing behind.
options:
  name:
    description: Name of the registry (the inventory name of its host).
    type: str
    required: true
  address:
    description: Host and port of the registry, as images are called by.
    type: str
    default: ""
  ca:
    description: Certificate of its authority.
    type: str
    default: ""
  username:
    description: User.
    type: str
    default: ""
  password:
    description: Password.
    type: str
    default: ""
  serves:
    description: Other registries whose images k3s shall ask this one for first (C(docker.io), C(ghcr.io)).
    type: list
    elements: str
    default: []
  docker_login:
    description: Users of the host who are logged in to the registry with Docker.
    type: list
    elements: str
    default: []
  state:
    description: C(absent) removes all of it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - skerry.edge.attributes
attributes:
  diff_mode:
    description: Shows which files change; their content only where it holds no login.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Use the registry
  skerry.edge.registry_client:
    name: registry-1
    address: 192.0.2.10:5000
    ca: "{{ __registry_secrets.ca }}"
    username: skerry
    password: "{{ __registry_secrets.password }}"
    docker_login: [root]
"""

RETURN = r"""
written:
  description: Paths of the files that changed.
  returned: success
  type: list
  elements: str
"""

import base64
import json
import os
import pwd
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text, replace_file
from ansible_collections.skerry.edge.plugins.module_utils.registry_files import RegistryError, remove

FOLDER = "/etc/skerry/registry"
K3S_FOLDER = "/etc/skerry/registries.d"
DOCKER_CERTS = "/etc/docker/certs.d"
NOTE = FOLDER + "/clients.json"


def read_json(path):
    """A JSON file's mapping, {} where there is none. Raises REGISTRY_020 on a damaged one."""
    text = read_text(path)
    try:
        value = json.loads(text) if text and text.strip() else {}
    except ValueError as error:
        raise RegistryError(
            "REGISTRY_020", f"{path} is no JSON: {error}", "correct or remove the file, then run again"
        ) from error
    return value if isinstance(value, dict) else {}


def ca_path(name):
    """Where the authority of a registry lies for k3s."""
    return f"{FOLDER}/{name}.crt"


def k3s_entry(params):
    """What k3s's registries.yaml has to say of the registry, see the role k3s."""
    login = {"username": params["username"], "password": params["password"]}
    endpoint = "https://" + params["address"]
    entry = {"configs": {params["address"]: {"auth": login, "tls": {"ca_file": ca_path(params["name"])}}}}
    # Without an entry among the mirrors containerd takes the address as it is, over https.
    entry["mirrors"] = {one: {"endpoint": [endpoint]} for one in [params["address"], *params["serves"]]}
    return entry


def home_of(user):
    """(home, uid, gid) of a user. Raises REGISTRY_021."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise RegistryError(
            "REGISTRY_021",
            f"there is no user {user} on this host",
            "make the user first, or correct registry_docker_login",
        ) from error
    return entry.pw_dir, entry.pw_uid, entry.pw_gid


class Client:
    """One run of the module."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.written = []
        self.diff = []

    def place(self, path, text, mode, owner=(0, 0), secret=False):
        """Bring one file into its state; None removes it."""
        before = read_text(path)
        if before == text and (text is None or os.stat(path).st_mode & 0o7777 == mode):
            return
        shown = ["" if one is None else "(not shown)\n" if secret else one for one in (before, text)]
        self.diff.append({"before_header": path, "after_header": path, "before": shown[0], "after": shown[1]})
        self.written.append(path)
        if self.module.check_mode:
            return
        if text is None:
            remove(path)
            return
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o755)
            os.chown(folder, *owner)
        replace_file(path, text, mode, owner)

    def login(self, user, address, auth):
        """Let a user's Docker have a login (None: lose it)."""
        home, uid, gid = home_of(user)
        path = home + "/.docker/config.json"
        config = read_json(path)
        logins = dict(config.get("auths") or {})
        if (logins.get(address) or {}).get("auth") == auth:
            return
        if auth is None:
            logins.pop(address, None)
        else:
            logins[address] = {"auth": auth}
        config = {**config, "auths": logins}
        if not logins:
            del config["auths"]
        text = json.dumps(config, indent=1, sort_keys=True) + "\n" if config else None
        self.place(path, text, 0o600, (uid, gid), secret=True)
        if text is None and not self.module.check_mode and not os.listdir(home + "/.docker"):
            os.rmdir(home + "/.docker")

    def certs(self, address, text):
        """Docker's trust in the registry."""
        self.place(f"{DOCKER_CERTS}/{address}/ca.crt", text, 0o644)

    def forget(self, noted, keep_address="", keep_users=()):
        """Undo what an earlier run noted, but for what goes on."""
        address = noted.get("address")
        if not address:
            return
        for user in noted.get("logins") or []:
            if address != keep_address or user not in keep_users:
                self.login(user, address, None)
        if address != keep_address or not keep_address:
            self.certs(address, None)

    def run(self):
        """Do everything; the module's result."""
        params, notes = self.params, read_json(NOTE)
        name, here = params["name"], params["state"] == "present"
        # Docker's part waits until there is a Docker: the role docker may come later.
        docker = here and shutil.which("docker", path="/usr/local/bin:/usr/bin:/bin") is not None
        users = params["docker_login"] if docker else []
        self.forget(notes.get(name) or {}, params["address"] if docker else "", users)
        self.place(ca_path(name), params["ca"] if here else None, 0o644)
        entry = json.dumps(k3s_entry(params), indent=1, sort_keys=True) + "\n" if here else None
        self.place(f"{K3S_FOLDER}/{name}.json", entry, 0o600, secret=True)
        if docker:
            self.certs(params["address"], params["ca"])
            text = "{username}:{password}".format(**params)
            for user in users:
                self.login(user, params["address"], base64.b64encode(text.encode()).decode())
        notes.pop(name, None)
        if docker:
            notes[name] = {"address": params["address"], "logins": users}
        self.place(NOTE, json.dumps(notes, indent=1, sort_keys=True) + "\n" if notes else None, 0o600)
        return {"changed": bool(self.written), "written": self.written, "diff": self.diff}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "ca": {"type": "str", "default": ""},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "serves": {"type": "list", "elements": "str", "default": []},
            "docker_login": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("address", "ca", "username", "password"))],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Client(module).run())
    except RegistryError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        cause = f"cannot write {error.filename or FOLDER}: {error.strerror}"
        wrong = RegistryError("REGISTRY_014", cause, "check rights and free space there (df -h), then run again")
        module.fail_json(**wrong.as_result())


if __name__ == "__main__":
    main()
