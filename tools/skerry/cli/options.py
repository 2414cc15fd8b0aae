"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Inventory = Annotated[list[str], typer.Option("-i", "--inventory", help="Inventory file or directory.")]
On = Annotated[str | None, typer.Option(help="Ansible host pattern: only these hosts.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
#: Of commands about one workload.
Workload = Annotated[str, typer.Argument(help="Name of the workload.")]
HostTimeout = Annotated[float, typer.Option(min=1, help="Seconds until a host that does not answer counts as unknown.")]
