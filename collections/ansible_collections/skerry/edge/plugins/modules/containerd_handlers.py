#!/usr/bin/python
"""Write containerd drop-ins for proved wasm handlers (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_handlers
short_description: Write containerd drop-ins for wasm handlers
description:
  - Writes one file per handler that runs through crun, in containerd's configuration format 3 (containerd 2).
  - Handlers of containerd shims need no file, k3s finds a shim in C(/usr/local/bin) by itself.
  - Files of handlers that are no longer named are removed; files of others in the folder are left alone.
  - The role k3s has its containerd import the folder, and restarts k3s when the files changed.
options:
  handlers:
    description: Handlers as M(skerry.edge.wasm_probe) returns them.
    type: dict
    required: true
  runtimes:
    description: The proved runtimes, as M(skerry.edge.wasm_probe) returns them; they name the commands.
    type: dict
    required: true
  systemd_cgroup:
    description: Whether the containers' cgroups belong to systemd.
    type: bool
    required: true
  path:
    description: The folder.
    type: path
    default: /etc/skerry/containerd
author:
  - The Skerry authors
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Offer proved handlers to containerd
  skerry.edge.containerd_handlers:
    handlers: "{{ __wasm_runtime_probe.handlers }}"
    runtimes: "{{ __wasm_runtime_probe.runtimes }}"
    systemd_cgroup: "{{ __wasm_runtime_probe.systemd_cgroup }}"
"""

RETURN = r"""
files:
  description: The files that are there afterwards.
  returned: always
  type: list
"""

import glob
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

MARK = "# Written by Skerry's role wasm_runtime; changes are lost.\n"
TABLE = """version = 3

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes."{name}"]
  runtime_type = "io.containerd.runc.v2"
  pod_annotations = ["run.oci.handler", "module.wasm.image/*"]
  container_annotations = ["run.oci.handler", "module.wasm.image/*"]

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes."{name}".options]
  BinaryName = "{command}"
  SystemdCgroup = {systemd}
"""


def read(path):
    """A file's text, or None."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write(path, text):
    """Replace a file in one step."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    # The name must not end in .toml: containerd may read the folder at any moment.
    handle, beside = tempfile.mkstemp(prefix=".new.", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "handlers": {"type": "dict", "required": True},
            "runtimes": {"type": "dict", "required": True},
            "systemd_cgroup": {"type": "bool", "required": True},
            "path": {"type": "path", "default": "/etc/skerry/containerd"},
        },
        supports_check_mode=True,
    )
    folder = module.params["path"]
    systemd = "true" if module.params["systemd_cgroup"] else "false"
    wanted = {}
    for name, handler in module.params["handlers"].items():
        if handler["runtime"] == "crun":
            command = module.params["runtimes"]["crun"]["command"]
            text = TABLE.format(name=name, command=command, systemd=systemd)
            wanted[os.path.join(folder, name + ".toml")] = MARK + text
    diff = []
    try:
        ours = {path: read(path) for path in glob.glob(os.path.join(folder, "*.toml"))}
        ours = {path: text for path, text in ours.items() if (text or "").startswith(MARK)}
        for path in sorted(set(ours) | set(wanted)):
            before, after = read(path), wanted.get(path)
            if before == after:
                continue
            header = {"before_header": path, "after_header": path}
            diff.append({**header, "before": before or "", "after": after or ""})
            if module.check_mode:
                continue
            if after is None:
                os.unlink(path)
            else:
                write(path, after)
    except OSError as error:
        cause = f"cannot write {error.filename or folder}: {error.strerror}"
        remedy = f"check rights and free space of {folder}, then run again"
        module.fail_json(msg=f"WASM_002 {cause} | remedy: {remedy}", code="WASM_002", cause=cause, remedy=remedy)
    module.exit_json(changed=bool(diff), files=sorted(wanted), diff=diff)


if __name__ == "__main__":
    main()
