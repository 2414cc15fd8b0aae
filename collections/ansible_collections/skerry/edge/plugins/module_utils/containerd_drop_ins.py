"""containerd drop-ins of proved wasm handlers: which files there should be, and which of ours there are."""

from __future__ import annotations

import glob
import os

FOLDER = "/etc/skerry/containerd"
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


def systemd_cgroup(proc="/proc/self/cgroup", controllers="/sys/fs/cgroup/cgroup.controllers"):
    """Whether k3s gives its containers' cgroups to systemd: where its unit has the cpuset controller, on version 1 too.

    All handlers of a node must agree with the kubelet on this. The rule is k3s's own (pkg/agent/config, CheckCgroups).
    """
    if os.path.exists(controllers):
        with open(controllers, encoding="utf-8") as stream:
            return "cpuset" in stream.read().split()
    with open(proc, encoding="utf-8") as stream:
        return any("cpuset" in line.split(":")[1].split(",") for line in stream if line.count(":") >= 2)


def wanted(handlers, runtimes, systemd_cgroup, folder=FOLDER):
    """{path: text} for the handlers that run through crun; shims need no file."""
    files = {}
    for name, handler in handlers.items():
        if handler["runtime"] == "crun":
            command, systemd = runtimes["crun"]["command"], "true" if systemd_cgroup else "false"
            text = TABLE.format(name=name, command=command, systemd=systemd)
            files[os.path.join(folder, name + ".toml")] = MARK + text
    return files


def present(folder=FOLDER):
    """{path: text} of the files of ours that are there."""
    files = {}
    for path in glob.glob(os.path.join(folder, "*.toml")):
        with open(path, encoding="utf-8") as stream:
            files[path] = stream.read()
    return {path: text for path, text in files.items() if text.startswith(MARK)}
