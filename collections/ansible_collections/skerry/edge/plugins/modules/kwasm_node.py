#!/usr/bin/python
"""Look after the wasm runtimes of a k3s node (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kwasm_node
short_description: Look after the wasm runtimes of a k3s node
description:
  - Removes what former providers left on the node (C(/opt/kwasm), C(/opt/rcm), drop-ins), and of the present one the
    frozen template of containerd's configuration; lets containerd start its shims by their full path.
  - Places the image that probe pods run, so that no registry is asked for it.
  - Compares the handlers that the node should have with those that its containerd has now, by the node's own word.
  - Does not restart k3s; C(restart) says that the role k3s has to, and its note of what k3s was started with is voided.
options:
  provider:
    description: Who brings the runtimes; C(none) cleans up after all.
    type: str
    choices: [native, runtime_class_manager, kwasm_operator, none]
    required: true
  force:
    description: Void the note in any case, so that the role k3s restarts k3s (after a probe that failed).
    type: bool
    default: false
extends_documentation_fragment:
  - skerry.edge.attributes
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Look after the wasm runtimes of the node
  skerry.edge.kwasm_node:
    provider: native
  register: __kwasm_node
"""

RETURN = r"""
node:
  description: Name of the node; '' where there is no k3s.
  returned: success
  type: str
handlers:
  description: Handlers that the node should offer, each with a mark that changes when anything that it is made of does.
  returned: success
  type: dict
absent:
  description: Handlers that the node should offer and that containerd does not have now.
  returned: success
  type: list
  elements: str
restart:
  description: Whether k3s has to be restarted for containerd to see what is there.
  returned: success
  type: bool
native_offered:
  description: Whether the role wasm_runtime offers its handlers on this host.
  returned: success
  type: bool
native_withheld:
  description: Whether it was told not to.
  returned: success
  type: bool
arch:
  description: Architecture of the node, as Kubernetes calls it.
  returned: success
  type: str
done:
  description: What was done.
  returned: success
  type: list
  elements: str
"""

import functools
import glob
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import kwasm_host as kwasm
from ansible_collections.skerry.edge.plugins.module_utils.containerd_drop_ins import systemd_cgroup
from ansible_collections.skerry.edge.plugins.module_utils.fact_file import section
from ansible_collections.skerry.edge.plugins.module_utils.files import replace_file
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_host import APPLIED, UNITS, file_mark

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv8l": "arm"}
LIBRARIES = ("/opt/skerry/wasmedge/lib64", "/usr/local/lib", "/usr/lib/*", "/usr/lib64")


class Node:
    """One run of the module."""

    def __init__(self, module):
        self.module = module
        self.check = module.check_mode
        self.provider = module.params["provider"]
        self.k3s = section("k3s")
        self.wasm = section("wasm_runtime")
        self.done = []
        self.diff = []
        self.stale = bool(module.params["force"])

    def act(self, what, step, before="", after=""):
        """Note something and, outside check mode, do it."""
        self.done.append(what)
        self.diff.append({"header": what, "before": before, "after": after})
        if not self.check:
            step()

    # -- files -----------------------------------------------------------------------------------------------------

    def clean(self):
        """Remove what former providers left, and the frozen template of the present one."""
        for folder in kwasm.leftovers(self.provider):
            self.stale = True
            self.act("remove " + folder, functools.partial(shutil.rmtree, folder))
        for path in kwasm.frozen_templates():
            self.stale = True
            self.act("remove the frozen " + path, functools.partial(os.unlink, path))

    def offer(self):
        """Let containerd have a drop-in for each shim of the provider, and none for others."""
        wanted, there = kwasm.drop_ins(self.provider, systemd_cgroup()), kwasm.present_drop_ins()
        for path in sorted(set(wanted) | set(there)):
            before, after = there.get(path), wanted.get(path)
            if before == after:
                continue
            self.stale = True
            if after is None:
                self.act("remove " + path, functools.partial(os.unlink, path), before or "", "")
            else:
                self.act("write " + path, functools.partial(replace_file, path, after, 0o644), before or "", after)

    def image(self):
        """Place the probe's image where k3s imports it at each start, and import it now."""
        architecture = ARCHITECTURES.get(platform.machine(), "")
        if self.provider == "none" or not architecture:
            if os.path.exists(kwasm.PROBE_FILE):
                self.act("remove the probe's image", lambda: os.unlink(kwasm.PROBE_FILE))
            return
        content = kwasm.probe_image(architecture)
        try:
            with open(kwasm.PROBE_FILE, "rb") as stream:
                same = stream.read() == content
        except FileNotFoundError:
            same = False
        if not same:
            self.act("place the probe's image", lambda: self.place(content))

    def place(self, content):
        """Write the archive and import it; k3s itself would take a while to notice."""
        replace_file(kwasm.PROBE_FILE, content, 0o644)
        command = ["/usr/local/bin/k3s", "ctr", "-n", "k8s.io", "images", "import", kwasm.PROBE_FILE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise K3sError(
                "RUNTIME_011",
                f"the probe's image cannot be imported: {done.stderr.strip()[-300:]}",
                "see whether containerd answers on the host: k3s ctr version",
            )

    # -- what should be there, and what is -------------------------------------------------------------------------

    def handlers(self):
        """{handler: mark} that this node should offer."""
        if self.provider == "native":
            names = {
                name: self.wasm.get("runtimes", {}).get(entry.get("runtime"), {}).get("command")
                for name, entry in (self.wasm.get("handlers") or {}).items()
            }
        else:
            names = kwasm.shims(self.provider) if self.provider in kwasm.FOLDERS else {}
        return {name: self.mark(name, path) for name, path in names.items()}

    def mark(self, name, command):
        """Digest over the things that a handler works by: program, libraries, drop-in, containerd's present start."""
        unit = UNITS[self.k3s.get("role", "agent")]
        shown = subprocess.run(
            ["systemctl", "show", "-p", "InvocationID", unit], capture_output=True, text=True, check=False
        )
        files = [command or "", f"{kwasm.DROP_INS}/{name}.toml", f"{kwasm.DROP_INS}/kwasm-{name}.toml"]
        files += [found for folder in LIBRARIES for found in sorted(glob.glob(folder + "/libwasmedge.so.0"))]
        marks = [[path, file_mark(os.path.realpath(path))] for path in files]
        return hashlib.sha256(json.dumps([marks, shown.stdout.strip()]).encode()).hexdigest()[:32]

    def offered(self):
        """Handlers that containerd has by the node's word; None where that cannot be known."""
        api = Api(self.k3s["role"], timeout=5)
        try:
            node = api.json("GET", "/api/v1/nodes/" + self.k3s["node"], missing_ok=True)
        except (UnavailableError, K3sError):
            return None
        listed = ((node or {}).get("status") or {}).get("runtimeHandlers")
        return None if listed is None else {item.get("name", "") for item in listed}

    def missing(self, wanted):
        """Handlers that containerd lacks. The kubelet tells of a change within some seconds, so it is asked again."""
        if not wanted:
            return []
        deadline = time.monotonic() + (0 if self.check else 30)
        while True:
            offered = self.offered()
            lacking = sorted(set(wanted) - offered) if offered is not None else []
            if not lacking or self.stale or time.monotonic() > deadline:
                return lacking
            time.sleep(1)

    def void(self):
        """Let the role k3s see that its k3s must be restarted."""
        try:
            with open(APPLIED, encoding="utf-8") as stream:
                noted = json.load(stream)
        except (FileNotFoundError, ValueError):
            return
        if noted.get("kwasm") != "restart":
            replace_file(APPLIED, json.dumps({**noted, "kwasm": "restart"}, sort_keys=True, indent=1) + "\n", 0o600)

    def run(self):
        """Do everything; the module's result."""
        result = {"node": "", "arch": "", "handlers": {}, "absent": [], "restart": False}
        result.update(native_offered=bool(self.wasm.get("handlers")), native_withheld=self.wasm.get("offered") is False)
        if not self.k3s.get("node"):
            return {**result, "changed": False, "done": [], "diff": []}
        self.clean()
        self.offer()
        self.image()
        handlers = self.handlers()
        absent = self.missing(handlers)
        if absent and not self.stale:
            self.stale = True
            self.done.append("have k3s restarted: containerd lacks " + ", ".join(absent))
        if self.stale and not self.check:
            self.void()
        result.update(node=self.k3s["node"], handlers=handlers, absent=absent, restart=self.stale)
        result["arch"] = ARCHITECTURES.get(platform.machine(), platform.machine())
        return {**result, "changed": bool(self.done), "done": self.done, "diff": self.diff}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "provider": {
                "type": "str", "required": True,
                "choices": ["native", "runtime_class_manager", "kwasm_operator", "none"],
            },
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Node(module).run())
    except K3sError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        cause = f"cannot change {error.filename}: {error.strerror}"
        remedy = "check rights and free space there (df -h), then run again"
        module.fail_json(msg=f"RUNTIME_012 {cause} | remedy: {remedy}", code="RUNTIME_012", cause=cause, remedy=remedy)


if __name__ == "__main__":
    main()
