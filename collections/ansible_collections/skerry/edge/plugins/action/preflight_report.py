"""Judge all hosts at once, show one table, and stop before anything changes on any host."""

from __future__ import annotations

import shutil
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight import evaluate, summary, table
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_model import ERROR, Finding, Report

UNREACHABLE = "PREFLIGHT_001"


class ActionModule(ActionBase):
    """Runs once, on the controller, over what preflight_probe registered for every host of the play."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Give findings (lines), install_python (hosts), left_out ({host: message}), unseen (hosts); fail in mode
        stop."""
        variables = task_vars or {}
        result = super().run(tmp, variables)
        options = self._task.args
        names = list(variables["ansible_play_hosts_all"])
        final = bool(options.get("final"))
        reports = [report for name in names if (report := _report(name, variables["hostvars"][name], final))]
        findings = evaluate(reports, _inventory(names, variables))
        install = [report.name for report in reports if report.install_later]
        if install and not _fatal(findings, options):
            # Nothing speaks against it so far: install Python where it is missing, look there, judge again.
            return {**result, "changed": False, "install_python": install, "left_out": {}, "unseen": []}
        left_out = _left_out(findings)
        unseen = [report.name for report in reports if report.would_install]
        result.update(changed=False, install_python=[], left_out=left_out, unseen=unseen)
        result["findings"] = [f"{finding.host}: {finding.message()}" for finding in findings]
        if findings:
            width = min(max(shutil.get_terminal_size((120, 24)).columns, 80), 160)
            Display().display("\n" + table(findings, len(reports), width) + "\n")
        if reason := _fatal(findings, options) or _no_server_left(reports, left_out, variables):
            errors = [finding for finding in findings if finding.severity == ERROR]
            hosts = ", ".join(dict.fromkeys(finding.host for finding in errors))
            result["findings"] = [f"{finding.host}: {finding.message()}" for finding in errors]
            result.update(
                failed=True,
                left_out={},
                msg=f"PREFLIGHT_000 {reason}: {summary(findings, len(reports))} ({hosts}); nothing was "
                "changed on any host"
                " | remedy: put right what the table above names, or see docs/preflight.md for single checks "
                "to switch off",
            )
        return result


def _report(name: str, variables: Any, final: bool) -> Report | None:
    """What is known of one host; None where it was not looked at (it had failed before)."""
    found = variables.get("__preflight_probe")
    if not found or "settings" not in found:
        return None
    again = variables.get("__preflight_probe_again") or {}
    python = variables.get("__preflight_python") or {}
    if "settings" in again:
        found = again
    return Report(
        name=name,
        role=found["settings"]["role"],
        settings=found["settings"],
        probe=found["probe"],
        skew=float(found["skew"]),
        unreachable=found["unreachable_reason"],
        python_missing=python.get("problem") or found["python_missing"],
        would_install=python.get("would_install", ""),
        install_later=bool(found["python_missing"]) and found["settings"]["bootstrap_python"] and not final,
        no_root=found["no_root"],
        failure=found["failure"],
    )


def _inventory(names: list[str], variables: dict[str, Any]) -> dict[str, Any]:
    """What checks across hosts need of the whole inventory: servers, and where each host is reached."""
    hostvars, groups = variables["hostvars"], variables["groups"]
    addresses = {}
    for name in dict.fromkeys([*groups.get("all", []), *names]):
        host = hostvars[name]
        # Local connections and sandboxed ones without a network have no address to compare.
        if host.get("ansible_connection", "ssh") in ("ssh", "paramiko_ssh", "paramiko"):
            addresses[name] = f"{host.get('ansible_host') or name}:{host.get('ansible_port') or 22}"
    return {"servers": list(groups.get("skerry_servers", [])), "addresses": addresses}


def _fatal(findings: list[Finding], options: dict[str, Any]) -> str:
    """Why the run has to end for all hosts; '' when it may go on."""
    errors = [finding for finding in findings if finding.severity == ERROR]
    if options["failed_hosts"] == "stop" and any(finding.code != UNREACHABLE for finding in errors):
        return "preflight failed"
    if options["unreachable_hosts"] == "stop" and any(finding.code == UNREACHABLE for finding in errors):
        return "hosts cannot be reached"
    return ""


def _left_out(findings: list[Finding]) -> dict[str, dict[str, Any]]:
    """{host: {"unreachable": bool, "message": all its errors}} of the hosts that may not go on."""
    left_out: dict[str, dict[str, Any]] = {}
    for finding in findings:
        if finding.severity == ERROR:
            entry = left_out.setdefault(finding.host, {"unreachable": False, "message": ""})
            entry["unreachable"] = entry["unreachable"] or finding.code == UNREACHABLE
            entry["message"] = f"{entry['message']}\n{finding.message()}".strip()
    return left_out


def _no_server_left(reports: list[Report], left_out: dict[str, Any], variables: dict[str, Any]) -> str:
    """A reason to stop when agents would go on without any server that they could join."""
    servers = [report.name for report in reports if report.role == "server"]
    agents = [report.name for report in reports if report.role == "agent" and report.name not in left_out]
    limited = set(variables["groups"].get("skerry_servers", [])) - set(servers)
    return "no server is left" if servers and agents and not limited and set(servers) <= set(left_out) else ""
