"""Rules about variables: unknown ones, values against the argument specs, secrets in plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skerry import paths
from skerry.inventory import findings as f
from skerry.inventory.context import Context, line_of
from skerry.inventory.files import Vaulted, read
from skerry.inventory.findings import Finding
from skerry.inventory.model import Assignment, Place
from skerry.inventory.names import is_label_key, is_label_value, is_taint
from skerry.inventory.specs import Option
from skerry.inventory.values import check, nearest, shown, templated

#: Ansible's own variables that an inventory may set; only near misses of them are reported.
ANSIBLE = {
    "ansible_host", "ansible_port", "ansible_user", "ansible_password", "ansible_connection",
    "ansible_ssh_pass", "ansible_ssh_private_key_file", "ansible_ssh_common_args", "ansible_ssh_extra_args",
    "ansible_ssh_pipelining", "ansible_ssh_executable", "ansible_ssh_host", "ansible_ssh_port",
    "ansible_ssh_user", "ansible_sftp_extra_args", "ansible_scp_extra_args", "ansible_become",
    "ansible_become_user", "ansible_become_method", "ansible_become_pass", "ansible_become_password",
    "ansible_become_exe", "ansible_become_flags", "ansible_python_interpreter", "ansible_shell_type",
    "ansible_shell_executable", "ansible_remote_tmp", "ansible_host_key_checking",
    "ansible_ssh_host_key_checking", "ansible_ssh_retries", "ansible_ssh_timeout", "ansible_timeout",
    "ansible_pipelining", "ansible_group_priority", "ansible_facts", "ansible_local", "ansible_async_dir",
    "ansible_become_timeout",
}
_SECRET = re.compile(r"(^|_)(password|passwd|passphrase|pass|token|secret|private_key|api_key|secret_key)$")
#: Values that give themselves away: a password inside an address, a private key.
_TELLING = re.compile(r"://[^/\s:@]+:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----")
_NO_SECRET = re.compile(r"(_file|_path|_mode|_name|_user)$")


def unknown(context: Context) -> Iterator[Finding]:
    """Variables with a role's prefix that no role has, private ones, and near misses of known names."""
    known = set(context.known)
    prefixes = (*(f"{role}_" for role in context.roles), "skerry_", "sandbox_")
    candidates = known | ANSIBLE
    judged: dict[str, tuple[f.Rule, str, str] | None] = {}
    for item in context.inventory.assignments:
        if item.key not in judged:
            judged[item.key] = _judge(item.key, known, prefixes, candidates)
        if verdict := judged[item.key]:
            rule, cause, remedy = verdict
            yield context.finding(rule, item.place, item.key, f"{_owner(item)}: {cause}", remedy)


def _judge(
    key: str, known: set[str], prefixes: tuple[str, ...], candidates: set[str]
) -> tuple[f.Rule, str, str] | None:
    """What is wrong with a variable's name: the rule, the cause, a closer remedy; None for nothing."""
    if key in known or key in ANSIBLE:
        return None
    if key.startswith("__"):
        owner = key[2:].split("_", maxsplit=1)[0]
        private = any(key[2:].startswith(prefix) for prefix in prefixes)
        return (f.PRIVATE, f"{key} is private to role {owner}", "") if private else None
    close = nearest(key, candidates)
    hint = f"did you mean {close}?" if close else ""
    if key.startswith(prefixes):
        return f.UNKNOWN_VARIABLE, f"no role has a variable {key}", hint
    if close and _similar(key, close):
        return f.LIKELY_TYPO, f"{key} is no known variable", hint
    return None


def _similar(key: str, close: str) -> bool:
    """Closer than `nearest` asks: one or two letters wrong, so that a site's own variables are left alone."""
    if abs(len(key) - len(close)) > 2:
        return False
    left = sum(1 for a, b in zip(key, close, strict=False) if a == b)
    right = sum(1 for a, b in zip(reversed(key), reversed(close), strict=False) if a == b)
    return left + right >= max(len(key), len(close)) - 2


def values(context: Context) -> Iterator[Finding]:
    """Values against the argument specs: types, choices, nested keys."""
    for item in context.inventory.assignments:
        option = context.known.get(item.key)
        if option is None:
            continue
        for problem in check(option, item.value):
            inner = ".".join(str(step) for step in problem.path)
            key = f"{item.key}.{inner}" if inner else item.key
            place = Place(item.place.path, line_of(item, problem.path))
            cause = f"{_owner(item)}: {key}: {problem.cause}"
            yield context.finding(problem.rule, place, key, cause, problem.remedy)
        yield from _kubernetes(context, item)


def _kubernetes(context: Context, item: Assignment) -> Iterator[Finding]:
    """Labels, taints, region and zone, as the Kubernetes API would judge them."""
    if item.key in ("skerry_region", "skerry_zone") and isinstance(item.value, str) and not templated(item.value):
        if not is_label_value(item.value):
            yield context.finding(f.LABEL, item.place, item.key, f"{shown(item.value)} cannot be a label's value")
    elif item.key.endswith("_node_labels") and isinstance(item.value, dict):
        for key, value in item.value.items():
            place = Place(item.place.path, line_of(item, (str(key),)))
            if not is_label_key(str(key)):
                yield context.finding(f.LABEL, place, f"{item.key}.{key}", f"{key} cannot be a label's key")
            elif not templated(value) and not is_label_value(_label(value)):
                cause = f"{shown(value)} cannot be the value of label {key}"
                yield context.finding(f.LABEL, place, f"{item.key}.{key}", cause)
    elif item.key.endswith("_node_taints") and isinstance(item.value, list):
        for position, taint in enumerate(item.value):
            if not templated(taint) and not is_taint(str(taint)):
                place = Place(item.place.path, line_of(item, (position,)))
                yield context.finding(f.TAINT, place, f"{item.key}.{position}", f"{shown(taint)} is no taint")


def _label(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def secrets(context: Context) -> Iterator[Finding]:
    """Passwords, tokens and keys that are written down as they are."""
    for item in context.inventory.assignments:
        for key, value, path in _leaves(item.key, item.value, context.known.get(item.key), ()):
            if isinstance(value, str) and value and not templated(value) and not isinstance(value, Vaulted):
                place = Place(item.place.path, line_of(item, path))
                yield context.finding(f.PLAIN_SECRET, place, key, f"{_owner(item)}: {key} is readable by everyone")


def _leaves(
    key: str, value: object, option: Option | None, path: tuple[str | int, ...]
) -> Iterator[tuple[str, object, tuple[str | int, ...]]]:
    """Secret values inside a variable: by the spec's no_log where there is one, else by their names."""
    last = key.rsplit(".", 1)[-1]
    secret = option.no_log if option else bool(_SECRET.search(last)) and not _NO_SECRET.search(last)
    if isinstance(value, dict):
        for name, inner in value.items():
            nested = option.options.get(str(name)) if option else None
            yield from _leaves(f"{key}.{name}", inner, nested, (*path, str(name)))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            member = Option(key, no_log=option.no_log, options=option.options) if option else None
            yield from _leaves(f"{key}.{position}", inner, member, (*path, position))
    elif secret or (isinstance(value, str) and _TELLING.search(value)):
        yield key, value, path


def overridden(context: Context) -> Iterator[Finding]:
    """Values of the inventory's group ``all`` that the project's own group_vars/all.yml takes over."""
    project = paths.root() / "group_vars" / "all.yml"
    document = read(project) if project.exists() else None
    if document is None or document.node is None:
        return
    ours = {key: document.value(node) for key, _, node in document.pairs(document.node)}
    for item in context.by_owner.get("group:all", []):
        if item.key in ours and ours[item.key] != item.value:
            cause = f"{item.key} is {shown(ours[item.key])} for every host, whatever is written here"
            yield context.finding(f.OVERRIDDEN, item.place, item.key, cause)


def _owner(item: Assignment) -> str:
    kind, _, name = item.owner.partition(":")
    return name if kind == "host" else f"group {name}"
