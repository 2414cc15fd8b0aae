#!/usr/bin/python
"""Tell whether network policies are enforced on this host (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: policy_probe
short_description: Tell whether network policies are enforced on this host
description:
  - The API takes every NetworkPolicy, whether or not anything enforces it. k3s leaves its network policy controller
    out, with no more than a line in its log, where the host has no C(ipset) and the build of k3s brings none along.
  - Looks for the controller's chain in the packet filter. A host whose k3s has just started is given half a minute.
  - Changes nothing.
options:
  require:
    description: Fail when policies are not enforced; otherwise there is a warning.
    type: bool
    default: false
extends_documentation_fragment:
  - skerry.edge.attributes.looks
attributes:
  check_mode:
    description: Changes nothing anyway; warns where C(require) would fail.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: See that closed networks are closed
  skerry.edge.policy_probe:
    require: true
"""

RETURN = r"""
enforced:
  description: Whether policies are enforced; null when it cannot be told, as on a host where k3s does not run.
  returned: success
  type: bool
"""

import time

from ansible.module_utils.basic import AnsibleModule

CHAIN = "KUBE-ROUTER-FORWARD"
#: Seconds after its start in which k3s may still be about to make its chains.
SETTLING = 30
MESSAGE = (
    "POLICY_002 network policies are not enforced on this host: k3s runs without its network policy controller "
    "| remedy: install the package ipset there and restart k3s, or take disable-network-policy out of k3s_server_config"
)


def enforced(run_command):
    """True or False, or None when there is no packet filter to ask."""
    code, _out, said = run_command(["iptables", "-w", "5", "-S", CHAIN])
    if code == 0:
        return True
    return False if "No chain" in said or "does not exist" in said else None


def age(run_command):
    """Seconds since k3s started on this host, None when it does not run."""
    for unit in ("k3s", "k3s-agent"):
        wanted = "--property=ActiveState,ActiveEnterTimestampMonotonic"
        code, out, _said = run_command(["systemctl", "show", unit, wanted])
        state = dict(line.split("=", 1) for line in out.splitlines() if "=" in line) if code == 0 else {}
        if state.get("ActiveState") == "active":
            return time.monotonic() - int(state.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return None


def probe(run_command, sleep=time.sleep):
    """Whether policies are enforced here, once k3s has had its time."""
    while True:
        running = age(run_command)
        found = None if running is None else enforced(run_command)
        if found is not False or running > SETTLING:
            return found
        sleep(1)


def main():
    """Entry point."""
    module = AnsibleModule(argument_spec={"require": {"type": "bool", "default": False}}, supports_check_mode=True)
    found = probe(module.run_command)
    if found is False:
        if module.params["require"] and not module.check_mode:
            module.fail_json(msg=MESSAGE, code="POLICY_002")
        module.warn(MESSAGE)
    module.exit_json(changed=False, enforced=found)


if __name__ == "__main__":
    main()
