"""Install Python on a host that has none, or only one too old for Ansible's modules, by plain shell commands."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

# Prints FOUND <path>, or WOULD <command>, or an error; POSIX sh, since nothing else can be taken for granted.
SCRIPT = r"""
find_python() {
  for name in python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 /usr/bin/python3 python3; do
    path=$(command -v "$name" 2>/dev/null) || continue
    "$path" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null && { echo "FOUND $path"; return 0; }
  done
  return 1
}
find_python && exit 0
[ -r /etc/os-release ] && . /etc/os-release
if command -v transactional-update >/dev/null 2>&1; then
  echo "ERROR root is read-only (transactional-update): run 'transactional-update pkg install python3' and reboot"
  exit 0
elif command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  before='apt-get -q update'; install='apt-get -q -y --no-install-recommends install python3'
elif command -v dnf >/dev/null 2>&1; then
  before=true; case "${VERSION_ID:-}" in 8*) package=python3.12;; *) package=python3;; esac
  install="dnf -q -y install $package"
elif command -v yum >/dev/null 2>&1; then
  before=true; install='yum -q -y install python3'
elif command -v zypper >/dev/null 2>&1; then
  before=true; case "${VERSION_ID:-}" in 15*) package=python311;; *) package=python3;; esac
  install="zypper --non-interactive --quiet install --no-recommends $package"
else
  echo "ERROR no apt-get, dnf, yum or zypper: install Python 3.9 or newer by hand"; exit 0
fi
if [ "$SKERRY_CHECK" = 1 ]; then echo "WOULD $install"; exit 0; fi
[ "$(id -u)" = 0 ] || { echo "ERROR no root rights to run '$install'"; exit 0; }
if ! output=$({ $before && $install; } 2>&1 </dev/null); then
  echo "ERROR '$install' failed: $(echo "$output" | tail -n 3 | tr '\n' ' ')"
  exit 0
fi
find_python && { echo "INSTALLED $install"; exit 0; }
echo "ERROR '$install' brought no Python of 3.9 or newer"
"""


class ActionModule(ActionBase):
    """Runs the script; with check mode it only tells what it would install."""

    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Give changed, would_install (a command, check mode), problem ('' when a usable Python is there now)."""
        result = super().run(tmp, task_vars)
        result.update(changed=False, would_install="", problem="")
        if self._task.check_mode:
            self._connection.set_become_plugin(None)  # looking needs no rights
        prefix = f"SKERRY_CHECK={int(bool(self._task.check_mode))}; "
        for key, value in self._compute_environment().items():
            prefix += f"export {key}={shlex.quote(str(value))}; "
        try:
            outcome = self._low_level_execute_command(prefix + SCRIPT)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            result["problem"] = f"no Python, and no rights to install it: {error}"
            return result
        self._read(outcome, result)
        return result

    def _compute_environment(self) -> dict[str, Any]:
        """The task's environment (proxies) as Ansible merges it."""
        environment: dict[str, Any] = {}
        for part in self._task.environment or []:
            environment.update(self._templar.template(part) or {})
        return environment

    def _read(self, outcome: dict[str, Any], result: dict[str, Any]) -> None:
        lines = dict(line.partition(" ")[::2] for line in outcome["stdout"].splitlines() if " " in line)
        if "WOULD" in lines:
            result.update(changed=True, would_install=lines["WOULD"])
        elif "FOUND" in lines:
            result.update(
                changed="INSTALLED" in lines, ansible_facts={"discovered_interpreter_python": lines["FOUND"].strip()}
            )
        else:
            said = lines.get("ERROR") or outcome.get("stderr") or outcome["stdout"] or f"exit code {outcome['rc']}"
            result["problem"] = f"no usable Python, and none could be installed: {' '.join(str(said).split())[-300:]}"
