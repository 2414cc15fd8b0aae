#!/usr/bin/env python3
"""Write roles/<role>/README.md from the role's argument specs, defaults, tags and meta/main.yml.

    tools/role_readme.py [ROLE...]          write the READMEs (of all roles)
    tools/role_readme.py --check [ROLE...]  change nothing; exit 1 when one is missing or out of date
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from skerry.inventory.specs import EntryPoint, Option, RoleSpec, load_role, role_folders

TAG = re.compile(r"^\s*tags:\s*(.+)$|^\s*-\s+([a-z0-9_]+_(?:install|configure|run))\s*$", re.MULTILINE)
TAG_MEANING = {
    "install": "binaries and packages",
    "configure": "files and settings",
    "run": "services: started, restarted, waited for",
}


def inline(value: Any) -> str:
    """A default as one line of code; a long one is shortened to its kind."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        text = " ".join(value.split())
        text = f'"{text}"' if text == "" or text != value.strip() else text
    else:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
        text = text.strip().removesuffix("...").strip()
    if len(text) > 90:
        return "see defaults/main.yml"
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def cell(text: str) -> str:
    """Text that fits a Markdown table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def markup(text: str) -> str:
    """Ansible's documentation markup (C(), V(), O(), I(), B(), L()) as Markdown; angle brackets are text."""
    text = re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "&lt;", text)
    text = re.sub(r"\b[CVO]\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"\bI\(([^)]*)\)", r"*\1*", text)
    text = re.sub(r"\bB\(([^)]*)\)", r"**\1**", text)
    return re.sub(r"\bL\(([^,)]*),\s*([^)]*)\)", r"[\1](\2)", text)


def kind(option: Option) -> str:
    """Type as people read it: ``list of dict``, ``str, required``."""
    text = f"list of {option.elements}" if option.type == "list" and option.elements else option.type
    return f"{text}, required" if option.required else text


def about(option: Option) -> str:
    """Description and choices in one cell."""
    words = [markup(part) for part in option.description]
    if option.choices:
        words.append("One of " + ", ".join(inline(choice) or "`null`" for choice in option.choices) + ".")
    if option.no_log:
        words.append("Secret: never shown in logs or differences.")
    return cell(" ".join(words))


def table(options: dict[str, Option], defaults: dict[str, Any]) -> list[str]:
    """One Markdown table of variables, or of the keys of a nested option."""
    lines = ["| variable | type | default | what it does |", "|---|---|---|---|"]
    for name, option in options.items():
        value = defaults.get(name, option.default)
        lines.append(f"| `{name}` | {kind(option)} | {cell(inline(value))} | {about(option)} |")
    return lines


def nested(options: dict[str, Option], prefix: str = "") -> list[str]:
    """Tables of every option that has keys of its own, depth first."""
    lines: list[str] = []
    for name, option in options.items():
        if not option.options:
            continue
        title = f"{prefix}{name}" + ("[]" if option.type == "list" else "")
        lines += ["", f"### `{title}`", "", *table(option.options, {}), *nested(option.options, f"{title}.")]
    return lines


def tags_of(role: Path) -> list[str]:
    """Tags of the role's tasks that carry the role's name, in the order install, configure, run."""
    found: set[str] = set()
    for path in (role / "tasks").rglob("*.yml"):
        for line, item in TAG.findall(path.read_text(encoding="utf-8")):
            found.update(re.findall(rf"\b{role.name}_(?:install|configure|run)\b", line or item))
    return [f"{role.name}_{verb}" for verb in TAG_MEANING if f"{role.name}_{verb}" in found]


def entry_section(entry: EntryPoint, spec: RoleSpec) -> list[str]:
    """Variables of one entry point; another one than ``main`` says how it is called."""
    lines: list[str] = []
    if entry.name == "main":
        lines += ["## Variables", ""]
    else:
        lines += [f"## Entry point `{entry.name}`", "", markup(entry.short_description), ""]
        for paragraph in entry.description:
            lines += [markup(paragraph), ""]
        lines += [f"Included with `tasks_from: {entry.name}`.", ""]
    if entry.options:
        lines += [*table(entry.options, spec.defaults), *nested(entry.options), ""]
    else:
        lines += ["None of its own.", ""]
    return lines


def platforms(meta: dict[str, Any]) -> list[str]:
    """The platforms that meta/main.yml names."""
    listed = (meta.get("galaxy_info") or {}).get("platforms") or []
    if not listed:
        return []
    names = [f"{item['name']} ({', '.join(str(v) for v in item.get('versions', ['all']))})" for item in listed]
    seen = "What was seen to run where is in [docs/support.md](../../docs/support.md)."
    return [f"Written for: {'; '.join(names)}. {seen}", ""]


def render(spec: RoleSpec) -> str:
    """The README of a role."""
    main = spec.entry_points.get("main") or EntryPoint("main", "", (), {})
    origin = "<!-- Generated by tools/role_readme.py from meta/argument_specs.yml: edit that file. -->"
    lines = [f"# {spec.name}", "", origin, ""]
    lines += [markup(main.short_description), ""]
    for paragraph in main.description:
        lines += [markup(paragraph), ""]
    lines += platforms(spec.meta)
    needs = [item if isinstance(item, str) else item.get("role", "") for item in spec.meta.get("dependencies") or []]
    if needs:
        lines += ["Depends on: " + ", ".join(f"`{need}`" for need in needs) + ".", ""]
    lines += ["## Use", "", "```yaml", "- name: Apply the role alone", "  hosts: all", "  become: true",
              "  gather_facts: false", "  roles:", f"    - role: {spec.name}", "```", ""]
    tags = tags_of(spec.path)
    if tags:
        lines += ["| tag | what it covers |", "|---|---|"]
        lines += [f"| `{tag}` | {TAG_MEANING[tag.rsplit('_', 1)[1]]} |" for tag in tags] + [""]
    for entry in sorted(spec.entry_points.values(), key=lambda e: (e.name != "main", e.name)):
        lines += entry_section(entry, spec)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write or check; the exit status says whether something was out of date (``--check`` only)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when a README is out of date")
    parser.add_argument("roles", nargs="*", help="names of roles (default: all)")
    arguments = parser.parse_args()
    stale = 0
    for folder in role_folders():
        if arguments.roles and folder.name not in arguments.roles:
            continue
        readme = folder / "README.md"
        wanted = render(load_role(folder))
        if readme.exists() and readme.read_text(encoding="utf-8") == wanted:
            continue
        if arguments.check:
            stale += 1
            print(f"{readme.relative_to(folder.parent.parent)} is out of date: run tools/role_readme.py {folder.name}")
        else:
            readme.write_text(wanted, encoding="utf-8")
            print(f"wrote roles/{folder.name}/README.md")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
