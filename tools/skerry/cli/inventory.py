"""``skerry inventory``: check an inventory, or draw it."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from skerry.errors import Exit

if TYPE_CHECKING:
    from skerry.inventory.check import Report
    from skerry.inventory.findings import Finding

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Check an inventory, or draw it.")

Inventory = Annotated[Path, typer.Option("--inventory", "-i", help="Inventory folder or file.")]
#: Findings of one code and key that are shown one by one; the rest is counted.
SHOWN = 5


@app.command()
def check(
    inventory: Inventory,
    everything: Annotated[bool, typer.Option("--all", help="Every single finding, also many of one kind.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> int:
    """Find what is wrong with an inventory before a host is touched: each finding with file, line, key and remedy.

    No host is contacted. Exit codes: 0 nothing wrong (warnings aside), 1 errors, 2 the inventory cannot be read.
    """
    from skerry.inventory.check import check as examine
    from skerry.inventory.findings import Severity

    report = examine(inventory)
    if as_json:
        typer.echo(json.dumps(_document(inventory, report), indent=2))
    else:
        _print(inventory, report, everything)
    bad = report.count(Severity.ERROR) + (report.count(Severity.WARNING) if strict else 0)
    return Exit.FAILED if bad else Exit.OK


def _document(path: Path, report: Report) -> dict[str, Any]:
    from skerry.inventory.findings import Severity

    return {
        "inventory": str(path),
        "hosts": len(report.context.hosts),
        "errors": report.count(Severity.ERROR),
        "warnings": report.count(Severity.WARNING),
        "seconds": round(report.seconds, 2),
        "findings": [finding.as_dict() for finding in report.findings],
    }


def _print(path: Path, report: Report, everything: bool) -> None:
    from skerry.inventory.findings import Severity

    console = Console(soft_wrap=True, highlight=False)
    kinds = groupby(sorted(report.findings, key=_kind), key=_kind)
    groups = sorted((list(found) for _, found in kinds), key=lambda found: found[0].order)
    for found in groups:
        shown = found if everything else found[:SHOWN]
        for finding in shown:
            _print_finding(console, finding)
        if len(found) > len(shown):
            rest = f"... and {len(found) - len(shown)} more of {found[0].rule.code} {found[0].key} (--all shows them)"
            console.print(f"[dim]{escape(rest)}[/]")
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    style = "red" if errors else "yellow" if warnings else "green"
    said = f"{errors} errors, {warnings} warnings" if errors or warnings else "nothing to correct"
    hosts = f"{path}: {len(report.context.hosts)} hosts"
    console.print(f"{escape(hosts)}, [{style}]{said}[/] ({report.seconds:.1f} s)")


def _kind(finding: Finding) -> tuple[str, str]:
    return finding.rule.code, finding.key.split(".", maxsplit=1)[0]


def _print_finding(console: Console, finding: Finding) -> None:
    from skerry.inventory.findings import Severity

    style = "bold red" if finding.rule.severity is Severity.ERROR else "yellow"
    where = f"{finding.file}:{finding.line}" if finding.line else finding.file
    kind = f"[{style}]{finding.rule.severity.value} {finding.rule.code}[/]"
    console.print(f"{escape(where)}: {kind} {escape(finding.cause)}")
    console.print(f"    remedy: {escape(finding.remedy)}")


class Format(StrEnum):
    """How a graph is written."""

    TREE = "tree"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


@app.command()
def graph(
    inventory: Inventory,
    form: Annotated[Format, typer.Option("--format", "-f", help="A tree for the terminal, or a text.")] = Format.TREE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write into this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> int:
    """Draw an inventory: regions, zones, and hosts with type, role, architecture and address.

    Exit codes: 0 drawn, 2 the inventory cannot be read.
    """
    from dataclasses import asdict

    from skerry.inventory import graph as drawing
    from skerry.inventory.files import unreadable

    if not inventory.exists():
        raise unreadable(inventory, "there is no such file or folder")
    nodes = drawing.read(inventory)
    title = inventory.name or str(inventory)
    form = Format.JSON if as_json else form
    if form is Format.TREE and not output:
        Console(width=None if sys.stdout.isatty() else 120).print(drawing.tree(title, nodes))
        return Exit.OK
    if form is Format.JSON:
        text = json.dumps([asdict(node) for node in nodes], indent=2) + "\n"
    else:
        draw = {Format.TREE: drawing.text, Format.MERMAID: drawing.mermaid, Format.SVG: drawing.svg}[form]
        text = draw(title, nodes)
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)
    return Exit.OK
