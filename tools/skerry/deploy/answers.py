"""Prints what hosts answered to a change by name."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from skerry.deploy import show
from skerry.deploy.verbs import Done
from skerry.errors import Exit, SkerryError


def tell(name: str, done: Done, as_json: bool) -> Exit:
    """Print and give the exit code.

    Raises:
        SkerryError: DEPLOY_022 when no host that answered has the workload.
    """
    console = Console()
    for host, said in done.results:
        if as_json:
            show.line({"host": host, **said})
        else:
            console.print(host, said["name"], show.word(said["action"]))
            if error := said.get("error"):
                console.print(Text(f"  {error['code']} {error['cause']}\n    remedy: {error['remedy']}", style="red"),
                              soft_wrap=True)
    for host, fault in done.faults.items():
        if as_json:
            show.line({"host": host, "fault": fault.as_dict()})
        else:
            text = f"{host} was not reached or refused: {fault.code} {fault.cause}\n  remedy: {fault.remedy}"
            console.print(Text(text, style="magenta"), soft_wrap=True)
    if not done.results and not done.faults:
        raise SkerryError("DEPLOY_022", f"no host has a workload {name}", "skerry ps shows what there is", Exit.FAILED)
    return done.exit_code
