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
extends_documentation_fragment:
  - skerry.edge.attributes
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

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.containerd_drop_ins import present, wanted
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text, replace_file


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
    files = wanted(module.params["handlers"], module.params["runtimes"], module.params["systemd_cgroup"], folder)
    diff = []
    try:
        ours = present(folder)
        for path in sorted(set(ours) | set(files)):
            before, after = read_text(path), files.get(path)
            if before == after:
                continue
            header = {"before_header": path, "after_header": path}
            diff.append({**header, "before": before or "", "after": after or ""})
            if module.check_mode:
                continue
            if after is None:
                os.unlink(path)
            else:
                replace_file(path, after, 0o644)
    except OSError as error:
        cause = f"cannot write {error.filename or folder}: {error.strerror}"
        remedy = f"check rights and free space of {folder}, then run again"
        module.fail_json(msg=f"WASM_002 {cause} | remedy: {remedy}", code="WASM_002", cause=cause, remedy=remedy)
    module.exit_json(changed=bool(diff), files=sorted(files), diff=diff)


if __name__ == "__main__":
    main()
