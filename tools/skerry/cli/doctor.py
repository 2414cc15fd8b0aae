"""``skerry doctor``: what is wrong with an inventory's cluster and hosts, and how to see it oneself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from skerry.errors import Exit

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Exit codes: 0 nothing found; 1 causes found; 2 bad input; 4 neither the API nor a host answered (causes are"
    " named all the same); 130 interrupted."
)
def doctor(
    inventory: Annotated[list[str], typer.Option("-i", "--inventory", help="Inventory file or directory.")],
    on: Annotated[str | None, typer.Option(help="Ansible host pattern: look at these hosts only.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Instead of the one that the role k3s fetched.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Which one, where the inventory has several.")] = None,
    hosts: Annotated[bool, typer.Option("--hosts/--no-hosts", help="Look at the hosts over ssh.")] = True,
    api: Annotated[bool, typer.Option("--api/--no-api", help="Look at the cluster.")] = True,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each list of the API.")] = 10.0,
    host_timeout: Annotated[float, typer.Option(min=1, help="Seconds for each host.")] = 15.0,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds for all hosts together.")] = 45.0,
    everything: Annotated[bool, typer.Option("--all", help="Every cause in full, not the first five.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> int:
    """Find out what is wrong, most likely cause first, each with the command that confirms it.

    Nothing is changed anywhere: hosts and cluster are only looked at, all at once, each with a deadline.
    """
    from skerry.cli.status import console
    from skerry.doctor import view
    from skerry.doctor.collect import collect, diagnose
    from skerry.status.collect import Wanted
    from skerry.targets import inventory as inventories

    start = time.monotonic()
    targets = inventories.read(inventory, on)
    facts = collect(inventory, Wanted(targets, kubeconfig, cluster, timeout, host_timeout, deadline, hosts, api))
    found = diagnose(facts)
    seconds = time.monotonic() - start
    if as_json:
        typer.echo(json.dumps(view.document(facts, found, seconds)))
    else:
        console().print(view.render(facts, found, seconds, everything))
    if facts.api is None and all(look.fault is not None for look in facts.looks.values()):
        return Exit.UNREACHABLE
    return Exit.FAILED if found else Exit.OK
