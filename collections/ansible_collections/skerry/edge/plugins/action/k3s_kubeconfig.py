"""Fetch the administrator's kubeconfig of a cluster to the controller (see the module's DOCUMENTATION)."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.skerry.edge.plugins.plugin_utils.private_file import write_private

HALF_A_YEAR = 180 * 86400.0
SOURCE = "/etc/rancher/k3s/k3s.yaml"


def rewrite(text: str, server: str, name: str) -> str:
    """The kubeconfig with the server's address, and with cluster, user and context called by the cluster's name."""
    text = re.sub(r"(?m)^(\s+server: )\S+$", lambda found: found.group(1) + server, text)
    text = re.sub(r"(?m)^(\s*(?:- )?(?:name|cluster|user): )default$", lambda found: found.group(1) + name, text)
    return re.sub(r"(?m)^(current-context: )default$", lambda found: found.group(1) + name, text)


def still_good(text: str, fetched: str, servers: list[str], age: float) -> bool:
    """Whether a kubeconfig of the same cluster, by way of another server that lives, may stay as it is.

    Every server signs a certificate of its own; without this the file would change with the server that is asked. After
    half a year it is fetched anew in any case: certificates live for one.
    """

    def field(name: str, where: str) -> str:
        found = re.search(rf"(?m)^\s*{name}: (\S+)$", where)
        return found.group(1) if found else ""

    same = all(
        field(name, text) == field(name, fetched) != "" for name in ("certificate-authority-data", "current-context")
    )
    return same and field("server", text) in servers and age < HALF_A_YEAR


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads on the host, writes on the controller; ``~/.kube`` is never touched."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fetch, rewrite, compare, write."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "dest": {"type": "path", "required": True},
                "server": {"type": "str", "required": True},
                "servers": {"type": "list", "elements": "str", "default": []},
                "name": {"type": "str", "default": "skerry"},
                "src": {"type": "path", "default": SOURCE},
            }
        )
        dest = Path(args["dest"]).expanduser()
        found = self._execute_module("ansible.legacy.slurp", module_args={"src": args["src"]}, task_vars=task_vars)
        if found.get("failed"):
            if self._task.check_mode:  # a fresh host has none yet
                return result | {"changed": True, "dest": str(dest)}
            msg = f"K3S_021 no kubeconfig on the server: {found.get('msg')} | remedy: look there: systemctl status k3s"
            return result | {"failed": True, "msg": msg, "code": "K3S_021"}
        text = rewrite(base64.b64decode(found["content"]).decode(), args["server"], args["name"])
        same = False
        if dest.is_file() and dest.stat().st_mode & 0o777 == 0o600:
            present, age = dest.read_text(encoding="utf-8"), time.time() - dest.stat().st_mtime
            same = present == text or still_good(present, text, args["servers"], age)
        if not same and not self._task.check_mode:
            write_private(dest, text)
        return result | {"changed": not same, "dest": str(dest), "server": args["server"]}
