"""Whether a host can mount NFS. Runs on the hosts: Python 3.8 or later, standard library only."""

from __future__ import annotations

import re

from ansible_collections.skerry.edge.plugins.module_utils.host import Host
from ansible_collections.skerry.edge.plugins.module_utils.kernel_features import configuration, module_names


def kernel_has_nfs(host: Host) -> bool:
    """Whether the kernel knows NFS now, or has a module for it that a mount would load."""
    if re.search(r"\bnfs4?$", host.read("/proc/filesystems"), re.MULTILINE):
        return True
    release = host.read("/proc/sys/kernel/osrelease").strip()
    files = module_names(host, release)
    if files is not None:
        return bool(files & {"nfs", "nfsv4"})
    _source, options = configuration(host, release)
    return options.get("NFS_FS") == "y"


def obstacle(host: Host) -> str:
    """Why NFS cannot be mounted, '' when it can."""
    if not kernel_has_nfs(host):
        release = host.read("/proc/sys/kernel/osrelease").strip()
        return f"the kernel {release} has no NFS"
    return "" if host.command("mount.nfs") else "mount.nfs is not installed"
