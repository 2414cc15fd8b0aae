#!/usr/bin/python
"""See whether this host can mount NFS (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_client
short_description: See whether this host can mount NFS
description:
  - Looks for the mount command and for NFS in the running kernel, built in or as a module. Changes nothing.
options: {}
extends_documentation_fragment:
  - skerry.edge.attributes.looks
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: See whether this host can mount NFS
  skerry.edge.nfs_client:
  register: client
"""

RETURN = r"""
able:
  description: Whether NFS can be mounted.
  returned: success
  type: bool
reason:
  description: Why not; empty when it can.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.host import Host
from ansible_collections.skerry.edge.plugins.module_utils.nfs_client import obstacle


def main():
    """Entry point."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    reason = obstacle(Host())
    module.exit_json(changed=False, able=not reason, reason=reason)


if __name__ == "__main__":
    main()
