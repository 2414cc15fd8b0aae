"""What Ansible refuses as a whole, before or beside its work on hosts: told in its log, and named here by code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from skerry.provision.diagnosis import Diagnosis

_ERROR = re.compile(r"^\[ERROR\]: ?|^ERROR! ?")
_UNMATCHED = re.compile(r"Could not match supplied host pattern, ignoring: (\S+)")
_NO_HOSTS = re.compile(r"leaves us with no hosts to target|provided hosts list is empty, only localhost")
_INVENTORY = re.compile(r"No inventory was parsed|Completely failed to parse inventory")
#: The YAML reader's words; the other plugins that were tried say nothing of use.
_UNPARSED = re.compile(r"Failed to parse inventory with '(?:yaml|auto)' plugin: (.*)")
_PLACE = re.compile(r"Origin: (\S+:\d+:\d+)")
_VAULT = re.compile(r"no vault secrets found|Decryption failed|vault password", re.IGNORECASE)
_SYNTAX = re.compile(
    r"is not a valid attribute|YAML parsing failed|couldn't resolve module|conflicting action statements"
    r"|Syntax Error|no (module|action) (/|could be )|was not found|must be (a|an|of) |is not a valid", re.IGNORECASE
)  # fmt: skip


def words_of(patterns: Sequence[str]) -> list[str]:
    """Names of hosts and groups in Ansible's host patterns (``edge:!edge-2,&eu`` gives edge, edge-2, eu)."""
    parts = (part for pattern in patterns for part in re.split(r"[,:\s]", pattern))
    return [name for part in parts if (name := part.lstrip("!&"))]


def errors(log: str) -> list[str]:
    """Each error that the log tells, with the lines that belong to it, once."""
    found: list[str] = []
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if not _ERROR.match(line):
            continue
        rest = []
        for more in lines[number + 1 : number + 12]:
            if not more.strip() or _ERROR.match(more) or re.match(r"(PLAY|TASK|\[WARNING\]|fatal:)", more):
                break
            rest.append(more.strip())
        found.append(" ".join([_ERROR.sub("", line).strip(), *rest]))
    return list(dict.fromkeys(found))


def unknown_hosts(log: str, limit: Sequence[str], known: Sequence[str]) -> list[Diagnosis]:
    """Names in ``--limit`` that the inventory has not; ``known`` are those that it has."""
    asked = set(words_of(limit))
    found = []
    for name in dict.fromkeys(_UNMATCHED.findall(" ".join(log.split()))):
        if name not in asked:
            continue  # a group in a play's own pattern, empty in this inventory
        near = difflib.get_close_matches(name, known, n=3)
        meant = f"did you mean {', '.join(near)}? " if near else ""
        found.append(
            Diagnosis(
                "PROVISION_003",
                f"--limit names {name}, and the inventory has no such host or group",
                f"{meant}`skerry inventory graph` shows all names",
            )
        )
    return found


def refusals(log: str) -> list[Diagnosis]:
    """Why Ansible did not begin or could not go on at all."""
    found = []
    for error in errors(log):
        if _NO_HOSTS.search(error):
            found.append(
                Diagnosis(
                    "PROVISION_004", "no host is meant", "check --limit and the inventory: `skerry inventory graph`"
                )
            )
        elif _INVENTORY.search(error):
            found.append(
                Diagnosis(
                    "PROVISION_005",
                    f"the inventory cannot be read: {_unparsed(log) or error}",
                    "correct what it names; `skerry inventory check` reads it again",
                )
            )
        elif _VAULT.search(error):
            found.append(
                Diagnosis(
                    "PROVISION_006",
                    f"a vaulted value cannot be opened: {error}",
                    "give --vault-password-file, or set ANSIBLE_VAULT_PASSWORD_FILE",
                )
            )
        elif _SYNTAX.search(error):
            found.append(
                Diagnosis(
                    "PROVISION_007",
                    f"the playbook or a variable file cannot be read: {error}",
                    "correct the line that it names; `ansible-playbook --syntax-check` reads it again",
                )
            )
        else:
            found.append(Diagnosis("PROVISION_008", f"Ansible gave up: {error}", "see the log for the lines before it"))
    return found


def _unparsed(log: str) -> str:
    """Why the inventory was not read, with file, line and column where they are known."""
    said, place = _UNPARSED.search(log), _PLACE.search(log)
    return f"{said[1].strip()}{f' ({place[1]})' if place else ''}" if said else ""
