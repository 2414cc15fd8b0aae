#!/usr/bin/python
"""Write Docker's daemon.json and proxy settings, validated (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_config
short_description: Write Docker's configuration, validated before it is put in place
description:
  - Writes C(/etc/docker/daemon.json) and a drop-in of the unit with the proxy settings.
  - Checked against the keys that dockerd knows, and by C(dockerd --validate) where the installed one has that (23 and
    later). A configuration that is refused replaces nothing.
  - The runtime that the role wasm_runtime proved to run wasm (fact file) is registered as a runtime of Docker.
  - Does not touch the daemon; M(skerry.edge.docker_service) applies what changed.
options:
  config:
    description: The content of daemon.json. Keys whose value is empty (null, C(""), C([]), C({})) are left out.
    type: dict
    required: true
  wasm_runtime:
    description: Register the proved wasm runtime.
    type: bool
    default: true
  proxies:
    description: C(HTTP_PROXY), C(HTTPS_PROXY), C(NO_PROXY) of the daemon; all empty removes the drop-in.
    type: dict
    default: {}
  state:
    description: C(absent) removes both files.
    type: str
    choices: [present, absent]
    default: present
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
"""

EXAMPLES = r"""
- name: Configure Docker
  skerry.edge.docker_config:
    config:
      log-driver: json-file
      log-opts: {max-size: 10m, max-file: "3"}
"""

RETURN = r"""
config:
  description: What daemon.json holds.
  returned: success
  type: dict
wasm_runtime:
  description: Name of the registered wasm runtime, or null.
  returned: success
  type: str
"""

import json
import os
import re
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.docker_daemon import DockerError, complaints, output
from ansible_collections.skerry.edge.plugins.module_utils.fact_file import section
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text, replace_file

DAEMON_JSON = "/etc/docker/daemon.json"
DROP_IN = "/etc/systemd/system/docker.service.d/skerry-proxy.conf"


def proved_runtime():
    """(name, command) of the runtime that was proved to run wasm on this host, or None."""
    entry = section("wasm_runtime").get("runtimes", {}).get("crun", {})
    return ("crun", entry["command"]) if entry.get("proved") else None


def full_config(params):
    """(daemon.json, name of the wasm runtime or None)."""
    config = {key: value for key, value in params["config"].items() if value not in (None, "", [], {})}
    runtime = proved_runtime() if params["wasm_runtime"] else None
    if runtime:
        runtimes = dict(config.get("runtimes") or {})
        runtimes.setdefault(runtime[0], {"path": runtime[1]})
        config["runtimes"] = runtimes
    return config, runtime[0] if runtime else None


def drop_in(proxies):
    """The unit's drop-in, or None without proxies."""
    lines = [f'Environment="{name}={value}"\n' for name, value in sorted(proxies.items()) if value]
    if not [name for name in ("HTTP_PROXY", "HTTPS_PROXY") if proxies.get(name)]:
        return None
    return "# Written by Skerry's role docker; changes are lost.\n[Service]\n" + "".join(lines).replace("%", "%%")


def validate(text):
    """Let the installed dockerd judge a daemon.json; one that has no --validate is passed over."""
    dockerd = shutil.which("dockerd", path="/usr/local/bin:/usr/bin:/usr/sbin:/sbin")
    if dockerd is None:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        status, said = output([dockerd, "--validate", "--config-file", stream.name])
        if status != 0 and "unknown flag" not in said:
            lines = [line for line in said.splitlines() if line.strip()]
            raise DockerError(
                "DOCKER_002",
                f"dockerd refuses the configuration: {lines[-1] if lines else status}; nothing was replaced",
                "correct the variables docker_* (docker_config holds what has no variable of its own)",
            )


def put(path, text):
    """Replace or remove a file in one step."""
    try:
        if text is None:
            os.unlink(path)
            return
        replace_file(path, text, 0o644)
    except OSError as error:
        cause = f"cannot write {path}: {error.strerror}"
        raise DockerError("DOCKER_005", cause, "check rights and free space (df -h), then run again") from error


def hide(text):
    """A text for the diff, without the passwords of proxies."""
    return re.sub(r"://[^@/\s\"]+@", "://********@", text or "")


def check(config):
    """Judge a configuration by the keys that dockerd knows."""
    wrong = complaints(config)
    if wrong:
        cause = "daemon.json would be wrong: " + "; ".join(wrong)
        raise DockerError("DOCKER_001", cause, "correct the variables docker_* of the role docker")


def replace(wanted, check_mode):
    """Put the files in place that differ; returns the diff."""
    diff = []
    for path, after in wanted.items():
        before = read_text(path)
        if before == after:
            continue
        if path == DAEMON_JSON and after is not None:
            validate(after)
        header = {"before_header": path, "after_header": path}
        diff.append({**header, "before": hide(before), "after": hide(after)})
        if not check_mode:
            put(path, after)
    return diff


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "dict", "required": True},
            "wasm_runtime": {"type": "bool", "default": True},
            "proxies": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    absent = module.params["state"] == "absent"
    config, runtime = full_config(module.params)
    text = None if absent else json.dumps(config, indent=2, sort_keys=True) + "\n"
    wanted = {DAEMON_JSON: text, DROP_IN: None if absent else drop_in(module.params["proxies"])}
    try:
        if not absent:
            check(config)
        diff = replace(wanted, module.check_mode)
    except DockerError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=bool(diff), config=config, wasm_runtime=runtime, diff=diff)


if __name__ == "__main__":
    main()
