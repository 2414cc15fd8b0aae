"""``skerry reconcile``: everything in its wanted state again."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory

app = typer.Typer(add_completion=False)
Hosts = list[str] | None


@app.command(epilog="Exit codes: 0 everything is as it was asked for; 1 something failed or has no place; 2 bad input; "
                    "3 no systemd here; 4 a host was not reached (the next one catches it up).")
def reconcile(
    inventory: Inventory,
    dead: Annotated[Hosts, typer.Option(metavar="HOST", help="Declare a host dead: what it had is placed elsewhere; "
                                                             "when it answers again it is cleaned.")] = None,
    alive: Annotated[Hosts, typer.Option(metavar="HOST", help="Take that back.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show every key that changes.")] = False,
    install_timer: Annotated[bool, typer.Option("--install-timer", help="Let systemd of this machine do it again and "
                                                                        "again.")] = False,
    every: Annotated[str, typer.Option(metavar="TIME", help="How often, in systemd's words.")] = "5min",
    remove_timer: Annotated[bool, typer.Option("--remove-timer", help="No more of that.")] = False,
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Bring every workload of an inventory to its wanted state: what was deployed from here last, without its file."""
    from skerry.deploy import show, timer
    from skerry.deploy.reconcile import declare
    from skerry.deploy.reconcile import reconcile as reconcile_of
    from skerry.errors import SkerryError
    from skerry.targets import inventory as inventories

    if install_timer and remove_timer:
        raise SkerryError("DEPLOY_103", "--install-timer and --remove-timer exclude each other", "give one of them")
    if install_timer or remove_timer:
        timer.tell(timer.install(inventory, every) if install_timer else timer.remove(inventory), as_json)
        return 0
    targets = inventories.read(inventory, None)
    declare(targets, inventory, [] if dry_run else dead or [], [] if dry_run else alive or [])
    began = time.monotonic()
    found = reconcile_of(targets, inventory, host_timeout, dry_run)
    show.submission(found, diff, as_json, time.monotonic() - began)
    return found.exit_code
