#!/usr/bin/python
"""Install distribution packages, some of which may not exist (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install or remove distribution packages with apt, dnf or zypper
description:
  - Looks at what is installed in 20 ms; the standard modules load the package manager's cache.
  - Works in check mode on a fresh host, without the package manager's Python bindings.
  - Package lists are fetched only when something has to be installed and the lists are old, or do not know a name.
  - Names in I(optional) are installed where a package source has them, and returned as unavailable elsewhere.
options:
  names:
    description: Packages that must be there.
    type: list
    elements: str
    default: []
  optional:
    description: Packages that are wanted where they exist.
    type: list
    elements: str
    default: []
  remove_first:
    description: Packages that stand in the way of the wanted ones; removed when something is to be installed.
    type: list
    elements: str
    default: []
  intact:
    description:
      - Also install those again whose files are missing or differ from what the package manager noted (documentation
        and configuration aside). Costs reading them.
    type: bool
    default: false
  state:
    description: C(absent) removes the packages of I(names) and I(optional) that are there.
    type: str
    choices: [present, absent]
    default: present
  lists_age:
    description: Seconds after which apt's package lists count as old.
    type: int
    default: 86400
  lock_timeout:
    description: Seconds to wait for another package manager that is at work.
    type: int
    default: 300
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
"""

EXAMPLES = r"""
- name: Install crun, and WasmEdge where there is one
  skerry.edge.packages:
    names: [crun]
    optional: [wasmedge, libwasmedge0]
"""

RETURN = r"""
versions:
  description: Versions of those that are installed afterwards, by name.
  returned: success
  type: dict
damaged:
  description: Packages that were damaged.
  returned: success
  type: list
unavailable:
  description: Optional packages that no package source of the host has.
  returned: success
  type: list
"""

import fcntl
import glob
import os
import re
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.coded import CodedError

ENVIRONMENT = {
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "a",
    "APT_LISTCHANGES_FRONTEND": "none",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class PackageError(CodedError):
    """What is wrong here, and what to do."""


def run(command):
    """(exit code, output, errors) of a command."""
    environment = {**os.environ, **ENVIRONMENT, "PATH": PATH}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout, done.stderr


def must(code, cause, remedy, command):
    """Run a command that has to succeed."""
    status, out, err = run(command)
    if status != 0:
        lines = [line for line in (err + "\n" + out).splitlines() if line.strip() and not line.startswith("W:")]
        errors = [line for line in lines if line.startswith(("E:", "Error", "error"))] or lines[-5:]
        raise PackageError(code, f"{cause}: {' / '.join(errors)[:800]}", remedy)
    return out


def matters(text):
    """Whether a verification (the same form of dpkg and rpm) tells of a file that is missing or has other content.

    Lines are flags (position 3 a 5 when the content differs) or `missing`, a letter for configuration (c) or
    documentation (d) files, the path. Images often leave documentation out.
    """
    for line in text.splitlines():
        found = re.match(r"^(missing|[.?SM5DLUGTPC]{8,9})\s+(?:([cdglr])\s+)?(/\S.*?)(?: \(.*\))?$", line)
        if not found or found.group(2) or re.match(r"^/usr/share/(doc|man|info|locale|lintian)(/|$)", found.group(3)):
            continue
        if found.group(1) == "missing" or found.group(1)[2] == "5":
            return True
    return False


class Apt:
    """Debian, Ubuntu, Raspberry Pi OS."""

    def __init__(self, params):
        self.params = params
        self.options = ["-o", f"DPkg::Lock::Timeout={params['lock_timeout']}", "-o", "Acquire::Retries=2"]

    def versions(self, names):
        """Versions of installed packages by name."""
        command = ["dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Abbrev} ${Version}\n", *names]
        _, out, _ = run(command)
        rows = [line.split() for line in out.splitlines()]
        return {row[0].split(":")[0]: row[2] for row in rows if len(row) == 3 and row[1][1:2] == "i"}

    def available(self, names):
        """Those that a package source has."""
        _, out, _ = run(["apt-cache", "policy", *names])
        return set(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (?!\(none\))", out, re.MULTILINE))

    def lists_are_old(self):
        """Whether the package lists are older than wanted, or older than the sources they come from."""
        lists = set(glob.glob("/var/lib/apt/lists/*")) - {f"/var/lib/apt/lists/{name}" for name in ("lock", "partial")}
        if not lists:
            return True
        updated = os.path.getmtime("/var/lib/apt/lists")
        sources = [*glob.glob("/etc/apt/sources.list.d/*"), "/etc/apt/sources.list.d", "/etc/apt/sources.list"]
        newest = max((os.path.getmtime(path) for path in sources if os.path.exists(path)), default=0)
        return updated < newest or time.time() - updated > self.params["lists_age"]

    def update(self):
        """Fetch the package lists."""
        remedy = "check DNS, the proxy and /etc/apt/sources.list on the host with `apt-get update`"
        must("PACKAGES_002", "apt-get update failed", remedy, ["apt-get", *self.options, "update", "-q"])
        os.utime("/var/lib/apt/lists")  # apt leaves the time alone when every list was current

    def wait_for_lock(self):
        """Wait until no other package manager holds dpkg's locks: dpkg itself, unlike apt-get, gives up at once."""
        deadline = time.monotonic() + self.params["lock_timeout"]
        for path in ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"):
            while time.monotonic() < deadline:
                with open(path, "a", encoding="ascii") as stream:
                    try:
                        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(1)

    def install(self, names):
        """Install packages, keeping configuration files that somebody changed."""
        keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
        command = ["apt-get", *self.options, *keep, "install", "-q", "-y", "--no-install-recommends", *names]
        # A run that was killed may have left packages half configured, or its apt-get still at work.
        self.wait_for_lock()
        must("PACKAGES_003", "dpkg --configure -a failed", "repair the package database", ["dpkg", "--configure", "-a"])
        must("PACKAGES_003", f"apt-get install {' '.join(names)} failed", "run it by hand on the host", command)

    def damaged(self, names):
        """Those of the installed packages that lost or changed a file which matters."""
        if not names or not matters(run(["dpkg", "--verify", *names])[1]):
            return []
        return [name for name in names if matters(run(["dpkg", "--verify", name])[1])]

    def reinstall(self, names):
        """Install packages again."""
        command = ["apt-get", *self.options, "install", "-q", "-y", "--reinstall", *names]
        self.wait_for_lock()
        must("PACKAGES_003", f"apt-get install --reinstall {' '.join(names)} failed", "run it by hand", command)

    def remove(self, names):
        """Remove packages and what only they needed."""
        command = ["apt-get", *self.options, "remove", "-q", "-y", "--autoremove", *names]
        must("PACKAGES_003", f"apt-get remove {' '.join(names)} failed", "run it by hand on the host", command)


class Rpm:
    """What dnf and zypper share."""

    def __init__(self, params):
        self.params = params

    def versions(self, names):
        """Versions of installed packages by name."""
        _, out, _ = run(["rpm", "-q", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\n", *names])
        rows = [line.split() for line in out.splitlines()]
        return {row[0]: row[1] for row in rows if len(row) == 2}

    def lists_are_old(self):
        """dnf and zypper look after their lists themselves."""
        return False


    def damaged(self, names):
        """Those of the installed packages that lost or changed a file which matters."""
        if not names or not matters(run(["rpm", "--verify", *names])[1]):
            return []
        return [name for name in names if matters(run(["rpm", "--verify", name])[1])]


class Dnf(Rpm):
    """EL 9 and 10, Fedora."""

    def available(self, names):
        """Those that a package source has."""
        _, out, _ = run(["dnf", "-q", "repoquery", "--available", "--qf", "%{name}\n", *names])
        return set(out.split())

    def update(self):
        """Fetch the package lists."""
        remedy = "check DNS, the proxy and /etc/yum.repos.d on the host with `dnf makecache`"
        must("PACKAGES_002", "dnf makecache failed", remedy, ["dnf", "-q", "makecache", "--refresh"])

    def install(self, names):
        """Install packages."""
        command = ["dnf", "-q", "-y", "--setopt=install_weak_deps=False", "install", *names]
        must("PACKAGES_003", f"dnf install {' '.join(names)} failed", "run it by hand on the host", command)

    def reinstall(self, names):
        """Install packages again."""
        command = ["dnf", "-q", "-y", "reinstall", *names]
        must("PACKAGES_003", f"dnf reinstall {' '.join(names)} failed", "run it by hand on the host", command)

    def remove(self, names):
        """Remove packages."""
        must("PACKAGES_003", "dnf remove failed", "run it by hand on the host", ["dnf", "-q", "-y", "remove", *names])


class Zypper(Rpm):
    """openSUSE; on MicroOS (read-only root) through transactional-update."""

    def available(self, names):
        """Those that a package source has."""
        _, out, _ = run(["zypper", "-n", "-q", "--no-refresh", "search", "--match-exact", "-t", "package", *names])
        cells = [[cell.strip() for cell in line.split("|")] for line in out.splitlines() if "|" in line]
        return {row[1] for row in cells if len(row) > 1}

    def update(self):
        """Fetch the package lists."""
        remedy = "check DNS, the proxy and `zypper repos` on the host"
        must("PACKAGES_002", "zypper refresh failed", remedy, ["zypper", "-n", "-q", "refresh"])

    def install(self, names):
        """Install packages."""
        zypper = ["zypper", "-n", "-q"]
        if shutil.which("transactional-update", path=PATH) and not os.access("/usr/bin", os.W_OK):
            zypper = ["transactional-update", "-n", "--continue", "pkg"]
        command = [*zypper, "install", "--no-recommends", *names]
        must("PACKAGES_003", f"{zypper[0]} install {' '.join(names)} failed", "run it by hand on the host", command)

    def reinstall(self, names):
        """Install packages again."""
        command = ["zypper", "-n", "-q", "install", "--force", *names]
        must("PACKAGES_003", f"zypper install --force {' '.join(names)} failed", "run it by hand on the host", command)

    def remove(self, names):
        """Remove packages."""
        command = ["zypper", "-n", "-q", "remove", "--clean-deps", *names]
        must("PACKAGES_003", "zypper remove failed", "run it by hand on the host", command)


def manager_of(params):
    """The host's package manager."""
    for command, kind in (("apt-get", Apt), ("dnf", Dnf), ("zypper", Zypper)):
        if shutil.which(command, path=PATH):
            return kind(params)
    cause = "this host has none of apt, dnf, zypper"
    raise PackageError("PACKAGES_001", cause, "use a distribution of docs/support.md")


def choose(manager, names, optional, check_mode):
    """(what to install, optional ones that do not exist) of packages that are not installed."""
    if not check_mode and manager.lists_are_old():
        manager.update()
    known = manager.available(names + optional)
    if not check_mode and not set(names) <= known:
        manager.update()
        known = manager.available(names + optional)
    lost = sorted(set(names) - known)
    if lost and not check_mode:
        raise PackageError(
            "PACKAGES_004",
            f"no package source of the host has {', '.join(lost)}",
            "check the host's package sources, or the variable that chooses another source",
        )
    return names + [name for name in optional if name in known], [name for name in optional if name not in known]


def present(manager, params, check_mode):
    """Install what is missing; (before, wanted to add, to remove, unavailable, damaged)."""
    wanted = params["names"] + params["optional"]
    before = manager.versions(wanted + params["remove_first"]) if wanted else {}
    missing = [name for name in params["names"] if name not in before]
    optional = [name for name in params["optional"] if name not in before]
    damaged = manager.damaged(sorted(set(wanted) & set(before))) if params["intact"] else []
    if damaged and not check_mode:
        manager.reinstall(damaged)
    if not missing and not optional:
        return before, [], [], [], damaged
    adding, unavailable = choose(manager, missing, optional, check_mode)
    removing = [name for name in params["remove_first"] if name in before] if adding else []
    if not check_mode:
        if removing:
            manager.remove(removing)
        if adding:
            manager.install(adding)
    return before, adding, removing, unavailable, damaged


def absent(manager, params, check_mode):
    """Remove what is there."""
    before = manager.versions(params["names"] + params["optional"])
    if before and not check_mode:
        manager.remove(sorted(before))
    return before, [], sorted(before), [], []


def main():
    """Run the module."""
    strings = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "names": strings,
            "optional": strings,
            "remove_first": strings,
            "intact": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "lists_age": {"type": "int", "default": 86400},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    act = present if module.params["state"] == "present" else absent
    try:
        manager = manager_of(module.params)
        before, adding, removing, unavailable, damaged = act(manager, module.params, module.check_mode)
    except PackageError as error:
        module.fail_json(**error.as_result())
    changed = bool(adding or removing or damaged)
    versions = before
    if changed and not module.check_mode:
        versions = manager.versions(module.params["names"] + module.params["optional"])
    diff = {
        "before_header": "packages",
        "after_header": "packages",
        "before": "".join(f"{name}\n" for name in removing),
        "after": "".join(f"{name} {versions.get(name, '')}\n" for name in adding + damaged),
    }
    module.exit_json(changed=changed, versions=versions, unavailable=unavailable, damaged=damaged, diff=diff)


if __name__ == "__main__":
    main()
