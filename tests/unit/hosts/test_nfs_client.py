"""Whether a host can mount NFS, from trees of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.skerry.edge.plugins.module_utils.nfs_client import kernel_has_nfs, obstacle
from unit.hosts.trees import put, tree

MODULES = "/lib/modules/6.1.0-test"


@pytest.mark.parametrize(
    ("files", "able"),
    [
        ({"/proc/filesystems": "nodev\tsysfs\n\text4\nnodev\tnfs\nnodev\tnfs4\n"}, True),
        ({f"{MODULES}/modules.dep": "kernel/fs/nfs/nfs.ko.zst: kernel/net/sunrpc/sunrpc.ko.zst\n"}, True),
        ({f"{MODULES}/modules.builtin": "kernel/fs/nfs/nfsv4.ko\n"}, True),
        ({f"{MODULES}/modules.dep": "kernel/fs/nfsd/nfsd.ko: \n", "/proc/filesystems": "\text4\n"}, False),
        ({"/boot/config-6.1.0-test": "CONFIG_NFS_FS=y\n"}, True),
        ({"/boot/config-6.1.0-test": "CONFIG_NFS_FS=m\n"}, False),  # a module, and no modules
        ({}, False),
    ],
)
def test_nfs_in_the_kernel(tmp_path: Path, files: dict[str, str], able: bool) -> None:
    host = tree(tmp_path)
    for name, text in files.items():
        put(tmp_path, name, text)
    assert kernel_has_nfs(host) is able


def test_both_kernel_and_command_are_needed(tmp_path: Path) -> None:
    host = tree(tmp_path)
    assert obstacle(host) == "the kernel 6.1.0-test has no NFS"
    put(tmp_path, "/proc/filesystems", "nodev\tnfs\n")
    assert obstacle(host) == "mount.nfs is not installed"
    put(tmp_path, "/sbin/mount.nfs", "")
    (tmp_path / "sbin/mount.nfs").chmod(0o755)
    assert obstacle(host) == ""
