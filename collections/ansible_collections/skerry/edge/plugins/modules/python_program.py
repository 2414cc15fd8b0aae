#!/usr/bin/python
"""Place a Python package and its command on a host (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_program
short_description: Place a Python package and its command
description:
  - Writes the modules of a package of the controller, compiled for the host's Python, and a command that starts it.
  - The whole package travels in one piece and replaces a former one in one step; a running command keeps the old files.
options:
  name:
    description: Name of the package; its C(__main__) has a function C(main) that takes the words of the command line.
    type: str
    required: true
  src:
    description: Folder of the package on the controller, looked for in the role's C(files).
    type: path
  sources:
    description: Set by the action plugin.
    type: str
    default: ""
  path:
    description: Folder that holds the package.
    type: path
    required: true
  command:
    description: Path of the command.
    type: path
    required: true
  state:
    description: Whether they are there.
    type: str
    choices: [present, absent]
    default: present
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
"""

EXAMPLES = r"""
- name: Place the host's side of workloads
  skerry.edge.python_program:
    name: skerry_host
    src: skerry_host
    path: /usr/local/lib/skerry
    command: /usr/local/sbin/skerry-host
"""

RETURN = r"""
files:
  description: Files that differed.
  returned: always
  type: list
"""

import base64
import compileall
import json
import os
import shutil
import sys
import zlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text

# -I and -S: neither the caller's environment nor the host's packages get in, and it starts in half the time.
LAUNCHER = """#!{python} -IS
import sys
sys.path.insert(0, {path!r})
from {name}.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def write(path, text, mode):
    """Write a file beside its place and rename it there."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    beside = f"{path}.new"
    with open(beside, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(beside, mode)
    os.replace(beside, path)


def there(folder):
    """{relative path: text} of the sources that are there."""
    found = {}
    for directory, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                found[os.path.relpath(path, folder)] = read_text(path)
    return found


def place(folder, wanted):
    """Replace a package as a whole."""
    beside, former = folder + ".new", folder + ".old"
    for path in (beside, former):
        shutil.rmtree(path, ignore_errors=True)
    for name, text in wanted.items():
        write(os.path.join(beside, name), text, 0o644)
    # Compiled under their final names, so that tracebacks show them.
    compileall.compile_dir(beside, quiet=2, ddir=folder)
    if os.path.isdir(folder):
        os.replace(folder, former)
    os.replace(beside, folder)
    shutil.rmtree(former, ignore_errors=True)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "src": {"type": "path"},
            "sources": {"type": "str", "default": ""},
            "path": {"type": "path", "required": True},
            "command": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    folder = os.path.join(given["path"], given["name"])
    wanted, launcher = {}, None
    if given["state"] == "present":
        wanted = json.loads(zlib.decompress(base64.b64decode(given["sources"])))
        launcher = LAUNCHER.format(python=sys.executable, **{key: given[key] for key in ("path", "name")})
    before, command = there(folder), read_text(given["command"])
    files = sorted(name for name in set(before) | set(wanted) if before.get(name) != wanted.get(name))
    diff = [
        {"before_header": name, "after_header": name, "before": before.get(name, ""), "after": wanted.get(name, "")}
        for name in files
    ]
    if not module.check_mode:
        try:
            if files and wanted:
                place(folder, wanted)
            elif files:
                shutil.rmtree(folder)
            if command != launcher and launcher is not None:
                write(given["command"], launcher, 0o755)
            elif command != launcher:
                os.unlink(given["command"])
        except OSError as error:
            cause = f"cannot write {error.filename or folder}: {error.strerror}"
            remedy = "check rights and free space there, then run again"
            module.fail_json(msg=f"HOST_030 {cause} | remedy: {remedy}", code="HOST_030", cause=cause, remedy=remedy)
    module.exit_json(changed=bool(files) or command != launcher, files=files, diff=diff)


if __name__ == "__main__":
    main()
