#!/usr/bin/python
"""Configure and start one k3s server or agent (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_node
short_description: Configure and start one k3s server or agent
description:
  - Writes config.yaml, token files, registries.yaml, the unit with its environment file and our part of containerd's
    configuration; enables the unit; starts or restarts it without blocking when something that it reads has changed.
  - What the running process was started with is remembered beside the configuration. A run that was killed between
    writing and restarting is made good by the next one, and a label restarts nothing.
  - Keys are compared with those that the role knows before anything is written.
options:
  role:
    description: What the host is.
    type: str
    choices: [server, agent]
    required: true
  version: {description: "The k3s version, as upstream tags it.", type: str, required: true}
  binary: {description: "The k3s binary.", type: path, default: /usr/local/bin/k3s}
  node_name: {description: Name of the node., type: str, required: true}
  config:
    description: Keys of config.yaml that the role composed. Empty values are left out.
    type: dict
    default: {}
  extra:
    description: Keys of config.yaml that a person gave; they win over C(config) and are validated.
    type: dict
    default: {}
  labels:
    description: Labels of the node. Those that a kubelet may set go into config.yaml, for the registration.
    type: dict
    default: {}
  taints:
    description: Taints of the node, C(key=value:Effect), for the registration.
    type: list
    elements: str
    default: []
  kubelet_args:
    description: Arguments of the kubelet.
    type: list
    elements: str
    default: []
  eviction_hard:
    description: The kubelet's hard eviction thresholds; C(auto) adds one for memory to k3s's own for disks.
    type: str
    default: auto
  allow_cgroup_v1:
    description: Let the kubelet of v1.35 and later run on a host with cgroup v1.
    type: bool
    default: false
  node_ip:
    description: Address of the node. Empty to take the interface's, else the one that Ansible uses, else the route's.
    type: str
    default: ""
  node_interface: {description: "Interface whose address is the node's.", type: str, default: ""}
  address_hint: {description: "The name or address that Ansible reaches the host by.", type: str, default: ""}
  resolv_conf:
    description: Resolver file for pods. C(auto) looks for one without loopback servers, empty leaves it to k3s.
    type: str
    default: auto
  multiple_servers:
    description: Whether the cluster has more servers than one, and so embedded etcd.
    type: bool
    default: false
  join:
    description: URL of a server to join. Empty on the first server.
    type: str
    default: ""
  servers:
    description: URLs of all servers. A host that joined through one of them keeps it, whichever C(join) names today.
    type: list
    elements: str
    default: []
  token:
    description: Token of servers. Empty on the first server to keep the host's or make one.
    type: str
    default: ""
  agent_token:
    description: Token of agents; on servers the same, there empty to keep or make one.
    type: str
    default: ""
  registries: {description: "Content of registries.yaml; empty for none.", type: str, default: ""}
  environment_file:
    description: Content of the unit's environment file (proxies); empty for none.
    type: str
    default: ""
  unit:
    description: Content of the unit.
    type: str
    required: true
  restrict_oom_score_adj:
    description: Let containerd keep its own oom_score_adj where lowering it is forbidden (hosts that are containers).
    type: bool
    default: false
  secrets_encryption:
    description: Whether Secrets are encrypted in the datastore. C(auto) does it on new clusters; one that exists stays.
    type: str
    choices: [auto, "true", "false"]
    default: auto
  join_encrypted: {description: Whether the cluster to join encrypts Secrets., type: bool, default: false}
  audit_policy: {description: Content of the API server's audit policy; empty for no log., type: str, default: ""}
  start:
    description: Start or restart when needed. C(false) only writes.
    type: bool
    default: true
  wait:
    description: Seconds to wait for the node to be Ready, for servers that go one at a time. 0 does not wait.
    type: int
    default: 0
  server_wait:
    description: Seconds that an agent's first start waits for a server that is coming up; it unpacks k3s meanwhile.
    type: int
    default: 60
extends_documentation_fragment:
  - skerry.edge.attributes
attributes:
  diff_mode:
    description: Shows files, never tokens, registries or the environment.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Start an agent
  skerry.edge.k3s_node:
    role: agent
    version: v1.36.5+k3s1
    node_name: edge-1
    join: https://192.0.2.10:6443
    token: "{{ join.agent_token }}"
    unit: "{{ lookup('ansible.builtin.template', 'k3s.service.j2') }}"
"""

RETURN = r"""
restarted:
  description: Whether the unit was (or would be) started or restarted.
  returned: success
  type: bool
reasons:
  description: What made a start or restart necessary.
  returned: success
  type: list
  elements: str
node_ip:
  description: Address of the node.
  returned: success
  type: str
handlers:
  description: containerd handlers for wasm that were proved on this host.
  returned: success
  type: list
  elements: str
"""

import glob
import hashlib
import json
import os
import re
import secrets
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import k3s_host as host
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import joinable
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import (
    REGISTRATION_KEYS,
    K3sError,
    check_keys,
    check_labels,
    check_name,
    check_token,
    from_yaml,
    kubelet_may_set,
    minor_of,
    parse_taint,
    password_of,
    to_yaml,
    without_empty,
)
from ansible_collections.skerry.edge.plugins.module_utils.k3s_guard import AUDIT_POLICY, server_config
from ansible_collections.skerry.edge.plugins.module_utils.k3s_wait import Wait, poll

HEADER = "# Written by Skerry, role k3s. Changes here are lost; the role's variables last.\n"
TEMPLATE = f'imports = ["{host.OUR_CONTAINERD_DIR}/*.toml"]\n{{{{ template "base" . }}}}\n'
DROP_IN = f'version = 3\nimports = ["{host.OUR_CONTAINERD_DIR}/*.toml"]\n'
OOM = 'version = 3\n\n[plugins."io.containerd.cri.v1.runtime"]\n  restrict_oom_score_adj = true\n'
OOM_FILE = host.OUR_CONTAINERD_DIR + "/10-oom-score-adj.toml"
TEMPLATE_FILE = host.CONTAINERD_DIR + "/config-v3.toml.tmpl"
DROP_IN_FILE = host.CONTAINERD_DIR + "/config-v3.toml.d/skerry.toml"
#: Keys of config.yaml that hold secrets; the file is then not shown.
SECRET_KEY = re.compile(
    r"^(?:etcd-s3-(?:access|secret)-key|etcd-s3-session-token|datastore-endpoint|vpn-auth):", re.MULTILINE
)
DISK_EVICTION = "nodefs.available<5%,imagefs.available<5%"


class Node:
    """One run of the module."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.role = self.params["role"]
        self.minor = minor_of(self.params["version"])
        self.unit = host.Unit(host.UNITS[self.role], module.run_command)
        self.written = []
        self.diff = []
        self.node_ip = ""

    # -- what is wanted ------------------------------------------------------------------------------------------

    def validate(self):
        """Everything that can be refused before anything changes."""
        params = self.params
        check_keys(self.role, params["extra"])
        check_name(params["node_name"])
        check_labels(params["labels"])
        for taint in params["taints"]:
            parse_taint(taint)
        check_token("k3s_token", params["token"])
        check_token("k3s_agent_token", params["agent_token"])
        other = "agent" if self.role == "server" else "server"
        if os.path.exists(f"{host.UNIT_DIR}/{host.UNITS[other]}.service"):
            raise K3sError(
                "K3S_012",
                f"this host is a k3s {other} already, the inventory calls it a {self.role}",
                "take it back first: ansible-playbook playbooks/reset.yml --limit HOST",
            )
        if host.cgroup_version() == 1 and self.minor >= 35 and not params["allow_cgroup_v1"]:
            raise K3sError(
                "K3S_008",
                "this host runs cgroup v1, which Kubernetes 1.35 and later refuse",
                "boot it with systemd.unified_cgroup_hierarchy=1, or set skerry_allow_cgroup_v1 and carry the risk",
            )

    def kubelet_args(self):
        """Arguments of the kubelet; those that a person gave are left alone."""
        args = list(self.params["kubelet_args"])
        given = {arg.split("=", 1)[0] for arg in args}
        if self.params["eviction_hard"] and "eviction-hard" not in given:
            # The kubelet counts cached pages that are read often as used: a small host has little that it calls free.
            reserve = min(100, max(24, host.memory_mb() // 20))
            automatic = f"memory.available<{reserve}Mi,{DISK_EVICTION}"
            wanted = self.params["eviction_hard"]
            args.append("eviction-hard=" + (automatic if wanted == "auto" else wanted))
        if host.cgroup_version() == 1 and self.minor >= 31 and "fail-cgroupv1" not in given:
            args.append("fail-cgroupv1=false")
        return args

    def membership(self):
        """How the host belongs to its cluster: keys ``server``, ``cluster-init`` or none of them.

        A server with data keeps the way that it came by: the first does not turn into a joiner, nor the other way
        round.
        """
        before = from_yaml(host.read_text(host.CONFIG) or "")
        joined = before.get("server", "")
        if joined not in self.params["servers"]:
            joined = self.params["join"]
        if self.role == "agent":
            return {"server": joined, "token-file": host.TOKEN}
        tokens = {"token-file": host.TOKEN, "agent-token-file": host.AGENT_TOKEN}
        if host.has_server_data() and before.get("server"):
            return dict(tokens, server=joined or before["server"])
        if self.params["join"] and not host.has_server_data():
            return dict(tokens, server=joined)
        if self.params["multiple_servers"] or before.get("cluster-init"):
            tokens["cluster-init"] = True
        return tokens

    def config(self):
        """The whole of config.yaml as a mapping."""
        params = self.params
        self.node_ip = host.node_ip(
            params["node_ip"],
            params["node_interface"],
            params["address_hint"],
            params["join"].split("//")[-1].rsplit(":", 1)[0].strip("[]"),
            self.module.run_command,
        )
        resolver = host.resolv_conf() if params["resolv_conf"] == "auto" else params["resolv_conf"]
        labels = ["{}={}".format(*pair) for pair in sorted(params["labels"].items()) if kubelet_may_set(pair[0])]
        config = {
            **params["config"],
            **self.membership(),
            "node-name": params["node_name"],
            "node-ip": self.node_ip,
            "node-label": labels,
            "node-taint": params["taints"],
            "resolv-conf": resolver,
            "flannel-iface": host.addresses(self.module.run_command).get(self.node_ip.split(",")[0]),
            **params["extra"],
            **server_config(params),
        }
        if config.get("flannel-backend") == "none":
            del config["flannel-iface"]
        config["kubelet-arg"] = self.kubelet_args() + list(params["extra"].get("kubelet-arg") or [])
        return without_empty(config)

    def tokens(self):
        """{path: content} of the token files. Raises K3S_007 when a server's token no longer fits its data."""
        params = self.params
        if self.role == "agent":
            if not params["token"] and not self.module.check_mode:
                raise K3sError("K3S_010", "the agent has no token", "run site.yml with the first server included")
            return {host.TOKEN: params["token"] + "\n"} if params["token"] else {}
        found = {}
        for path, given in ((host.TOKEN, params["token"]), (host.AGENT_TOKEN, params["agent_token"])):
            before = (host.read_text(path) or "").strip()
            issued = (host.read_text(host.DATA_DIR + "/server/" + os.path.basename(path)) or "").strip()
            kept = before or password_of(issued)
            if path == host.TOKEN and given and issued and password_of(given) != password_of(issued):
                raise K3sError(
                    "K3S_007",
                    "k3s_token differs from the token that this cluster's data is encrypted with",
                    "put the old one back, or change it on a server with: k3s token rotate --new-token NEW",
                )
            wanted = self.first_form(given, kept) or secrets.token_hex(32)
            found[path] = wanted + "\n"
        return found

    def first_form(self, given, kept):
        """What a server's token file shall hold: a given token, in the file's present form when that means the same."""
        if kept and (not given or password_of(given) == password_of(kept)):
            return kept
        return given if self.params["join"] else password_of(given)

    def files(self):
        """[(path, content or None for absence, mode, is secret)] of everything but containerd's part."""
        params = self.params
        unit = f"{host.UNIT_DIR}/{self.unit.name}.service"
        config = HEADER + to_yaml(self.config())
        wanted = [
            (host.CONFIG, config, 0o600, False),
            (host.REGISTRIES, host.registries(HEADER, params["registries"]), 0o600, True),
            (unit, params["unit"], 0o644, False),
            (unit + ".env", params["environment_file"] or None, 0o600, True),
            (AUDIT_POLICY, params["audit_policy"] or None, 0o600, False),
            (OOM_FILE, OOM if params["restrict_oom_score_adj"] else None, 0o644, False),
        ]
        wanted += [(path, content, 0o600, True) for path, content in self.tokens().items()]
        drop_in = self.minor >= 36
        wanted.append((DROP_IN_FILE, DROP_IN if drop_in else None, 0o600, False))
        # A template of the site's own hand is left alone; ours goes when drop-ins do its work.
        if host.read_text(TEMPLATE_FILE) in (None, TEMPLATE):
            wanted.append((TEMPLATE_FILE, None if drop_in else TEMPLATE, 0o600, False))
        return wanted

    # -- doing it ------------------------------------------------------------------------------------------------

    def place(self, path, content, mode, secret):
        """Bring one file into its state."""
        before = host.read_text(path)
        if content is None:
            if before is None:
                return
            if not self.module.check_mode:
                os.unlink(path)
        elif before == content and (os.stat(path).st_mode & 0o7777) == mode:
            return
        elif not self.module.check_mode:
            host.write_text(path, content, mode)
        self.written.append(path)
        hidden = "(not shown)\n"
        secret = secret or SECRET_KEY.search(content or "") or SECRET_KEY.search(before or "")
        self.diff.append(
            {
                "before_header": path,
                "after_header": path,
                "before": "" if before is None else hidden if secret else before,
                "after": "" if content is None else hidden if secret else content,
            }
        )

    def marks(self, files):
        """{name: digest} of everything that the process reads once, at its start."""
        marks = {"binary": host.file_mark(self.params["binary"]), "runtimes": host.detected_runtimes()}
        for path, content, _mode, _secret in files:
            if path == host.CONFIG:
                lasting = {k: v for k, v in from_yaml(content).items() if k not in REGISTRATION_KEYS}
                marks[path] = lasting
            elif not path.startswith(host.OUR_CONTAINERD_DIR):
                marks[path] = content
        for path in sorted(glob.glob(host.OUR_CONTAINERD_DIR + "/*.toml")):
            marks[path] = host.read_text(path)
        return {
            name: hashlib.sha256(json.dumps(mark, sort_keys=True).encode()).hexdigest()
            for name, mark in marks.items()
            if mark is not None
        }

    def reasons(self, marks, state):
        """Why the unit has to be started or restarted; an empty list when it has not."""
        try:
            before = json.loads(host.read_text(host.APPLIED) or "{}")
        except ValueError:
            before = {}
        if state.get("ActiveState") in ("inactive", "failed", None) or state.get("LoadState") != "loaded":
            return ["not running"]
        return sorted(name for name in set(before) | set(marks) if before.get(name) != marks.get(name))

    def prepare_agent(self):
        """Unpack k3s while the server comes up, and start once it takes agents in (or after a while, come what may).

        An agent that asks too early sleeps for five to ten seconds, and so does its host.
        """
        self.module.run_command(["nice", self.params["binary"], "crictl", "--version"])
        deadline = time.monotonic() + self.params["server_wait"]
        url = from_yaml(host.read_text(host.CONFIG) or "").get("server", "")
        while time.monotonic() < deadline and not joinable(url, self.params["token"]):
            time.sleep(0.3)

    def run(self):
        """Validate, write, start; returns the module's result."""
        self.validate()
        files = self.files()
        for path, content, mode, secret in files:
            self.place(path, content, mode, secret)
        state = self.unit.show()
        marks = self.marks(files)
        reasons = self.reasons(marks, state) if self.params["start"] else []
        unit_changed = any(path.startswith(host.UNIT_DIR) for path in self.written)
        enable = state.get("UnitFileState") != "enabled"
        if not self.module.check_mode:
            if unit_changed or state.get("LoadState") != "loaded":
                self.module.run_command(["systemctl", "daemon-reload"], check_rc=True)
            if enable:
                self.unit.do("enable", "--quiet")
            if reasons:
                if host.read_text(host.BEFORE) is None:
                    host.write_text(host.BEFORE, json.dumps(host.sysctls(), sort_keys=True, indent=1) + "\n", 0o600)
                if self.role == "agent" and reasons == ["not running"]:
                    self.prepare_agent()
                self.unit.do("reset-failed") if state.get("ActiveState") == "failed" else None
                self.unit.do("restart", "--no-block")
                host.write_text(host.APPLIED, json.dumps(marks, sort_keys=True, indent=1) + "\n", 0o600)
            if self.params["wait"]:
                poll(Wait(self.role, self.params["node_name"], 0, self.module.run_command), self.params["wait"])
        return {
            "changed": bool(self.written or reasons or enable),
            "written": self.written,
            "restarted": bool(reasons),
            "reasons": reasons,
            "node_ip": self.node_ip,
            "handlers": host.proved_handlers(),
            "diff": self.diff,
        }


def main():
    """Entry point."""
    secret = {"type": "str", "default": "", "no_log": True}
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "required": True, "choices": ["server", "agent"]},
            "version": {"type": "str", "required": True},
            "binary": {"type": "path", "default": "/usr/local/bin/k3s"},
            "node_name": {"type": "str", "required": True},
            "config": {"type": "dict", "default": {}},
            "extra": {"type": "dict", "default": {}},
            "labels": {"type": "dict", "default": {}},
            "taints": {"type": "list", "elements": "str", "default": []},
            "kubelet_args": {"type": "list", "elements": "str", "default": []},
            "eviction_hard": {"type": "str", "default": "auto"},
            "allow_cgroup_v1": {"type": "bool", "default": False},
            "node_ip": {"type": "str", "default": ""},
            "node_interface": {"type": "str", "default": ""},
            "address_hint": {"type": "str", "default": ""},
            "resolv_conf": {"type": "str", "default": "auto"},
            "multiple_servers": {"type": "bool", "default": False},
            "join": {"type": "str", "default": ""},
            "servers": {"type": "list", "elements": "str", "default": []},
            "token": secret,
            "agent_token": secret,
            "registries": secret,
            "environment_file": secret,
            "unit": {"type": "str", "required": True},
            "restrict_oom_score_adj": {"type": "bool", "default": False},
            "secrets_encryption": {"type": "str", "default": "auto", "choices": ["auto", "true", "false"]},
            "join_encrypted": {"type": "bool", "default": False},
            "audit_policy": {"type": "str", "default": ""},
            "start": {"type": "bool", "default": True},
            "wait": {"type": "int", "default": 0},
            "server_wait": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Node(module).run())
    except K3sError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
