#!/usr/bin/python
"""Take k3s off a host (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_reset
short_description: Take k3s off a host
description:
  - Stops the units, kills the pods, unmounts what they mounted (network file systems by force, since their server may
    be gone), removes the interfaces, routes, control groups, and the chains and rules of Kubernetes, CNI and flannel.
    The packet filter is never flushed, other rules keep their counters.
  - Kernel settings that k3s changed get the values back that M(skerry.edge.k3s_node) found when it started k3s first.
  - A second run finds nothing to do.
options:
  keep_data:
    description: Leave the datastore, tokens, configuration and local volumes on the host.
    type: bool
    default: false
  pod_networks:
    description: Networks of the pods; routes into them are removed.
    type: list
    elements: str
    default: [10.42.0.0/16]
  stop_timeout:
    description: Seconds that a unit may take to stop before it is killed.
    type: int
    default: 30
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Take k3s off the host, keep its datastore
  skerry.edge.k3s_reset:
    keep_data: true
"""

RETURN = r"""
removed:
  description: What was (or would be) removed.
  returned: success
  type: list
  elements: str
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import k3s_cleanup as cleanup
from ansible_collections.skerry.edge.plugins.module_utils import k3s_host as host
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

#: Made by k3s and its parts, of no use without it.
LEFTOVERS = (
    "/run/k3s",
    "/run/flannel",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    host.OUR_CONTAINERD_DIR + "/10-oom-score-adj.toml",
)
DATA = (host.DATA_DIR, host.CONFIG_DIR, "/etc/rancher/node")
#: Directories that k3s made on its way; they go when nothing is left in them.
PARENTS = (
    "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "/usr/libexec/kubernetes/kubelet-plugins/volume",
    "/usr/libexec/kubernetes/kubelet-plugins",
    "/usr/libexec/kubernetes",
    "/var/lib/rancher",
    "/etc/rancher",
    "/run/nri",
    "/run/netns",
    host.OUR_CONTAINERD_DIR,
    "/etc/skerry",
)


class Reset:
    """One run of the module."""

    def __init__(self, module):
        self.module = module
        self.check = module.check_mode
        self.removed = []

    def stop(self):
        """Stop and disable the units; one that does not stop is killed."""
        for name in host.UNITS.values():
            unit = host.Unit(name, self.module.run_command)
            state = unit.show()
            if state.get("LoadState") in ("not-found", None):
                continue
            self.removed.append("unit " + name)
            if self.check:
                continue
            unit.do("disable", "--quiet")
            unit.do("stop", "--no-block")
            deadline = time.monotonic() + self.module.params["stop_timeout"]
            while unit.show().get("ActiveState") not in ("inactive", "failed", None):
                if time.monotonic() > deadline:
                    unit.do("kill", "--signal=KILL")
                    deadline = time.monotonic() + 10
                time.sleep(0.2)

    def sysctls(self):
        """Put kernel settings back, where they still are as k3s set them."""
        try:
            before = json.loads(host.read_text(host.BEFORE) or "{}")
        except ValueError:
            before = {}
        for name, value in before.items():
            path = "/proc/sys/" + name
            present = (host.read_text(path) or "").strip()
            if not present or present == value or present != host.K3S_SYSCTLS.get(name):
                continue
            if name == "net/ipv4/ip_forward" and os.path.isdir("/sys/class/net/docker0"):
                continue  # Docker needs it as well
            self.removed.append("sysctl " + name.replace("/", "."))
            if not self.check:
                host.write_sysctl(path, value)

    def network(self):
        """Interfaces, routes, packet filter."""
        names = cleanup.interfaces()
        self.removed += ["interface " + name for name in names]
        _code, listing = cleanup.run("ip", "route", "show")
        routes = cleanup.pod_routes(self.module.params["pod_networks"], listing)
        self.removed += ["route " + route[0] for route in routes]
        if not self.check:
            for name in names:
                cleanup.run("ip", "link", "delete", name)
            for route in routes:
                cleanup.run("ip", "route", "del", *route)
        for what, count in (
            ("filter lines", cleanup.clean_filter(self.check)),
            ("ipsets", cleanup.clean_sets(self.check)),
        ):
            if count:
                self.removed.append(f"{count} {what}")

    def mounts(self):
        """Unmount; raises K3S_022 when something stays mounted."""
        roots = [*cleanup.MOUNT_ROOTS, *([] if self.module.params["keep_data"] else [host.DATA_DIR])]
        if self.check:
            self.removed += ["mount " + point for point, _kind in cleanup.mounts_below(roots)]
            return
        count, left = cleanup.unmount(roots)
        if left:
            raise K3sError(
                "K3S_022",
                "still mounted: {}".format(", ".join(left[:5])),
                "see who uses it (fuser -vm PATH), end that, then run again",
            )
        if count:
            self.removed.append(f"{count} mounts")

    def files(self):
        """Remove files, then the directories that are empty now."""
        units = [host.UNIT_DIR + "/" + name + ".service" for name in host.UNITS.values()]
        # containerd makes these wherever it runs; another one of the host may need them.
        shared = [] if cleanup.other_containerd(cleanup.processes()) else ["/run/containerd"]
        if cleanup.nobody_listens("/run/nri/nri.sock"):
            shared.append("/run/nri/nri.sock")
        paths = [*LEFTOVERS, *shared, *units, *(unit + ".env" for unit in units)]
        if not self.module.params["keep_data"]:
            paths += DATA
        for path in paths:
            if not os.path.lexists(path):
                continue
            self.removed.append(path)
            if not self.check:
                try:
                    cleanup.remove_tree(path)
                except OSError as error:
                    raise K3sError("K3S_022", f"cannot remove {path}: {error}", "unmount it, then run again") from error
        for path in PARENTS:
            if os.path.isdir(path) and not os.listdir(path) and not self.check:
                os.rmdir(path)

    def run(self):
        """Everything, in the order in which one thing frees the next."""
        self.stop()
        if not self.check:
            killed = cleanup.kill_all()
            if killed:
                self.removed.append(f"{killed} processes")
        self.mounts()
        self.network()
        self.sysctls()
        had_units = any(item.startswith("unit ") for item in self.removed)
        self.files()
        if not self.check:
            cleanup.clean_cgroups()
            if had_units:
                self.module.run_command(["systemctl", "daemon-reload"])
                self.module.run_command(["systemctl", "reset-failed", "k3s*"])
        return {"changed": bool(self.removed), "removed": self.removed}


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "keep_data": {"type": "bool", "default": False},
            "pod_networks": {"type": "list", "elements": "str", "default": ["10.42.0.0/16"]},
            "stop_timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Reset(module).run())
    except K3sError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
