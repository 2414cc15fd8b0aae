#!/usr/bin/python
"""Write one role's section of the host's fact file (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fact
short_description: Write one section of the host's Skerry fact file
description:
  - The fact file is what the Python half of Skerry learns about a host. It is JSON, one key per role.
  - Replaces one section and keeps the others; written beside and renamed.
  - Ansible's own fact collection shows it as C(ansible_facts['ansible_local']['skerry']).
options:
  section:
    description: The role's name. Required unless I(state=read).
    type: str
    default: ""
  data:
    description: The section's content.
    type: dict
    default: {}
  state:
    description: C(absent) removes the section, C(read) only returns the file's content.
    type: str
    choices: [present, absent, read]
    default: present
  path:
    description: The fact file.
    type: path
    default: /etc/ansible/facts.d/skerry.fact
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
"""

EXAMPLES = r"""
- name: Record what is on this host
  skerry.edge.fact:
    section: docker
    data:
      version: "{{ __docker_version }}"
"""

RETURN = r"""
facts:
  description: The whole content of the fact file, after the change.
  returned: always
  type: dict
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.files import replace_file


def read(module, path):
    """(content, text) of the fact file; one that is no JSON object counts as empty, with a warning."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}, ""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        module.warn(f"FACT_001 {path} was no JSON object and is written anew | remedy: run site.yml for all roles")
        return {}, text
    return content, text


def write(module, path, text):
    """Replace the fact file in one step."""
    folder = os.path.dirname(path)
    try:
        replace_file(path, text, 0o644)
    except OSError as error:
        cause = f"cannot write {path}: {error.strerror or error}"
        remedy = f"check rights and free space of {folder} (df -h), then run again"
        module.fail_json(msg=f"FACT_002 {cause} | remedy: {remedy}", code="FACT_002", cause=cause, remedy=remedy)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "section": {"type": "str", "default": ""},
            "data": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent", "read"], "default": "present"},
            "path": {"type": "path", "default": "/etc/ansible/facts.d/skerry.fact"},
        },
        required_if=[("state", "present", ("section",)), ("state", "absent", ("section",))],
        supports_check_mode=True,
    )
    path, section, state = module.params["path"], module.params["section"], module.params["state"]
    facts, before = read(module, path)
    if state == "read":
        module.exit_json(changed=False, facts=facts)
    if not section:
        module.fail_json(msg="FACT_003 no section is named | remedy: give the role's name as section")
    if state == "absent":
        facts.pop(section, None)
    else:
        facts[section] = module.params["data"]
    after = json.dumps(facts, indent=2, sort_keys=True) + "\n" if facts or state == "present" or before else ""
    changed = after != before
    if changed and not module.check_mode:
        write(module, path, after)
    diff = {"before_header": path, "after_header": path, "before": before, "after": after}
    module.exit_json(changed=changed, facts=facts, diff=diff)


if __name__ == "__main__":
    main()
