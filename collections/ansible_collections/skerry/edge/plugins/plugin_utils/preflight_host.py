"""Preflight's checks of one host: system, memory, storage, kernel, other software. Pure Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_model import (
    ERROR,
    WARNING,
    Problem,
    Report,
    cluster_check,
    host_check,
)

MB = 1024 * 1024
# Kernel's name: names of the same architecture by dpkg and rpm.
USERLANDS = {"x86_64": {"amd64", "x86_64"}, "aarch64": {"arm64", "aarch64"}, "armv7l": {"armhf", "armv7hl", "armv7hnl"}}
CGROUP_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "glusterfs")
STACKED_FILE_SYSTEMS = ("overlay", "aufs", "ecryptfs", "squashfs", "tmpfs", "ramfs")
# What a remedy for one missing feature is, by distribution.
EXTRA_MODULES = "kernel-modules-extra"


def k3s_minor(version: str) -> int:
    """Minor number of a Kubernetes 1.x version string, 999 where it is none (so that the newest rules hold)."""
    found = re.match(r"v?1\.(\d+)", version)
    return int(found.group(1)) if found else 999


@cluster_check("PREFLIGHT_001", ERROR, "Host cannot be reached")
def unreachable(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """SSH gave no session: name, address, port, key, host key or a firewall. The host is left out and the run ends with
    Ansible's code for unreachable hosts; `preflight_unreachable_hosts: stop` stops all others as well."""
    for report in reports:
        if report.unreachable:
            # Ansible's own words around those of ssh say nothing more.
            reason = re.sub(r"^.*?(over|via) ssh: ", "", _one_line(report.unreachable))
            yield Problem(reason, _ssh_remedy(report.unreachable), host=report.name)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ssh_remedy(reason: str) -> str:
    """What to do about a message of ssh."""
    remedies = (
        (
            "Permission denied",
            "put the public key into the account's authorized_keys, or correct ansible_user and the key file",
        ),
        ("Host key verification failed", "compare the host's key with its owner's, then correct the known_hosts file"),
        ("REMOTE HOST IDENTIFICATION", "compare the host's key with its owner's, then correct the known_hosts file"),
        ("Could not resolve", "correct the name or set ansible_host to an address"),
        ("Name or service not known", "correct the name or set ansible_host to an address"),
        ("Connection refused", "start sshd on the host or correct ansible_port"),
        ("timed out", "switch the host on, or correct ansible_host and the firewalls on the way"),
        ("No route to host", "switch the host on, or correct ansible_host and the routes"),
    )
    for sign, remedy in remedies:
        if sign in reason:
            return remedy
    return "try `ssh` to the host by hand with the user, port and key of the inventory"


@cluster_check("PREFLIGHT_002", ERROR, "No usable Python")
def python_missing(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """No Python of 3.9 or newer for Ansible's modules. It is installed when the rest is in order (in check mode only
    announced); this is shown when that is switched off, is impossible, or has failed."""
    for report in reports:
        if report.would_install:
            yield Problem(
                f"{report.python_missing}; would be installed ({report.would_install}), so nothing else was looked at",
                "run without --check to install it",
                WARNING,
                report.name,
            )
        elif report.install_later:
            yield Problem(
                f"{report.python_missing}, so nothing else was looked at",
                "nothing to do: it is installed once the errors shown here are put right",
                WARNING,
                report.name,
            )
        elif report.python_missing:
            yield Problem(
                report.python_missing,
                "install python3 (3.9 or newer) on the host, or let the account use sudo and set "
                "preflight_bootstrap_python",
                host=report.name,
            )


@cluster_check("PREFLIGHT_003", ERROR, "No root rights")
def no_root(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """Every role needs root. Reported is what sudo (or another become method) said."""
    for report in reports:
        if report.no_root and report.probe.get("system", {}).get("root"):
            yield Problem(
                f"root logs in, but {_one_line(report.no_root)}",
                "set ansible_become: false for this host, or install sudo",
                host=report.name,
            )
        elif report.no_root:
            yield Problem(
                _one_line(report.no_root),
                "allow the account sudo (NOPASSWD in /etc/sudoers.d), or give ansible_become_password from a vault",
                host=report.name,
            )


@cluster_check("PREFLIGHT_004", ERROR, "Host could not be looked at")
def failed(reports: list[Report], _inventory: dict[str, Any]) -> Iterator[Problem]:
    """The probe itself failed on the host; its own words are shown."""
    for report in reports:
        if report.failure:
            yield Problem(
                _one_line(report.failure), "run again with -vvv; free memory and disk space if short", host=report.name
            )


@host_check("PREFLIGHT_005", ERROR, "Distribution or release not supported")
def distribution(report: Report) -> Iterator[Problem]:
    """Debian 11, Ubuntu 20.04, EL 9, openSUSE Leap 15 and what is newer are known; an older one is an error, an
    unknown one a warning. EL 8 is left with cgroup v1 and Python 3.6."""
    major = report.major()
    minimum = {"debian": 11, "raspbian": 11, "ubuntu": 20, "rhel": 9, "centos": 9, "fedora": 40, "opensuse-leap": 15}
    families = ("ubuntu", "raspbian", "debian", "opensuse-leap", "rhel", "centos", "fedora")
    system = report.probe["system"]
    family = system["id"] if system["id"] in minimum else next((name for name in families if report.is_like(name)), "")
    if not family and not report.is_like("suse", "opensuse"):
        yield Problem(f"{report.label} is not known here", "see docs/support.md; go on at your own risk", WARNING)
    # A descendant has its own numbers (Linux Mint 22 is like Ubuntu), but those of EL and SUSE count as their parents
    # do.
    comparable = system["id"] in minimum or family in ("rhel", "centos")
    if comparable and 0 < major < minimum[family]:
        yield Problem(f"{report.label} is too old", f"upgrade it: {family} {minimum[family]} or newer is supported")
    if report.probe["others"]["transactional"]:
        yield Problem(
            f"{report.label} has a read-only root with transactional updates",
            "use Leap or Tumbleweed, or install by transactional-update and place binaries in /opt/bin by hand",
        )


@host_check("PREFLIGHT_006", ERROR, "Architecture not supported")
def architecture(report: Report) -> Iterator[Problem]:
    """x86_64, aarch64 and armv7l kernels. There is no k3s for ARMv6; on armv7 wasm does not run today, native programs
    do."""
    machine = report.probe["system"]["machine"]
    if machine not in USERLANDS:
        yield Problem(
            f"kernel architecture {machine} has no packages of k3s or wasm runtimes",
            "take the host out of the inventory",
        )
    elif machine == "armv7l" and report.cluster:
        yield Problem(
            "armv7: agents run, wasm does not (native programs only)",
            "use a 64-bit system where the board can",
            WARNING,
        )


@host_check("PREFLIGHT_007", WARNING, "Kernel and userland differ in architecture")
def userland(report: Report) -> Iterator[Problem]:
    """A 64-bit kernel below 32-bit packages (Raspberry Pi OS): k3s follows the kernel, packages follow the userland."""
    system = report.probe["system"]
    expected = USERLANDS.get(system["machine"])
    if expected and system["userland"] and system["userland"] not in expected:
        yield Problem(
            f"kernel {system['machine']}, packages {system['userland']}: no wasm runtimes from packages",
            "install the 64-bit edition of the system, or accept native programs only",
        )


@host_check("PREFLIGHT_008", ERROR, "Too little memory")
def memory_minimum(report: Report) -> Iterator[Problem]:
    """Memory, less what cgroups around the host withhold, against `preflight_<role>_memory_min_mb`."""
    have = report.probe["memory"]["effective"] // MB
    need = report.settings["memory_min_mb"]
    if have < need:
        yield Problem(
            f"{have} MB of memory, {need} MB is the least for a host of role {report.role}",
            f"give it more memory, another role, or lower preflight_{report.role}_memory_min_mb",
        )


@host_check("PREFLIGHT_009", WARNING, "Memory below what is advised")
def memory_advised(report: Report) -> Iterator[Problem]:
    """A server with all packaged components takes 1.2 to 1.6 GB, without them about 470 MB; an agent about 270 MB."""
    have = report.probe["memory"]["effective"] // MB
    if report.settings["memory_min_mb"] <= have < report.settings["memory_advised_mb"]:
        yield Problem(
            f"{have} MB of memory, {report.settings['memory_advised_mb']} MB is advised for a host of role "
            f"{report.role}",
            "disable packaged components (k3s_disable) and watch for the OOM killer",
        )


@host_check("PREFLIGHT_010", ERROR, "Too little disk space")
def disk_space(report: Report) -> Iterator[Problem]:
    """What k3s, Docker and the root file system need, added up by file system. Once they are installed only
    `preflight_installed_disk_min_mb` must be left."""
    needs: dict[str, tuple[int, list[str]]] = {}
    for part, entry in report.settings["disk_needs"].items():
        path, need = entry["path"], int(entry["mb"])
        if part in report.probe["others"]["installed"]:
            need = min(need, report.settings["disk_installed_mb"])
        device = report.probe["storage"][path]["device"]
        total, paths = needs.get(device, (0, []))
        needs[device] = (total + need, [*paths, path])
    for need, paths in needs.values():
        state = report.probe["storage"][paths[0]]
        have = state["free"] // MB
        if have < need:
            yield Problem(
                f"{have} MB free on {state['mount']}, {need} MB needed for {' and '.join(paths)}",
                f"free space on {state['mount']} (journalctl --vacuum-size=50M, old packages, images) or enlarge it",
            )
        elif 0 <= state["free_inodes"] < report.settings["inodes_min"]:
            yield Problem(
                f"{state['free_inodes']} inodes free on {state['mount']}",
                "remove small files, or make the file system anew",
            )


@host_check("PREFLIGHT_011", WARNING, "Disk nearly full")
def disk_nearly_full(report: Report) -> Iterator[Problem]:
    """The kubelet evicts pods and removes images when a file system is nearly full, however large it is."""
    seen = set()
    for state in report.probe["storage"].values():
        percent = 100 * state["free"] // max(1, state["size"])
        if state["device"] not in seen and percent < report.settings["disk_free_warn_percent"]:
            seen.add(state["device"])
            yield Problem(
                f"{percent} % free on {state['mount']}", "free space before the kubelet does (it evicts at 5 %)"
            )


@host_check("PREFLIGHT_012", ERROR, "File system does not suit the data")
def file_system(report: Report) -> Iterator[Problem]:
    """Images are unpacked by overlayfs, which cannot stand on a network file system, on another overlay or in memory,
    and not on a read-only one. ZFS needs another snapshotter."""
    for path in report.settings["data_paths"]:
        state = report.probe["storage"][path]
        kind = state["type"]
        if state["read_only"]:
            yield Problem(
                f"{path} is on {state['mount']}, mounted read-only", "mount it read-write; check the disk for errors"
            )
        elif kind in NETWORK_FILE_SYSTEMS or kind in STACKED_FILE_SYSTEMS:
            yield Problem(
                f"{path} is on {state['mount']}, a {kind} file system", f"mount an ext4 or xfs file system on {path}"
            )
        elif kind == "zfs":
            yield Problem(f"{path} is on ZFS", "set k3s's snapshotter to native or zfs, or use ext4", WARNING)


@host_check("PREFLIGHT_013", ERROR, "cgroup v1 under a k3s that refuses it")
def cgroup_version(report: Report) -> Iterator[Problem]:
    """From Kubernetes 1.35 on the kubelet does not start on cgroup v1 or hybrid. `skerry_allow_cgroup_v1: true` names
    the risk (the code path is no longer developed and will go); then it is a warning."""
    if not report.cluster or report.probe["cgroup"]["version"] != 1 or k3s_minor(report.settings["k3s_version"]) < 35:
        return
    allowed = report.settings["allow_cgroup_v1"]
    yield Problem(
        f"cgroup v1, which k3s {report.settings['k3s_version']} refuses"
        + (" (allowed by skerry_allow_cgroup_v1)" if allowed else ""),
        "boot with systemd.unified_cgroup_hierarchy=1 or a newer release"
        + ("" if allowed else "; or take the risk with skerry_allow_cgroup_v1: true"),
        WARNING if allowed else ERROR,
    )


@host_check("PREFLIGHT_014", ERROR, "cgroup controllers missing")
def cgroup_controllers(report: Report) -> Iterator[Problem]:
    """The kubelet needs cpu, cpuset, memory and pids. On a Raspberry Pi memory is off until the kernel command line
    says otherwise: host_tuning does that, so with it switched on this is a warning."""
    missing = [name for name in CGROUP_CONTROLLERS if name not in report.probe["cgroup"]["controllers"]]
    if not report.cluster or not missing:
        return
    will_do = (
        missing == ["memory"]
        and "Raspberry Pi" in report.probe["system"]["board"]
        and report.settings["cmdline_managed"]
    )
    yield Problem(
        f"cgroup controllers missing: {', '.join(missing)}",
        "nothing to do: host_tuning sets the kernel command line and reboots once"
        if will_do
        else "add cgroup_enable=memory cgroup_memory=1 to the kernel command line (Raspberry Pi), or use "
        "a stock kernel",
        WARNING if will_do else ERROR,
    )


@host_check("PREFLIGHT_015", ERROR, "Kernel features missing")
def kernel_features(report: Report) -> Iterator[Problem]:
    """What k3s and containers need of the kernel (`preflight_kernel_required`); vxlan only with that flannel
    backend."""
    states = report.probe["kernel"]["states"]
    missing = [name for name in report.settings["kernel_required"] if states.get(name) == "no"]
    if missing:
        yield Problem(f"the kernel lacks {', '.join(missing)}", _kernel_remedy(report))


def _kernel_remedy(report: Report) -> str:
    kernel = report.probe["system"]["kernel"]
    if report.probe["system"]["id"] == "ol":
        return "dnf install kernel-uek-modules-extra, then reboot"
    if report.is_like("rhel", "fedora", "centos"):
        return f"dnf install {EXTRA_MODULES}-{kernel}, then reboot"
    if report.probe["system"]["id"] == "ubuntu" and "raspi" in kernel:
        return "apt-get install linux-modules-extra-raspi, then reboot"
    if report.is_like("ubuntu"):
        return f"apt-get install linux-modules-extra-{kernel}"
    return "use the distribution's own kernel, or one built with these options"


@host_check("PREFLIGHT_016", WARNING, "Kernel features of use missing")
def kernel_features_of_use(report: Report) -> Iterator[Problem]:
    """Features that only some settings use (`preflight_kernel_optional`)."""
    states = report.probe["kernel"]["states"]
    missing = [name for name in report.settings["kernel_optional"] if states.get(name) == "no"]
    if missing:
        yield Problem(f"the kernel lacks {', '.join(missing)}", _kernel_remedy(report))


@host_check("PREFLIGHT_017", ERROR, "systemd is not PID 1")
def init_system(report: Report) -> Iterator[Problem]:
    """Services are systemd units."""
    if report.probe["system"]["init"] != "systemd":
        yield Problem(f"PID 1 is {report.probe['system']['init']}", "boot the host with systemd")


@host_check("PREFLIGHT_018", ERROR, "/dev/kmsg missing")
def kernel_log(report: Report) -> Iterator[Problem]:
    """The kubelet reads the kernel's log; containers as hosts need the device handed in."""
    if report.cluster and not report.probe["others"]["kmsg"]:
        yield Problem("/dev/kmsg is missing", "hand the device in (docker: --device /dev/kmsg; lxc: lxc.mount.entry)")


@host_check("PREFLIGHT_019", ERROR, "Other software in the way")
def other_software(report: Report) -> Iterator[Problem]:
    """Another Kubernetes takes the same ports and interfaces; Docker as a snap cannot run our runtimes; a k3s of
    upstream's install script has its own unit and would be overwritten."""
    others = report.probe["others"]
    for name, what, remedy in (
        ("docker_snap", "Docker is installed as a snap", "snap remove docker"),
        ("microk8s", "MicroK8s is installed", "snap remove microk8s"),
        ("rke2", "RKE2 is installed", "run rke2-uninstall.sh"),
    ):
        if others[name] and (report.cluster or name == "docker_snap"):
            yield Problem(what, f"{remedy}, or take the host out of the inventory")
    if report.cluster and others["kubelet"]:
        yield Problem("a kubelet is running", "kubeadm reset, then stop and remove the kubelet")
    if report.cluster and others["k3s_script"]:
        yield Problem(
            "k3s was installed by upstream's script", "run k3s-uninstall.sh (k3s-agent-uninstall.sh), then this again"
        )


@host_check("PREFLIGHT_020", ERROR, "SELinux without k3s's policy")
def selinux(report: Report) -> Iterator[Problem]:
    """Enforcing SELinux stops k3s's containers unless the package k3s-selinux is there."""
    security = report.probe["security"]
    if report.cluster and security["selinux"] == "enforcing" and not security["k3s_selinux"]:
        yield Problem(
            "SELinux is enforcing and k3s-selinux is not installed",
            "dnf install container-selinux and k3s-selinux (rpm.rancher.io), or set SELinux to permissive",
        )


@host_check("PREFLIGHT_021", ERROR, "AppArmor without its parser")
def apparmor(report: Report) -> Iterator[Problem]:
    """containerd loads a profile for each container by apparmor_parser where AppArmor is on. In a container as host the
    machine's AppArmor shows, so there it is a warning."""
    security = report.probe["security"]
    if report.cluster and security["apparmor"] and not security["apparmor_parser"]:
        package = "apparmor-parser" if report.is_like("suse", "opensuse") else "apparmor"
        severity = WARNING if report.probe["system"]["container"] else ERROR
        yield Problem("AppArmor is on and apparmor_parser is missing", f"install the package {package}", severity)


@host_check("PREFLIGHT_022", WARNING, "Few kernel keyrings")
def keyrings(report: Report) -> Iterator[Problem]:
    """Every container uses a keyring of root's; k3s's own check wants kernel.keys.root_maxkeys above 10000."""
    have = report.probe["others"]["root_maxkeys"]
    if report.cluster and 0 < have <= 10000 and not report.settings["sysctl_managed"]:
        yield Problem(f"kernel.keys.root_maxkeys is {have}", "raise it to 1000000, or switch host_tuning's sysctls on")


@host_check("PREFLIGHT_023", WARNING, "Processor lacks SSE4")
def processor(report: Report) -> Iterator[Problem]:
    """Wasm engines use SSE4.1 for SIMD; without it they are slow or refuse such modules."""
    if (
        report.probe["system"]["machine"] == "x86_64"
        and report.probe["cpu"]["flags"]
        and "sse4_1" not in report.probe["cpu"]["flags"]
    ):
        yield Problem("the processor lacks SSE4.1", "set the virtual machine's processor to x86-64-v2 or host")


@host_check("PREFLIGHT_024", WARNING, "One core for a server")
def cores(report: Report) -> Iterator[Problem]:
    """Two cores are upstream's least for a server."""
    have = report.probe["cpu"]["cores"]
    if report.role == "server" and have < report.settings["server_cores_min"]:
        yield Problem(f"{have} core", f"give the server {report.settings['server_cores_min']} cores")
