"""``skerry deploy``: workloads of a file onto the hosts of an inventory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.options import AsJson, HostTimeout, Inventory, On
from skerry.errors import Exit

app = typer.Typer(add_completion=False)


@app.command(epilog="Exit codes: 0 everything is as the file says; 1 something failed or had no place; 2 bad input; "
                    "4 a host was not reached (it keeps what it has, and the next deploy catches it up).")
def deploy(
    file: Annotated[Path, typer.Argument(help="Workload file (docs/workload-file.md).")],
    inventory: Inventory,
    on: On = None,
    variable: Annotated[list[str] | None, typer.Option("-V", "--variable", metavar="NAME=VALUE",
                                                       help="Fills ${NAME} in the file.")] = None,
    environment: Annotated[list[str] | None, typer.Option("-E", "--environment", metavar="NAME",
                                                          help="Fills ${NAME} from the environment.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, on which rung and why.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show every key that changes.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what the file no longer names.")] = False,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS",
                                        help="Try again until then what is not reached or not healthy, and stay "
                                             "until jobs have run.")] = 0,
    owner: Annotated[str, typer.Option(help="Whose workloads these are; by default the file's name.")] = "",
    host_timeout: HostTimeout = 20,
    as_json: AsJson = False,
) -> int:
    """Bring the workloads of a file to the hosts that they are for. The second time nothing changes."""
    from concurrent.futures import ThreadPoolExecutor

    from skerry.targets import inventory as inventories

    with ThreadPoolExecutor(1) as pool:  # Ansible reads the inventory while this process imports what it needs
        reading = pool.submit(inventories.read, inventory, on)
        from skerry.deploy import show, verbs
        from skerry.deploy.load import read, variables_of
        from skerry.deploy.rollout import Rollout

        submitted = read(file, variables_of(variable or [], environment or []), owner=owner)
        targets = reading.result()
    began = time.monotonic()
    while True:
        rollout = Rollout(targets, submitted, inventory, prune, host_timeout, whole=on is None)
        found = rollout.plan() if dry_run else rollout.run()
        if not found.exit_code or time.monotonic() - began + 2 > wait:
            break
        time.sleep(2)
    show.submission(found, diff, as_json, time.monotonic() - began)
    if not wait or dry_run or found.failed:
        return found.exit_code
    settled = verbs.settled(targets, inventory, [one.name for one in submitted], began + wait, host_timeout)
    fine = all(verbs.well(row) for row in settled.rows)
    if not fine or any(one.workload.kind == "job" for one in submitted):
        show.waited(settled, as_json)
    return found.exit_code if fine else Exit.FAILED
