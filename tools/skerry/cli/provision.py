"""``skerry provision``: the playbooks with a live view."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from skerry import paths

app = typer.Typer(add_completion=False)

Many = list[str] | None


def _options(pairs: dict[str, Many | str | bool | None]) -> list[str]:
    """Options as ansible-playbook takes them: true ones alone, lists repeated."""
    words: list[str] = []
    for name, value in pairs.items():
        if value is True:
            words.append(name)
        elif isinstance(value, str):
            words += [name, value]
        elif isinstance(value, list):
            words += [word for item in value for word in (name, item)]
    return words


@app.command()
def provision(
    inventory: Annotated[
        list[Path], typer.Option("--inventory", "-i", help="Inventory folder or file; may be repeated.")
    ],
    limit: Annotated[str | None, typer.Option("--limit", "-l", help="Only these hosts (Ansible's pattern).")] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tags", "-t", help="Only tasks with these tags, such as k3s_configure.")
    ] = None,
    skip_tags: Annotated[list[str] | None, typer.Option("--skip-tags", help="Leave tasks with these tags out.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing, say what would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show changed files in the log (never secrets).")] = False,
    extra_vars: Annotated[list[str] | None, typer.Option("--extra-vars", "-e", help="KEY=VALUE or @FILE.")] = None,
    vault_password_file: Annotated[
        str | None, typer.Option(help="File or program that gives the vault password.")
    ] = None,
    forks: Annotated[str | None, typer.Option(help="Hosts worked on at once.")] = None,
    playbook: Annotated[Path | None, typer.Option(help="Another playbook than site.yml.")] = None,
    mitogen: Annotated[
        bool, typer.Option("--mitogen", envvar="SKERRY_MITOGEN", help="Run tasks through mitogen (see docs/speed.md).")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object at the end, nothing else on standard output.")
    ] = False,
) -> int:
    """Take the hosts of an inventory to the platform (site.yml); run again, it changes nothing.

    Exit codes: 0 done, 1 a host failed, 2 bad input, 4 hosts unreachable, 130 interrupted.
    """
    from skerry.provision import recap
    from skerry.provision.runner import PlaybookRun, run_playbook
    from skerry.provision.strategy import mitogen_environment
    from skerry.provision.view import view_for

    console = Console(stderr=as_json)
    words = _options(
        {
            "--limit": limit,
            "--tags": tags,
            "--skip-tags": skip_tags,
            "--check": check,
            "--diff": diff,
            "--extra-vars": extra_vars,
            "--vault-password-file": vault_password_file,
            "--forks": forks,
        }
    )
    chosen = playbook or paths.root() / "site.yml"
    environment = mitogen_environment() if mitogen else {}
    outcome = run_playbook(PlaybookRun(chosen, inventory, words, environment), view_for(console, as_json))
    if as_json:
        typer.echo(json.dumps(recap.as_dict(outcome)))
    else:
        recap.show(outcome, console)
    return int(outcome.exit_code)
