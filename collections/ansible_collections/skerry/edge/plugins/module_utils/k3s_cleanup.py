"""Undoing what k3s did to a host: processes, mounts, interfaces, packet filter, control groups.

Only k3s's own is touched: nothing is flushed, nothing remote is descended into. Runs on hosts with Python 3.8, so it
keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import errno
import glob
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import time

#: What marks a chain, and a rule in somebody else's chain, as Kubernetes', CNI's or flannel's.
OUR_CHAIN = re.compile(r"^(?:KUBE-|CNI-|FLANNEL-)")
OUR_RULE = re.compile(r"(?:\bKUBE-|\bCNI-|\bFLANNEL-|flanneld|kube-router)")
OUR_INTERFACES = ("cni0", "flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6", "kube-ipvs0")
MOUNT_ROOTS = ("/run/k3s", "/var/lib/kubelet", "/run/netns/cni-", "/var/run/netns/cni-")
SOCKET = "/run/k3s/containerd/containerd.sock"
BUNDLED = "/var/lib/rancher/k3s/data/current/bin/aux"


def run(*command, text=None, timeout=60):
    """(return code, output); 124 when it took too long, 127 when there is no such command."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, ""
    except OSError:
        return 127, ""
    return done.returncode, done.stdout


# -- processes -------------------------------------------------------------------------------------------------------


def processes(proc="/proc"):
    """{pid: (parent's pid, command line)} of all processes."""
    found = {}
    for path in glob.glob(proc + "/[0-9]*"):
        try:
            with open(path + "/stat", encoding="utf-8", errors="replace") as stream:
                parent = int(stream.read().rpartition(")")[2].split()[1])
            with open(path + "/cmdline", encoding="utf-8", errors="replace") as stream:
                found[int(os.path.basename(path))] = (parent, stream.read().replace("\0", " "))
        except (OSError, ValueError, IndexError):  # it ended in this moment
            continue
    return found


def pods_and_shims(table):
    """Pids of k3s's shims and of all that runs below them; other containerd's shims have another socket."""
    wanted = {pid for pid, (_parent, command) in table.items() if "containerd-shim" in command and SOCKET in command}
    grown = True
    while grown:
        children = {pid for pid, (parent, _command) in table.items() if parent in wanted} - wanted
        wanted |= children
        grown = bool(children)
    return wanted - {1, os.getpid()}


def kill_all(patience=10):
    """Kill shims and pods; how many there were."""
    count = 0
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        pids = pods_and_shims(processes())
        if not pids:
            break
        count = max(count, len(pids))
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.2)
    return count


# -- mounts ----------------------------------------------------------------------------------------------------------


def mounts_below(roots, mountinfo="/proc/self/mountinfo"):
    """[(mount point, type)] at or below the roots, the deepest first."""
    found = []
    with open(mountinfo, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            left, _dash, right = line.partition(" - ")
            point = left.split()[4].encode().decode("unicode_escape")
            if any(point == root or point.startswith(root if root.endswith("-") else root + "/") for root in roots):
                found.append((point, right.split()[0]))
    return sorted(set(found), key=lambda item: item[0].count("/"), reverse=True)


def unmount(roots):
    """Unmount everything below the roots; returns (how many, mount points that remain).

    A network file system whose server is gone would block for ever: it is detached by force, and never listed.
    """
    count = 0
    for point, kind in mounts_below(roots):
        if kind.startswith("nfs") or kind in ("cifs", "smb3", "ceph", "fuse.glusterfs"):
            code, _out = run("umount", "--force", "--lazy", point, timeout=20)
        else:
            code, _out = run("umount", point, timeout=20)
            if code:
                code, _out = run("umount", "--lazy", point, timeout=20)
        count += code == 0
    return count, [point for point, _kind in mounts_below(roots)]


def remove_tree(path):
    """Remove a file or a tree without crossing into another file system; whether there was one.

    Raises OSError when a mount point is in the way.
    """
    if not os.path.lexists(path):
        return False
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return True
    device = os.lstat(path).st_dev
    for folder, names, _files in os.walk(path):
        for name in names:
            below = os.path.join(folder, name)
            if not os.path.islink(below) and os.lstat(below).st_dev != device:
                raise OSError(f"{below} is still mounted")
    shutil.rmtree(path)
    return True


# -- network ---------------------------------------------------------------------------------------------------------


def interfaces(sys_net="/sys/class/net"):
    """Interfaces of k3s's network: its own, and the pods' ends on its bridge."""
    own = [name for name in OUR_INTERFACES if os.path.lexists(os.path.join(sys_net, name))]
    members = [os.path.basename(path) for path in glob.glob(sys_net + "/cni0/brif/*")]
    return members + own


def pod_routes(cidrs, listing):
    """Routes into the pods' networks that flannel's host-gw left, as arguments of ``ip route del``."""

    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs if cidr]
    found = []
    for line in listing.splitlines():
        words = line.split()
        if len(words) < 3 or words[1] != "via":
            continue
        try:
            target = ipaddress.ip_network(words[0], strict=False)
        except ValueError:  # "default", "unreachable"
            continue
        if any(target.version == network.version and target.subnet_of(network) for network in networks):
            found.append(words[:3])
    return found


def filter_commands(dump):
    """What ``iptables-restore --noflush`` needs to take away our chains and rules, '' when there are none.

    ``dump`` is the output of iptables-save. Rules of ours in others' chains are deleted one by one, our chains
    emptied and removed; whatever else is there stays, with its counters.
    """
    out = []
    for table in re.split(r"(?m)^(?=\*)", dump):
        lines = table.splitlines()
        if not lines or not lines[0].startswith("*"):
            continue
        chains = [line[1:].split()[0] for line in lines if line.startswith(":")]
        ours = [chain for chain in chains if OUR_CHAIN.match(chain)]
        rules = [line for line in lines if line.startswith("-A ") and line.split()[1] not in ours]
        deletions = ["-D " + line[3:] for line in rules if OUR_RULE.search(line)]
        if ours or deletions:
            out += [
                lines[0],
                *deletions,
                *("-F " + chain for chain in ours),
                *("-X " + chain for chain in ours),
                "COMMIT",
            ]
    return "\n".join(out) + "\n" if out else ""


def filter_tools():
    """[(save, restore)] of every packet filter front end of the host, and of the one that k3s brings."""
    tools, seen = [], set()
    path = "/usr/sbin:/sbin:/usr/bin:/bin:" + BUNDLED
    for family in ("iptables", "ip6tables"):
        for variant in ("", "-nft", "-legacy"):
            save = shutil.which(family + variant + "-save", path=path)
            restore = shutil.which(family + variant + "-restore", path=path)
            real = save and restore and (os.path.realpath(save), os.path.basename(save) if variant else family)
            if real and real not in seen:
                seen.add(real)
                tools.append((save, restore))
    return tools


def clean_filter(check=False):
    """Take our chains and rules out of every packet filter; how many lines that took (would take)."""
    count = 0
    for save, restore in filter_tools():
        code, dump = run(save)
        commands = filter_commands(dump) if code == 0 else ""
        if not commands:
            continue
        count += len(commands.splitlines())
        if not check:
            run(restore, "--noflush", text=commands)
    return count


def clean_sets(check=False):
    """Destroy the ipsets of the network policy controller; how many."""
    _code, listing = run("ipset", "list", "-name")
    names = [name for name in listing.split() if name.startswith(("KUBE-", "inet6:KUBE-"))]
    for name in names if not check else []:
        run("ipset", "destroy", name)
    return len(names)


def other_containerd(table):
    """Whether a containerd that is not k3s's runs on the host."""
    return any(
        re.search(r"(?:^|/)(?:containerd|dockerd)\s*(?:\s|$)", command) and "/rancher/k3s/" not in command
        for _parent, command in table.values()
    )


def nobody_listens(path):
    """Whether a socket was left behind by a process that is gone."""
    if not os.path.exists(path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def clean_cgroups(base="/sys/fs/cgroup"):
    """Remove the slices and the empty control groups of pods; directories go from the leaves up."""
    run("systemctl", "stop", "kubepods.slice")
    for top in [*glob.glob(base + "/kubepods*"), *glob.glob(base + "/*/kubepods*"), *glob.glob(base + "/*/k3s")]:
        for folder, _names, _files in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:  # a process is left in it, or it went meanwhile
                continue
