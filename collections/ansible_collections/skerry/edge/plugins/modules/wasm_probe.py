#!/usr/bin/python
"""Prove the WebAssembly runtimes of a host (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_probe
short_description: Prove WebAssembly runtimes by running a module through each
description:
  - Runs two tiny WASI modules through every installed runtime, one that prints and exits with 7, one that traps.
  - A runtime is proved when the output arrived whole. Whether it keeps a module's exit code and tells a trap is
    recorded beside that.
  - Changes nothing; what it returns is what the host really does.
options:
  names:
    description:
      - What to probe. C(crun), C(wasmedge), C(wasmtime), and the containerd shims C(shim-wasmtime), C(shim-wasmedge),
        C(shim-wasmer), C(shim-spin).
    type: list
    elements: str
    default: [crun, wasmedge, wasmtime, shim-wasmtime, shim-wasmedge, shim-wasmer, shim-spin]
  timeout:
    description: Seconds that one run may take (an emulated host is slow).
    type: int
    default: 60
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.looks
"""

EXAMPLES = r"""
- name: Prove what is installed
  skerry.edge.wasm_probe:
  register: __wasm_runtime_probe
"""

RETURN = r"""
runtimes:
  description: >-
    One entry per installed runtime, by name, with version, command, source, modes (or engine), proved, error,
    exit_code_kept, trap_told, findings; of wasmtime also serves (it has the server for wasi:http).
  returned: always
  type: dict
handlers:
  description: Handlers for Kubernetes' RuntimeClasses that proved runtimes offer.
  returned: always
  type: dict
handlers_offered:
  description: Whether containerd's drop-ins (M(skerry.edge.containerd_handlers)) are what these handlers want.
  returned: always
  type: bool
recorded:
  description: What the fact file says of the role wasm_runtime by now.
  returned: always
  type: dict
systemd_cgroup:
  description: Whether k3s gives the cgroups of its containers to systemd here.
  returned: always
  type: bool
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import containerd_drop_ins, fact_file
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import Prober

KNOWN = ("crun", "wasmedge", "wasmtime", "shim-wasmtime", "shim-wasmedge", "shim-wasmer", "shim-spin")


def probe(prober, name):
    """One runtime's entry, or None where it is not installed."""
    if name == "crun":
        return prober.crun()
    if name.startswith("shim-"):
        return prober.shim(name[len("shim-"):])
    return prober.command(name)


def handlers_of(runtimes):
    """RuntimeClass handlers of the proved container runtimes."""
    handlers = {}
    for name, entry in sorted(runtimes.items()):
        if not entry["proved"]:
            continue
        if name == "crun":
            handlers["crun-wasm"] = {"runtime": "crun", "engine": entry["engine"]}
        elif name.startswith("shim-"):
            handlers[name[len("shim-"):]] = {"runtime": name, "engine": entry["engine"]}
    return handlers


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "choices": list(KNOWN), "default": list(KNOWN)},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    # Not /tmp, which may be mounted noexec: ahead-of-time code could not be loaded from there.
    place = "/var/lib" if os.access("/var/lib", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="skerry-probe-", dir=place)
    # A container's root must be reachable for a runtime that drops rights on the way.
    os.chmod(folder, 0o711)
    try:
        prober = Prober(folder, module.params["timeout"])
        entries = {name: probe(prober, name) for name in module.params["names"]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    runtimes = {name: entry for name, entry in entries.items() if entry is not None}
    handlers = handlers_of(runtimes)
    systemd = containerd_drop_ins.systemd_cgroup()
    module.exit_json(
        changed=False,
        runtimes=runtimes,
        handlers=handlers,
        handlers_offered=containerd_drop_ins.wanted(handlers, runtimes, systemd) == containerd_drop_ins.present(),
        recorded=fact_file.section("wasm_runtime"),
        systemd_cgroup=systemd,
    )


if __name__ == "__main__":
    main()
