"""Preflight: judge all hosts, render the one table. Pure Python: no host, no Ansible."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from ansible_collections.skerry.edge.plugins.plugin_utils import preflight_broker, preflight_host, preflight_network
from ansible_collections.skerry.edge.plugins.plugin_utils.preflight_model import (
    CHECKS,
    ERROR,
    WARNING,
    Check,
    Finding,
    Problem,
    Report,
)

#: The modules whose checks are in CHECKS once they are imported.
SOURCES = (preflight_host, preflight_network, preflight_broker)


def evaluate(reports: list[Report], inventory: dict[str, Any]) -> list[Finding]:
    """Findings of all hosts, by host in the order given, then by code.

    ``inventory``: ``{"servers": [names of all servers, in the play or not], "addresses": {host: address}}`` of the
    whole inventory, so that checks across hosts also hold with --limit. A host's settings ``skip`` and ``warn`` hold
    codes.
    """
    by_name = {report.name: report for report in reports}
    order = {report.name: number for number, report in enumerate(reports)}
    findings = []
    for code in sorted(CHECKS):
        check = CHECKS[code]
        for problem in _problems(check, reports, inventory):
            settings = by_name[problem.host].settings
            if code in settings.get("skip", []):
                continue
            severity = WARNING if code in settings.get("warn", []) else problem.severity or check.severity
            findings.append(Finding(code, severity, problem.host, problem.cause, problem.remedy))
    return sorted(findings, key=lambda finding: (order[finding.host], finding.code))


def _problems(check: Check, reports: list[Report], inventory: dict[str, Any]) -> Iterator[Problem]:
    """Problems of one check, each with its host."""
    if check.cluster is not None:
        yield from check.cluster(reports, inventory)
    if check.host is not None:
        for report in reports:
            if report.probe:
                for problem in check.host(report):
                    yield Problem(problem.cause, problem.remedy, problem.severity, report.name)


def summary(findings: list[Finding], hosts: int) -> str:
    """``2 errors and 1 warning on 2 of 3 hosts``."""
    errors = sum(finding.severity == ERROR for finding in findings)
    counts = [(errors, "error"), (len(findings) - errors, "warning")]
    words = [f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count]
    affected = len({finding.host for finding in findings})
    return f"{' and '.join(words) or 'nothing wrong'} on {affected} of {hosts} host{'s' * (hosts > 1)}"


def table(findings: list[Finding], hosts: int, width: int) -> str:
    """All findings, errors first, readable at ``width`` characters; hosts with the same finding share its rows."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in sorted(findings, key=lambda finding: (finding.severity != ERROR, finding.code)):
        groups.setdefault((finding.severity, finding.code, finding.cause, finding.remedy), []).append(finding.host)
    name_width = max(4, min(24, max((len(finding.host) for finding in findings), default=0) + 1))
    indent = " " * (name_width + 2)
    room = max(40, width - len(indent) - 15)
    lines = [
        f"Preflight: {summary(findings, hosts)}",
        "",
        f"{'host':<{name_width}}  {'code':<13}  what is wrong, and what to do",
    ]
    lines.append(f"{'-' * name_width}  {'-' * 13}  {'-' * min(room, 60)}")
    for (severity, code, cause, remedy), names in groups.items():
        right = textwrap.wrap(f"{severity}: {cause}", room)
        right += textwrap.wrap(remedy, room, initial_indent="-> ", subsequent_indent="   ")
        left = (
            [names[0]] if len(names) == 1 else textwrap.wrap(", ".join(names[:40]), name_width, break_on_hyphens=False)
        )
        if len(names) > 40:
            left.append(f"and {len(names) - 40} more")
        for row in range(max(len(left), len(right))):
            name = left[row] if row < len(left) else ""
            text = right[row] if row < len(right) else ""
            lines.append(f"{name:<{name_width}}  {code if not row else '':<13}  {text}".rstrip())
    return "\n".join(lines)


def documentation() -> str:
    """The table of all codes in docs/preflight.md, Markdown."""
    lines = ["| code | severity | what is wrong | why, and where it may differ |", "|---|---|---|---|"]
    lines += [
        f"| {code} | {check.severity} | {check.title} | {check.explanation} |" for code, check in sorted(CHECKS.items())
    ]
    return "\n".join(lines) + "\n"
