#!/usr/bin/python
"""Tune a host, or put back what was tuned (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tuning
short_description: Tune a host for many containers, or undo it
description:
  - Raises kernel settings by the host's memory (never lowers one), loads kernel modules, sets limits, bounds the
    journal, looks after swap, time service and kernel command line, and opens ports in an active nftables firewall.
  - What was there before is kept in C(/etc/skerry/host_tuning.json), so that I(state=absent) can put it back.
  - For ufw and firewalld it returns the rules that are missing or stale; the role changes them with their own modules.
options:
  state:
    description:
      - Tuned, or put back.
      - C(opened) looks after I(openings) only, in the firewall that C(present) found active.
      - C(noted) only records which of I(packages) and I(services) are about to be installed or enabled, so that they
        can be taken back.
    type: str
    choices: [present, opened, absent, noted]
    default: present
  sysctl:
    description: Whether to raise kernel settings.
    type: bool
    default: true
  sysctl_extra:
    description: Keys and values of the site, set exactly.
    type: dict
    default: {}
  sysctl_skip:
    description: Keys that are left alone.
    type: list
    elements: str
    default: []
  modules:
    description: Kernel modules to load; empty leaves them alone.
    type: list
    elements: str
    default: []
  limits:
    description: Open files, C(soft) and C(hard); empty leaves them alone.
    type: dict
    default: {}
  journald:
    description: C(use_mb), C(storage) and C(settings); empty leaves journald alone.
    type: dict
    default: {}
  time:
    description: C(servers); without it the time service is not looked at.
    type: dict
    default: {}
  swap:
    description: C(policy) and C(swappiness); empty leaves swap alone.
    type: dict
    default: {}
  cmdline:
    description: C(file) and C(arguments); empty leaves the kernel command line alone.
    type: dict
    default: {}
  firewall:
    description: Whether to look for an active firewall.
    type: bool
    default: true
  openings:
    description: What to let in, each with C(sources), C(proto) and C(ports).
    type: list
    elements: dict
    default: []
  packages:
    description: Packages that the role is about to install.
    type: list
    elements: str
    default: []
  services:
    description: Services that the role is about to enable.
    type: list
    elements: str
    default: []
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
"""

EXAMPLES = r"""
- name: Tune the host
  skerry.edge.tuning:
    modules: [overlay, br_netfilter]
    limits: {soft: 65536, hard: 1048576}
  become: true
"""

RETURN = r"""
changes:
  description: One line for each change.
  type: list
  elements: str
  returned: always
notes:
  description: What could not be done or needs attention.
  type: list
  elements: str
  returned: always
facts:
  description: What is in force, for the host's fact file.
  type: dict
  returned: always
time:
  description: The time service (empty when none is installed), and whether it runs.
  type: dict
  returned: when time is looked after
firewall:
  description: The active firewall and the rules that its own module has to add and remove.
  type: dict
  returned: always
container:
  description: Kind of container that the host is, empty on a machine of its own.
  type: str
  returned: always
packages:
  description: Packages to remove, which were not there before.
  type: list
  elements: str
  returned: with I(state=absent)
services:
  description: Services to stop and disable, which were not enabled before.
  type: list
  elements: str
  returned: with I(state=absent)
recorded:
  description: Whether the fact file has just these facts already.
  type: bool
  returned: always
reboot:
  description: Whether the kernel command line needs a reboot to be in force.
  type: bool
  returned: always
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils import tuning_firewall as firewalls
from ansible_collections.skerry.edge.plugins.module_utils import tuning_parts as parts
from ansible_collections.skerry.edge.plugins.module_utils import tuning_sysctl as sysctls
from ansible_collections.skerry.edge.plugins.module_utils.host import Host, memory
from ansible_collections.skerry.edge.plugins.module_utils.tuning_state import Context, TuningError

SPEC = {
    "state": {"type": "str", "choices": ["present", "opened", "absent", "noted"], "default": "present"},
    "sysctl": {"type": "bool", "default": True},
    "sysctl_extra": {"type": "dict", "default": {}},
    "sysctl_skip": {"type": "list", "elements": "str", "default": []},
    "modules": {"type": "list", "elements": "str", "default": []},
    "limits": {"type": "dict", "default": {}},
    "journald": {"type": "dict", "default": {}},
    "time": {"type": "dict", "default": {}},
    "swap": {"type": "dict", "default": {}},
    "cmdline": {"type": "dict", "default": {}},
    "firewall": {"type": "bool", "default": True},
    "openings": {"type": "list", "elements": "dict", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
    "services": {"type": "list", "elements": "str", "default": []},
}
NO_FIREWALL = {"kind": "", "add": [], "remove": []}


def tune(context, wish):
    """Apply every part that is wished for; gives what to return beside the context's own lists."""
    memory_mb = memory(context.host)["effective"] >> 20
    if wish["modules"]:
        parts.apply_modules(context, wish["modules"])
    if wish["sysctl"]:
        targets = sysctls.targets(memory_mb, sysctls.wide_kernel(context.host))
        wanted = {key: target for key, target in targets.items() if key not in wish["sysctl_skip"]}
        exact = {key: " ".join(str(value).split()) for key, value in wish["sysctl_extra"].items()}
        sysctls.apply(context, {key: target for key, target in wanted.items() if key not in exact}, exact)
        sysctls.apply_hashsize(context, sysctls.conntrack_entries(memory_mb))
    if wish["limits"]:
        parts.apply_limits(context, int(wish["limits"]["soft"]), int(wish["limits"]["hard"]))
    if wish["journald"]:
        use_mb = (
            int(wish["journald"]["use_mb"]) or {"small": 50, "normal": 100, "large": 200}[sysctls.size_of(memory_mb)]
        )
        parts.apply_journald(context, use_mb, wish["journald"]["storage"], wish["journald"]["settings"])
    if wish["swap"]:
        swappiness = wish["swap"]["swappiness"]
        parts.apply_swap(context, wish["swap"]["policy"], None if swappiness in (None, "") else int(swappiness))
    time = parts.look_at_time(context, wish["time"]["servers"]) if wish["time"] else {}
    kind = firewalls.look(context)["kind"] if wish["firewall"] else ""
    cmdline = wish["cmdline"]
    reboot = bool(cmdline) and parts.apply_cmdline(context, cmdline["file"], cmdline["arguments"])
    parts.finish(context)
    facts = {
        "size": sysctls.size_of(memory_mb),
        "memory_mb": memory_mb,
        "sysctl": dict(sorted(context.journal.get("sysctl", {}).items())),
        "read_only": sorted(context.read_only),
        "firewall": kind,
        "time": time.get("service", ""),
    }
    return {"time": time, "firewall": {**NO_FIREWALL, "kind": kind}, "reboot": reboot, "facts": facts}


def open_ports(context, wish):
    """Open the ports in the active firewall, or tell what its own module has to do."""
    firewall = firewalls.plan(context, firewalls.look(context), wish["openings"])
    parts.finish(context)
    return {"time": {}, "firewall": firewall, "reboot": False, "facts": {}}


def untune(context, wish):
    """Put everything back that the journal knows of."""
    firewall = firewalls.undo(context, firewalls.look(context))
    sysctls.undo(context)
    parts.undo_swap(context)
    reboot = parts.undo_cmdline(context)
    parts.undo_files(context)
    parts.finish(context)
    taken_back = parts.take_back(context)
    return {"time": {}, "firewall": firewall, "reboot": reboot, "facts": {}, **taken_back}


def note(context, wish):
    """Record what is about to be installed and enabled; no change of the host itself."""
    parts.note(context, wish["packages"], wish["services"])
    return {"time": {}, "firewall": NO_FIREWALL, "reboot": False, "facts": {}}


def recorded(host):
    """What the fact file holds of this role; nothing where it is absent or damaged."""
    try:
        return json.loads(host.read("/etc/ansible/facts.d/skerry.fact") or "{}").get("host_tuning", {})
    except (ValueError, AttributeError):
        return None


def main():
    """Run on the host."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    context = None
    try:
        context = Context(Host(), module.check_mode)
        work = {"present": tune, "opened": open_ports, "absent": untune, "noted": note}[module.params["state"]]
        more = work(context, module.params)
        context.save()
        if module.params["state"] == "absent" and not module.check_mode:
            context.drop_journal()
    except TuningError as error:
        if context is not None:
            context.save()  # what was done before the failure can be undone
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(context.changes),
        changes=context.changes,
        notes=context.notes,
        absent=context.absent,
        container=context.host.in_container(),
        diff=context.diffs if module._diff else [],
        recorded=recorded(context.host) == more["facts"],
        **more,
    )


if __name__ == "__main__":
    main()
