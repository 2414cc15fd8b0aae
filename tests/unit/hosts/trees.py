"""Trees of files as hosts of several families have them, below a temporary root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.host import Host

K3S = "/var/lib/rancher/k3s"
DOCKER = "/var/lib/docker"
RELEASES = {
    "debian12": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
    "ubuntu2404": 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n',
    "raspios13": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
    "alma9": 'ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\nPRETTY_NAME="AlmaLinux 9.6"\n',
    "rocky10": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="10.0"\nPRETTY_NAME="Rocky Linux 10.0"\n',
    "leap156": 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\nPRETTY_NAME="openSUSE Leap 15.6"\n',
}
MOUNTINFO = """22 1 {device} / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /proc rw,nosuid - proc proc rw
31 22 8:17 / /var/lib rw,relatime - xfs /dev/sdb1 rw
32 22 0:40 / /srv\\040nfs rw - nfs4 server:/x rw
"""


def tree(root: Path, release: str = "debian12", device: str = "8:1", memory_mb: int = 2048) -> Host:
    """A host with systemd, cgroup v2 and the given distribution; ``device`` is that of its root file system."""
    files = {
        "/etc/os-release": RELEASES[release],
        "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "/proc/meminfo": f"MemTotal:       {memory_mb * 1024} kB\nMemFree: 1 kB\n",
        "/proc/self/cgroup": "0::/system.slice/ssh.service\n",
        "/proc/self/mountinfo": MOUNTINFO.format(device=device),
        "/proc/sys/kernel/osrelease": "6.1.0-test\n",
        "/proc/sys/kernel/hostname": "edge-1\n",
        "/proc/sys/kernel/arch": "x86_64\n",
        "/proc/sys/kernel/random/boot_id": "boot-one\n",
        "/proc/cmdline": "console=tty1 root=/dev/root\n",
        "/proc/1/comm": "systemd\n",
        "/proc/1/limits": "Max open files            1024                 524288               files\n",
        "/proc/1/status": "CapBnd:\t000001ffffffffff\n",
        "/proc/modules": "overlay 1 0 - Live 0x0\n",
        "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    }
    for name, text in files.items():
        put(root, name, text)
    block = root / "sys/dev/block"
    block.mkdir(parents=True)
    for number, name in (("8:1", "sda1"), ("8:17", "sdb1"), ("179:2", "mmcblk0p2")):
        (root / "sys/devices" / name).mkdir(parents=True)
        (block / number).symlink_to(root / "sys/devices" / name)
    return Host(str(root))


def put(root: Path, name: str, text: str) -> None:
    """Write one file of the tree."""
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def settings(role: str = "server", **changes: Any) -> dict[str, Any]:
    """What roles/preflight/vars/main.yml makes for such a host."""
    wishes = {
        "role": role,
        "skip": [],
        "warn": [],
        "bootstrap_python": True,
        "memory_min_mb": 900,
        "memory_advised_mb": 1800,
        "server_cores_min": 2,
        "disk_needs": {
            "root": {"path": "/", "mb": 300},
            "k3s": {"path": K3S, "mb": 1500},
            "docker": {"path": DOCKER, "mb": 600},
        },
        "disk_installed_mb": 200,
        "disk_free_warn_percent": 8,
        "inodes_min": 20000,
        "data_paths": [K3S, DOCKER],
        "clock_skew_max_seconds": 30,
        "k3s_version": "v1.34.1+k3s1",
        "allow_cgroup_v1": False,
        "node_name": "",
        "cluster_networks": ["10.42.0.0/16", "10.43.0.0/16"],
        "etcd": False,
        "kernel_required": ["overlay", "vxlan", "memcg"],
        "kernel_optional": ["ip-set"],
        "firewall_managed": True,
        "time_managed": True,
        "cmdline_managed": True,
        "sysctl_managed": True,
        "broker": "",
        "broker_memory_min_mb": 1280,
        "dns_names": ["mirror.example.org"],
    }
    return {**wishes, **changes}
